"""Whether candidates answer the same. A comparison of two that do not would say nothing, so it ends the run."""

import json
import os
import re
import sys
import urllib.request

# Each type that the axum peer writes by hand, and some that its library writes; those that FerretDB holds.
# Of a time with fewer than three digits behind the point the library writes fewer, two-tier three.
VARIED = """\
{"_id":1,"text":"plain","escaped":"a \\"quote\\", a \\\\, a\\ttab and \\u0001","unicode":"Žofka 👋"}
{"_id":2,"int":-7,"long":5000000000,"double":0.1,"whole":2.0,"large":1e300}
{"_id":3,"yes":true,"no":false,"null":null,"empty":{},"none":[],"deep":{"a":[1,{"b":[2,"c"]}]}}
{"_id":4,"date":{"$date":"2026-11-23T12:00:00.125Z"},"before":{"$date":{"$numberLong":"-1"}}}
{"_id":5,"binary":{"$binary":{"base64":"AAEC","subType":"00"}},"time":{"$timestamp":{"t":1,"i":2}}}
{"_id":6,"regex":{"$regularExpression":{"pattern":"^a","options":"i"}},"id":{"$oid":"6b046f79fb3b9763a39eb8fa"}}
"""


def check_same_welcome(own, other):
    def without_time(server):
        return re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", b"TIME", server.get("/"))

    _same("GET /", without_time(own), {"axum": without_time(other)})


def check_same_answers(database, own, others, flask):
    """`others` answer as two-tier does, byte for byte; Flask stores and returns the same documents."""
    created = {}
    for server in (own, *others.values()):
        database.empty()
        for document in ('{"_id":"one","n":1}', '{"n":1}'):
            created.setdefault(document, []).append(_create(server, document))
    for document, answers in created.items():
        _same(f"POST /data of {document}", answers[0], dict(zip(others, answers[1:])))
    database.empty()
    _same("GET /data of no documents", own.get(), {name: server.get() for name, server in others.items()})
    # More than a page, so that it matters that all end it at the same document.
    own.post(VARIED + "".join(f'{{"_id":"number {number:03}","n":{number}}}\n' for number in range(150)))
    page = own.get()
    if len(json.loads(page)) != 100:
        sys.exit("two-tier's page has not 100 documents")
    _same("GET /data", page, {name: server.get() for name, server in others.items()})
    database.empty()
    own.post('{"_id":1,"name":"Ada","list":[1,2.5,null,true,{"a":"b"}]}\n')
    _same("GET /data, as JSON", json.loads(own.get()), {"Flask": json.loads(flask.get())})


def _create(server, document):
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(server.url + "/data", document.encode(), headers)) as answer:
        seen = f"{answer.status} {answer.headers['Content-Type']} {answer.headers['Location']} {answer.read()}"
    return re.sub(r"[0-9a-f]{24}", "OBJECT-ID", seen)


def _same(what, expected, others):
    for name, answer in others.items():
        if answer != expected:
            expected, answer = str(expected), str(answer)
            start = max(0, len(os.path.commonprefix([expected, answer])) - 100)
            seen = f"...{expected[start : start + 300]}\n...{answer[start : start + 300]}"
            sys.exit(f"{what}: {name} does not answer as two-tier does:\n{seen}")
