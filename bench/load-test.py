#!/usr/bin/env python3
"""The original's load test, `ab -n 50000000 -c 200` on `/`, and what it does to the server, each second.

    bench/load-test.py                     on a two-tier that it starts itself; hours
    bench/load-test.py -n 5000000          about 10 minutes on two cores
    bench/load-test.py -k                  keep-alive
    bench/load-test.py --url http://127.0.0.1:8080 --ops-url http://127.0.0.1:9090 --pid 4711

Ctrl-C ends it at any time; it then reports what there was. Writes bench/load-test/samples.csv, chart.svg, ab.txt and
result.md. Exit code 1 if a request failed, or if memory or descriptors grew. BINARY: another two-tier than the one that
is built as the image builds it. ab keeps 32 bytes of its own a request: 1.6 GB for 50,000,000.
"""

import argparse
import contextlib
import pathlib
import re
import signal
import subprocess
import sys
import time

from measure import servers
from measure.interrupt import Interrupt
from measure.load import read_ab
from measure.machine import machine, own_version
from measure.sampling import Sampler, compare_start_and_end
from measure.verdict import Verdict

# Before and after the load, in seconds.
QUIET = 10


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=50_000_000, help="requests")
    parser.add_argument("-c", type=int, default=200, help="clients")
    parser.add_argument("-k", action="store_true", help="keep connections (ab -k)")
    parser.add_argument("--url", help="of a server that runs; then also --ops-url and --pid")
    parser.add_argument("--ops-url")
    parser.add_argument("--pid", type=int)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent / "load-test")
    arguments = parser.parse_args()
    if arguments.url and not (arguments.ops_url and arguments.pid):
        parser.error("--url needs --ops-url and --pid")
    servers.end_with_sigterm()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        server = arguments
        if not arguments.url:
            servers.build()
            server = stack.enter_context(servers.TwoTier())
        sys.exit(0 if run(server, arguments) else 1)


def run(server, arguments):
    interrupt = Interrupt()
    keep_alive = ["-k"] if arguments.k else []
    command = ["ab", "-q", *keep_alive, "-n", str(arguments.n), "-c", str(arguments.c), server.url.rstrip("/") + "/"]
    print(" ".join(command), flush=True)
    with Sampler(server.pid, server.ops_url, arguments.out / "samples.csv") as sampler:
        interrupt.wait(QUIET)
        sampler.phase = "load"
        began = time.monotonic()
        with open(arguments.out / "ab.txt", "w") as output:
            # A session of its own: Ctrl-C reaches it only through us, once.
            ab = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
            watch(ab, sampler, interrupt, arguments.n)
        took = time.monotonic() - began
        sampler.phase = "after"
        time.sleep(QUIET)
    return report(sampler, took, arguments, " ".join(command[:-1]))


def watch(ab, sampler, interrupt, requests):
    """Until ab has ended; it reports what it has when it is interrupted."""
    shown = time.monotonic()
    while ab.poll() is None:
        if interrupt.wait(0.2):
            ab.send_signal(signal.SIGINT)
            ab.wait(60)
            return
        if time.monotonic() > shown + 10 and sampler.rows:
            shown = time.monotonic()
            print(", ".join(f"{name} {value}" for name, value in sampler.rows[-1].items()), flush=True)


def report(sampler, took, arguments, command):
    text = (arguments.out / "ab.txt").read_text()
    result = read_ab(text)
    load = sampler.of("load")
    verdict = Verdict(f"Load test: `{command}`")
    verdict.say(f"two-tier {own_version()}; {machine()}; ab on the same machine; {took / 60:.1f} minutes.")
    if result["requests"] < arguments.n:
        verdict.say(f"It was stopped before its {arguments.n:,} requests.")
    verdict.say(f"{result['requests']:,} requests, {result['rate']:,.0f} a second.")
    verdict.check("no request failed", result["failed"] == 0, f"{result['failed']} failed")
    if len(load) >= 10:
        verdict.flat("resident memory", "MB", *compare_start_and_end(load, "resident_mb"))
        verdict.flat("descriptors", "", *compare_start_and_end(load, "descriptors"))
    before, after = sampler.of("before"), sampler.of("after")
    if before and after:
        verdict.before_and_after(before[-1], after[-1])
    percentiles = re.findall(r"^ +(\d+%) +(\d+)", text, re.M)
    if percentiles:
        parts = ", ".join(f"{percent} within {value} ms" for percent, value in percentiles)
        verdict.say(f"ab's requests: {parts}.")
    sampler.draw(arguments.out / "chart.svg", f"{result['requests']:,} requests: {command}")
    return verdict.write(arguments.out / "result.md", "chart.svg")


if __name__ == "__main__":
    main()
