"""The application that two-tier takes the place of: the same two routes with Flask and PyMongo, behind gunicorn."""

import datetime
import os

import flask
from bson import json_util
from pymongo import MongoClient

app = flask.Flask(__name__)
collection = MongoClient(os.environ["MONGODB_URI"]).get_default_database()["data"]


@app.get("/")
def index():
    return f"Welcome to the Flask app! The current time is: {datetime.datetime.now()}"


@app.get("/data")
def read():
    documents = list(collection.find().sort("_id", 1).limit(100))
    return flask.Response(json_util.dumps(documents), mimetype="application/json")


@app.post("/data")
def store():
    result = collection.insert_one(flask.request.get_json())
    return {"inserted": str(result.inserted_id)}, 201
