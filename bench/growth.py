#!/usr/bin/env python3
"""How cost grows: with the documents in the collection, with the size of a document, with the number of clients.

    bench/growth.py                             all three, embedded store; about 10 minutes
    bench/growth.py --only documents --most 100000
    bench/growth.py --store mongodb             on a FerretDB of its own, or --uri MONGODB_URI (its data is dropped)

Writes bench/growth/STORE-PART.svg and .md. Exit code 1 if a client was refused or lost. Over MAX_CONNECTIONS (512)
clients wait in the kernel's backlog; 2,000 of them take as many descriptors (ulimit -Hn). BINARY: another two-tier than
the one that is built as the image builds it.
"""

import argparse
import contextlib
import pathlib
import statistics
import sys
import time

from measure import charts, process, servers
from measure.client import Client, crowd
from measure.machine import machine, own_version

DOCUMENTS = [10**3, 3 * 10**3, 10**4, 3 * 10**4, 10**5, 3 * 10**5, 10**6]
LINE = '{"_id":%d,"name":"Ada","text":"' + 60 * "x" + '"}\n'
SIZES = [100, 1000, 10_000, 100_000, 1_000_000, 10_000_000]
CLIENTS = [1, 8, 64, 200, 500, 1000, 2000]
# Each figure is of so many requests, or of so many as fit into the seconds.
REQUESTS, SECONDS = 300, 10
REQUESTS_OF_A_CLIENT = 20


def documents(start, most):
    """Page, lookup and insert latency by documents in the collection. Times are those of one client."""
    rows = []
    with start() as server, Client(server.address) as client:
        stored = 0
        for count in [count for count in DOCUMENTS if count <= most]:
            began = time.monotonic()
            for first in range(stored, count, 50_000):
                last = min(first + 50_000, count)
                server.post("".join(LINE % number for number in range(first, last)))
            imported = (count - stored) / (time.monotonic() - began)
            stored = count
            row = {"documents": count}
            calls = [
                ("first page", "GET", "/data", b""),
                ("page in the middle", "GET", f"/data?after={count // 2}", b""),
                ("one document", "GET", f"/data/{count // 2}", b""),
                ("insert", "POST", "/data", b'{"name":"Ada"}'),
            ]
            for name, method, path, body in calls:
                row |= latencies(name, [client.ask(method, path, body) for _ in repeat()])
            row |= {"import, documents/s": imported, "resident, MB": process.resident_mb(server.pid)}
            rows.append(show(row))
    panels = [
        panel("p50, ms (bar to p99)", rows, "documents", [name for name, *_ in calls]),
        single("resident memory, MB", rows, "documents", "resident, MB"),
    ]
    return rows, panels, True


def sizes(start, _):
    """Insert and read latency by the size of a document. A new server for each; times are those of one client."""
    rows = []
    for size in SIZES:
        with start(MAX_BODY="16MiB") as server, Client(server.address) as client:
            body = b'{"text":"%s"}' % (b"x" * (size - 11))
            process.reset_peak(server.pid)
            answers = [client.ask("POST", "/data", body) for _ in repeat(30)]
            location = next(line[10:] for line in answers[0][1].split("\r\n") if line.startswith("Location: "))
            row = {"bytes": size} | latencies("insert", answers)
            row |= latencies("one document", [client.ask("GET", location) for _ in repeat(30)])
            row["most resident, MB"] = process.peak_mb(server.pid)
            row["resident after, MB"] = process.resident_mb(server.pid)
            rows.append(show(row))
    memory = [line(rows, "bytes", name) for name in ("most resident, MB", "resident after, MB")]
    panels = [
        panel("p50, ms (bar to p99)", rows, "bytes", ["insert", "one document"]),
        charts.Panel("resident memory", memory, "bytes a document", log_x=True),
    ]
    return rows, panels, True


def clients(start, _):
    """Clients that come at once, also more than MAX_CONNECTIONS, each with a connection for 20 requests for a page."""
    rows = []
    with start() as server:
        server.post(servers.documents(1000))
        for count in CLIENTS:
            process.reset_peak(server.pid)
            outcome = crowd(server.address, count, REQUESTS_OF_A_CLIENT, "/data")
            missing = count * REQUESTS_OF_A_CLIENT - outcome.answered
            rows.append(show({
                "clients": count, "answers/s": outcome.answered / outcome.took,
                **milliseconds("first answer", outcome.first), **milliseconds("later ones", outcome.later),
                "refused": outcome.refused, "lost": outcome.lost, "closed": outcome.closed,
                "turned away": outcome.turned_away, "wrong": outcome.wrong, "answers missing": missing,
                "most resident, MB": process.peak_mb(server.pid),
            }))
    panels = [
        panel("p50, ms (bar to p99)", rows, "clients", ["first answer", "later ones"]),
        single("answers a second", rows, "clients", "answers/s"),
        single("most resident memory, MB", rows, "clients", "most resident, MB"),
        single("answers missing", rows, "clients", "answers missing"),
    ]
    return rows, panels, not any(row[name] for row in rows for name in ("refused", "lost", "wrong", "answers missing"))


def repeat(most=REQUESTS):
    until = time.monotonic() + SECONDS
    for index in range(most):
        if index >= 5 and time.monotonic() > until:
            return
        yield index


def latencies(name, answers):
    for status, head, text, _ in answers:
        if status not in (200, 201):
            sys.exit(f"{name}: {head}\n{text[:500]!r}")
    return milliseconds(name, [took for *_, took in answers])


def milliseconds(name, times):
    times = sorted(times) or [0]
    return {f"{name}, p50 ms": statistics.median(times) * 1000, f"{name}, p99 ms": times[int(len(times) * 0.99)] * 1000}


def show(row):
    print(", ".join(f"{name} {cell(value)}" for name, value in row.items()), flush=True)
    return row


def cell(value):
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def line(rows, x, y):
    return charts.Series(y, [(row[x], row[y]) for row in rows])


def single(title, rows, x, y):
    return charts.Panel(title, [line(rows, x, y)], x, log_x=True)


def panel(title, rows, x, names):
    series = []
    for name in names:
        p50, p99 = f"{name}, p50 ms", f"{name}, p99 ms"
        series.append(charts.Series(name, [(row[x], row[p50], row[p50], row[p99]) for row in rows]))
    return charts.Panel(title, series, x, log_x=True, log_y=True)


TITLES = {"documents": "documents in the collection", "sizes": "size of a document", "clients": "clients at once"}
PARTS = {"documents": documents, "sizes": sizes, "clients": clients}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--most", type=int, default=DOCUMENTS[-1], help="documents")
    parser.add_argument("--store", choices=["embedded", "mongodb"], default="embedded")
    parser.add_argument("--uri")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent / "growth")
    arguments = parser.parse_args()
    servers.end_with_sigterm()
    servers.build()
    arguments.out.mkdir(parents=True, exist_ok=True)
    is_good = True
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(servers.Database(arguments.uri)) if arguments.store == "mongodb" else None

        def start(**settings):
            if database:
                database.empty()
                settings["MONGODB_URI"] = database.uri
            return servers.TwoTier(**settings)

        for name in [arguments.only] if arguments.only else PARTS:
            print(f"\n{name}", flush=True)
            rows, panels, is_met = PARTS[name](start, arguments.most)
            is_good &= is_met
            title = f"Cost by {TITLES[name]}, {database.version if database else 'embedded store'}"
            charts.draw(arguments.out / f"{arguments.store}-{name}.svg", title, panels)
            lines = [f"# {title}", "", f"![{name}]({arguments.store}-{name}.svg)", "", f"| {' | '.join(rows[0])} |"]
            lines += ["|" + "---:|" * len(rows[0]), *(f"| {' | '.join(map(cell, row.values()))} |" for row in rows), ""]
            lines += [f"{PARTS[name].__doc__} two-tier {own_version()}; {machine()}.", ""]
            (arguments.out / f"{arguments.store}-{name}.md").write_text("\n".join(lines))
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
