//! The peer that two-tier is measured against: the same two calls with the same answers, as people
//! write them with axum and the asynchronous API of the MongoDB driver. Settings: MONGODB_URI,
//! PORT, PAGE (see `page`).

mod extended_json;
mod page;

use std::env;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use bson::{Bson, Document};
use chrono::{SecondsFormat, Utc};
use mongodb::error::{ErrorKind, WriteFailure};
use mongodb::options::{Acknowledgment, ClientOptions, WriteConcern};
use mongodb::{Client, Collection};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use page::PageStyle;

/// As two-tier's MAX_BODY.
const MAX_BODY: usize = 1024 * 1024;
/// Calls to the database at once; the driver's own default is 10. Measured: between 10 and 100 it
/// made no difference that was larger than that between two runs.
const POOL_SIZE: u32 = 32;
const DUPLICATE_KEY: i32 = 11000;

struct App {
    collection: Collection<Document>,
    page_style: PageStyle,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let uri = env::var("MONGODB_URI").map_err(|_| "MONGODB_URI is not set")?;
    let port: u16 = env::var("PORT").map_or(Ok(0), |port| port.parse())?;
    let app =
        App { collection: collection(&uri).await?, page_style: PageStyle::from_environment()? };
    let routes = Router::new()
        .route("/", get(welcome))
        .route("/data", get(list).post(store))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(app));
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listens on http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        // It only makes an answer late, never wrong.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, routes).await?)
}

async fn collection(uri: &str) -> Result<Collection<Document>, Box<dyn std::error::Error>> {
    let mut options = ClientOptions::parse(uri).await?;
    options.max_pool_size.get_or_insert(POOL_SIZE);
    // The promise that two-tier makes: what was answered 201 survives the end of any one server.
    options.write_concern.get_or_insert_with(|| {
        WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build()
    });
    let database =
        Client::with_options(options)?.default_database().ok_or("the URI names no database")?;
    Ok(database.collection("data"))
}

async fn welcome() -> String {
    let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    format!("Welcome to the two-tier app! The current time is: {time}\n")
}

async fn list(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let page = page::read(&app.collection, app.page_style).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], page).into_response())
}

async fn store(
    State(app): State<Arc<App>>,
    Json(object): Json<Map<String, Value>>,
) -> Result<Response, Problem> {
    let document = Document::try_from(object)
        .map_err(|error| Problem(StatusCode::BAD_REQUEST, error.to_string()))?;
    let id = app.collection.insert_one(document).await?.inserted_id;
    let location = match &id {
        Bson::ObjectId(id) => format!("/data/{id}"),
        Bson::String(id) => format!("/data/{id}"),
        id => format!("/data/{}", id.clone().into_relaxed_extjson()),
    };
    let body = format!("{{\"inserted\":1,\"ids\":[{}]}}\n", id.into_relaxed_extjson());
    let headers =
        [(header::CONTENT_TYPE, "application/json".to_owned()), (header::LOCATION, location)];
    Ok((StatusCode::CREATED, headers, body).into_response())
}

/// An error as `application/problem+json` (RFC 9457).
struct Problem(StatusCode, String);

impl From<mongodb::error::Error> for Problem {
    fn from(error: mongodb::error::Error) -> Self {
        let status = match &*error.kind {
            ErrorKind::Write(WriteFailure::WriteError(error)) if error.code == DUPLICATE_KEY => {
                StatusCode::CONFLICT
            }
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.to_string())
    }
}

impl From<bson::error::Error> for Problem {
    fn from(error: bson::error::Error) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl From<serde_json::Error> for Problem {
    fn from(error: serde_json::Error) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({ "status": self.0.as_u16(), "title": self.0.canonical_reason(), "detail": self.1 });
        (self.0, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string())
            .into_response()
    }
}
