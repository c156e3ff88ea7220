#!/usr/bin/env python3
"""Measures two-tier against what it is compared with, side by side in one run; writes bench/results.json, and from it
bench/results.md and bench/charts/.

    bench/run.py                  everything, about 25 minutes
    bench/run.py --only NAME      one part, into the results that are there; see --help for the names
    bench/run.py --render         only draws again
    bench/run.py MONGODB_URI      on this database, whose collection `data` is dropped, not on a FerretDB of its own

Needs wrk and ab (Debian: wrk, apache2-utils). Each figure is the median of ROUNDS rounds of SECONDS_EACH seconds;
within a round the candidates take turns, in the next one the other way round. BINARY measures another two-tier than the
one that is built as the image builds it.
"""

import argparse
import json
import os
import pathlib
import sys
import time

from measure import report
from measure.check import check_same_answers, check_same_welcome
from measure.comparison import compare
from measure.footprint import measure_footprint, measure_start
from measure.load import BODY, ab, wrk
from measure.machine import machine, versions
from measure.servers import BARE_LOOP, Axum, Database, Flask, Server, TwoTier
from measure.servers import build, documents, end_with_sigterm, settle

BENCH = pathlib.Path(__file__).resolve().parent
SECONDS = int(os.environ.get("SECONDS_EACH", "4"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
CLIENTS = (1, 8, 64, 200, 1000)


def root(database):
    """`GET /`, keep-alive (wrk)"""
    uri = database.uri
    with TwoTier(MONGODB_URI=uri) as own, Server([BARE_LOOP]) as bare:
        with Flask(uri) as flask, Axum(uri, "cursor") as axum:
            check_same_welcome(own, axum)
            servers = {"two-tier": own, "bare loop": bare, "Flask": flask, "axum": axum}
            return compare(servers, lambda one, clients: wrk(one.url + "/", clients, SECONDS), CLIENTS, ROUNDS)


def root_connections(database):
    """`GET /`, a connection a request (ab)"""
    uri = database.uri
    with TwoTier(MONGODB_URI=uri) as own, Server([BARE_LOOP]) as bare, Axum(uri, "cursor") as axum:
        servers = {"two-tier": own, "bare loop": bare, "axum": axum}
        return compare(servers, lambda one, clients: ab(one.url + "/", clients, SECONDS), CLIENTS, ROUNDS)


def get_embedded(_):
    """`GET /data`, 100 of 1,000 documents, embedded store"""
    with TwoTier() as own, TwoTier(GROUPING="off") as ungrouped:
        servers = {"two-tier": own, "grouping off": ungrouped}
        for server in servers.values():
            server.post(documents(1000))
        return compare(servers, lambda one, clients: wrk(one.url + "/data", clients, SECONDS), CLIENTS, ROUNDS)


def post_embedded(_):
    """`POST /data`, one document, embedded store"""
    with TwoTier() as own, TwoTier(GROUPING="off") as ungrouped:
        servers = {"two-tier": own, "grouping off": ungrouped}
        return compare(servers, lambda one, clients: wrk(one.url + "/data", clients, SECONDS, BODY), CLIENTS, ROUNDS)


def get_mongodb(database):
    """`GET /data`, 100 of 1,000 documents, MongoDB"""
    uri = database.uri
    with TwoTier(MONGODB_URI=uri) as own, Flask(uri) as flask, Axum(uri, "cursor") as cursor:
        with Axum(uri, "single-batch") as single:
            check_same_answers(database, own, {"axum cursor": cursor, "axum single batch": single}, flask)
            database.empty()
            own.post(documents(1000))

            def measure(one, clients):
                settle(own)
                return wrk(one.url + "/data", clients, SECONDS)

            servers = {"two-tier": own, "Flask": flask, "axum cursor": cursor, "axum single batch": single}
            return compare(servers, measure, CLIENTS, ROUNDS)


def post_mongodb(database):
    """`POST /data`, one document, MongoDB"""
    uri = database.uri
    with TwoTier(MONGODB_URI=uri) as own, Flask(uri) as flask, Axum(uri, "cursor") as axum:
        check_same_answers(database, own, {"axum": axum}, flask)

        def measure(one, clients):
            # Each begins with the same database, and with one that has nothing left to do.
            database.empty()
            settle(own)
            return wrk(one.url + "/data", clients, SECONDS, BODY)

        return compare({"two-tier": own, "Flask": flask, "axum": axum}, measure, CLIENTS, ROUNDS)


TABLES = {
    "root": root,
    "root-connections": root_connections,
    "get-embedded": get_embedded,
    "post-embedded": post_embedded,
    "get-mongodb": get_mongodb,
    "post-mongodb": post_mongodb,
}
FIGURES = {
    "footprint": lambda database: measure_footprint(database, min(SECONDS, 3)),
    "start": measure_start,
}
PARTS = [*TABLES, *FIGURES]


def run_part(name, database):
    print(f"\n{name}", file=sys.stderr)
    began = time.time()
    if name in TABLES:
        part = {"title": TABLES[name].__doc__, "measurements": TABLES[name](database)}
    else:
        part = {"rows": FIGURES[name](database)}
    part |= {"rounds": ROUNDS, "seconds": SECONDS, "took": time.time() - began, "date": time.strftime("%Y-%m-%d")}
    return part | {"versions": versions(database), "machine": machine()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("uri", nargs="?", metavar="MONGODB_URI")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--render", action="store_true")
    arguments = parser.parse_args()
    end_with_sigterm()
    file = BENCH / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    if not arguments.render:
        build("bare-loop", "axum")
        with Database(arguments.uri) as database:
            for name in arguments.only or PARTS:
                results[name] = run_part(name, database)
                # After each part, so that a run that is broken off keeps what it has.
                file.write_text(json.dumps(results, indent=1) + "\n")
    missing = [name for name in PARTS if name not in results]
    if missing:
        # What is in git has them: half a table must not take its place.
        print(f"results.md and charts/ stay as they are: {file.name} lacks {', '.join(missing)}", file=sys.stderr)
    else:
        report.write(results, PARTS, BENCH)


if __name__ == "__main__":
    main()
