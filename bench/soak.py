#!/usr/bin/env python3
"""A mixed load for a long time: readers, writers, imports, exports, and hostile connections beside them.

    bench/soak.py                          embedded store, 20 minutes
    bench/soak.py --store mongodb          on a FerretDB of its own, or --uri MONGODB_URI, whose collection is dropped
    bench/soak.py --seconds 60

Ctrl-C ends it at any time, with all checks. Writes bench/soak/STORE.csv, STORE.svg and STORE.md. Exit code 1 if a
request of a well-behaved client failed, if a document that was answered 201 is not there, or if memory or descriptors
grew. BINARY: another two-tier than the one that is built as the image builds it.
"""

import argparse
import contextlib
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

from measure import servers
from measure.behaved import Behaved
from measure.hostile import Hostile
from measure.interrupt import Interrupt
from measure.load import wrk
from measure.machine import machine, own_version
from measure.sampling import Sampler, compare_start_and_end
from measure.verdict import Verdict

# Before and after the load, in seconds.
QUIET = 10
# FerretDB sorts all documents for a page, so that a collection that grows is soon slower than any deadline.
MAX_DOCUMENTS_OF_MONGODB = 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=["embedded", "mongodb"], default="embedded")
    parser.add_argument("--uri")
    parser.add_argument("--seconds", type=int, default=int(os.environ.get("SECONDS", "1200")))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent / "soak")
    arguments = parser.parse_args()
    servers.end_with_sigterm()
    servers.build()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        database, settings = None, {}
        if arguments.store == "mongodb":
            database = stack.enter_context(servers.Database(arguments.uri))
            database.empty()
            settings = {"MONGODB_URI": database.uri}
        server = stack.enter_context(servers.TwoTier(**settings))
        sys.exit(0 if run(server, database, arguments) else 1)


def run(server, database, arguments):
    stopped = multiprocessing.Event()
    behaved = Behaved(server.url, database and database.empty, MAX_DOCUMENTS_OF_MONGODB if database else None)
    clients = {"behaved": behaved, "hostile": Hostile(server.url)}
    # Processes of their own, so that one crowd's work does not make the other, or the sampling, late.
    pipes, processes = {}, []
    for name, crowd in clients.items():
        pipes[name], outcome = multiprocessing.Pipe(duplex=False)
        processes.append(multiprocessing.Process(target=run_clients, args=(crowd, stopped, outcome)))
    with Sampler(server.pid, server.ops_url, arguments.out / f"{arguments.store}.csv") as sampler:
        time.sleep(QUIET)
        sampler.phase = "load"
        for process in processes:
            process.start()
        began = time.monotonic()
        crowd = read_in_crowds(server, arguments.seconds, began, Interrupt())
        stopped.set()
        outcomes = {name: pipe.recv() for name, pipe in pipes.items()}
        for process in processes:
            process.join()
        took = time.monotonic() - began
        sampler.phase = "after"
        time.sleep(QUIET)
    return report(sampler, outcomes, crowd, took, server, database, arguments)


def run_clients(clients, stopped, outcome):
    # Ctrl-C is for the script, which then stops its clients.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    clients.run(stopped)
    documents = getattr(clients, "checked", 0) + len(getattr(clients, "acknowledged", ()))
    outcome.send({"counts": dict(clients.counts), "failures": clients.failures, "documents": documents})


def read_in_crowds(server, seconds, began, interrupt):
    """Now and then many readers at once, in turn with times without them: the pool grows and shrinks."""
    total = {"requests": 0, "failed": 0}
    while (left := seconds - (time.monotonic() - began)) > 0 and not interrupt.came:
        if left > 10:
            with contextlib.suppress(subprocess.CalledProcessError):
                result = wrk(server.url + "/data", 100, 5)
                total = {name: total[name] + result[name] for name in total}
        interrupt.wait(min(5, left))
    return total


def report(sampler, outcomes, crowd, took, server, database, arguments):
    behaved, hostile = outcomes["behaved"], outcomes["hostile"]
    verdict = Verdict(f"Soak, {'MongoDB' if database else 'embedded store'}, {took / 60:.1f} minutes")
    store = database.version if database else "the embedded store"
    verdict.say(f"two-tier {own_version()} on {store}; {machine()}; the clients on the same machine.")
    counts = {**behaved["counts"], "GET /data in crowds": crowd["requests"]}
    failed = counts.pop("failed", 0) + crowd["failed"]
    verdict.say("Well-behaved: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()) + ".")
    bad = hostile["counts"].pop("failed", 0)
    verdict.say("Hostile: " + ", ".join(f"{count:,} {name}" for name, count in hostile["counts"].items()) + ".")
    details = "; ".join([f"{failed} failed", *behaved["failures"]])
    stored = f"all {behaved['documents']:,} acknowledged documents are there, once"
    verdict.check(f"no well-behaved request failed, and {stored}", failed == 0, details)
    verdict.check("nonsense was answered as such", bad == 0, "; ".join([f"{bad} were not", *hostile["failures"][:5]]))
    load, before, after = sampler.of("load"), sampler.of("before"), sampler.of("after")
    if len(load) >= 10:
        verdict.flat("resident memory", "MB", *compare_start_and_end(load, "resident_mb"))
        verdict.flat("descriptors during the load", "", *compare_start_and_end(load, "descriptors"))
    if before and after:
        verdict.before_and_after(before[-1], after[-1])
    said = [line.strip() for line in server.log[1:]]
    verdict.check("the server had nothing to say", not said, " / ".join(said[:5]))
    chart = f"{arguments.store}.svg"
    sampler.draw(arguments.out / chart, f"Mixed load, {store}")
    return verdict.write(arguments.out / f"{arguments.store}.md", chart)


if __name__ == "__main__":
    main()
