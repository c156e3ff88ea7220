#!/usr/bin/env python3
"""Measures two-tier against what it is compared with, side by side in one run, and prints Markdown tables.

    bench/run.py              the embedded store: the bare loop, grouping on and off
    bench/run.py MONGODB_URI  MongoDB: grouping on and off, Flask behind gunicorn. The database in the URI is dropped.

Needs wrk and ab (Debian: wrk, apache2-utils). Each figure is the median of ROUNDS rounds; within a round the candidates
take turns. SECONDS and ROUNDS can be set in the environment.
"""

import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECONDS = int(os.environ.get("SECONDS_EACH", "4"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
BINARY = ROOT / "target/release/two-tier"
BARE_LOOP = ROOT / "bench/bare-loop/target/release/bare-loop"


class Server:
    """A process that says on its output where it listens."""

    def __init__(self, command, settings=None):
        self.directory = tempfile.mkdtemp(prefix="two-tier-bench-")
        environment = {"PORT": "0", "OPS_PORT": "0", "LOG": "off", **(settings or {})}
        started = time.monotonic()
        self.process = subprocess.Popen(
            command, env=environment, cwd=self.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for line in self.process.stdout:
            if match := re.search(r"listens on (http://[\d.:]+)", line):
                self.url = match[1]
                break
        else:
            sys.exit(f"{command} did not start")
        urllib.request.urlopen(self.url + "/").read()
        self.first_answer = time.monotonic() - started

    def resident_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def post(self, documents, path="/data"):
        headers = {"Content-Type": "application/x-ndjson"}
        request = urllib.request.Request(self.url + path, documents.encode(), headers)
        urllib.request.urlopen(request).read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.directory)


class Gunicorn(Server):
    """Flask, with as many workers and threads as its own documentation recommends for the machine."""

    def __init__(self, uri):
        environment = ROOT / "target/bench-flask"
        if not (environment / "bin/gunicorn").exists():
            subprocess.run([sys.executable, "-m", "venv", environment], check=True)
            requirements = ROOT / "bench/flask/requirements.txt"
            subprocess.run([environment / "bin/pip", "install", "-q", "-r", requirements], check=True)
        workers = 2 * os.cpu_count() + 1
        self.directory = tempfile.mkdtemp(prefix="two-tier-bench-")
        self.process = subprocess.Popen(
            [environment / "bin/gunicorn", "-b", "127.0.0.1:0", "-w", str(workers), "--threads", "8", "app:app"],
            env={"MONGODB_URI": uri, "PATH": os.environ["PATH"]},
            cwd=ROOT / "bench/flask", stderr=subprocess.PIPE, text=True,
        )
        for line in self.process.stderr:
            if match := re.search(r"Listening at: (http://[\d.:]+)", line):
                self.url = match[1]
                break
        urllib.request.urlopen(self.url + "/").read()


def wrk(url, clients, *options):
    """Requests a second and the 99th percentile in milliseconds; stops the run at the first failed request."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{SECONDS}s", "--timeout", "30s", "--latency", *options, url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"failed requests at {url}:\n{output}")
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", output).groups()
    factor = {"us": 0.001, "ms": 1, "s": 1000}[unit]
    return float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1]), float(number) * factor


def ab(url, clients):
    """Requests a second, a connection each."""
    command = ["ab", "-q", "-t", str(SECONDS), "-n", "10000000", "-c", str(clients), url + "/"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if not re.search(r"Failed requests:\s+0\n", output):
        sys.exit(f"failed requests at {url}:\n{output}")
    return float(re.search(r"Requests per second:\s+([\d.]+)", output)[1]), None


def settle(server):
    """Waits until the database has done what the last candidate's clients have left it to do."""
    fastest = None
    until = time.monotonic() + 60
    calm = 0
    while calm < 5 and time.monotonic() < until:
        started = time.monotonic()
        urllib.request.urlopen(server.url + "/data").read()
        took = time.monotonic() - started
        fastest = min(took, fastest or took)
        calm = calm + 1 if took < 2 * fastest else 0


def compare(title, candidates, measure, clients=(1, 16, 64, 200)):
    """A table of requests a second: a row for each number of clients, the last column the ratios to the first one."""
    names = list(candidates)
    print(f"\n{title}\n\n| clients | {' | '.join(f'{name}, req/s (p99)' for name in names)} | {names[0]} : others |")
    print("|---:|" + "---:|" * (len(names) + 1))
    for count in clients:
        results = {name: [] for name in names}
        for turn in range(ROUNDS):
            for name in names if turn % 2 == 0 else reversed(names):
                results[name].append(measure(candidates[name], count))
        rates = {name: statistics.median(rate for rate, _ in results[name]) for name in names}
        cells = []
        for name in names:
            lates = [late for _, late in results[name] if late is not None]
            late = f" ({statistics.median(lates):.1f} ms)" if lates else ""
            cells.append(f"{rates[name]:,.0f}{late}")
        ratios = ", ".join(f"{rates[names[0]] / rates[name]:.2f}" for name in names[1:])
        print(f"| {count} | {' | '.join(cells)} | {ratios} |", flush=True)


def documents(count):
    return "".join(f'{{"name":"Ada","number":{number},"active":true}}\n' for number in range(count))


def embedded():
    with Server([BINARY]) as server:
        print(f"exec to first answer, new data file: {server.first_answer * 1000:.1f} ms")
        print(f"resident, idle: {server.resident_mib():.1f} MiB")
        wrk(server.url + "/", 200)
        wrk(server.url + "/data", 200, "-s", ROOT / "bench/post.lua")
        print(f"resident after 200 clients on / and POST: {server.resident_mib():.1f} MiB")
    print(f"binary: {BINARY.stat().st_size / 1e6:.2f} MB")
    with Server([BINARY]) as server, Server([BARE_LOOP]) as bare:
        pair = {"two-tier": server, "bare loop": bare}
        compare("`GET /`, keep-alive (wrk)", pair, lambda one, count: wrk(one.url + "/", count))
        compare("`GET /`, a connection a request (ab)", pair, lambda one, count: ab(one.url, count))
    with Server([BINARY]) as grouped, Server([BINARY], {"GROUPING": "off"}) as ungrouped:
        pair = {"two-tier": grouped, "grouping off": ungrouped}
        post = lambda one, count: wrk(one.url + "/data", count, "-s", ROOT / "bench/post.lua")
        compare("`POST /data`, one document", pair, post)
    with Server([BINARY]) as grouped, Server([BINARY], {"GROUPING": "off"}) as ungrouped:
        pair = {"two-tier": grouped, "grouping off": ungrouped}
        for server in pair.values():
            server.post(documents(1000))
        compare("`GET /data`, 100 of 1,000 documents", pair, lambda one, count: wrk(one.url + "/data", count))


def mongodb(uri):
    python = ROOT / "target/bench-flask/bin/python"
    settings = {"MONGODB_URI": uri}
    with Gunicorn(uri) as flask, Server([BINARY], settings) as grouped:
        with Server([BINARY], {**settings, "GROUPING": "off"}) as ungrouped:
            def empty():
                code = "import os, pymongo; c = pymongo.MongoClient(os.environ['URI']); d = c.get_default_database()"
                drop = f"{code}; d['data'].drop()"
                subprocess.run([python, "-c", drop], env={"URI": uri}, check=True)

            print(f"resident, MongoDB connected: {grouped.resident_mib():.1f} MiB")
            trio = {"two-tier": grouped, "grouping off": ungrouped, "Flask": flask}
            empty()

            def post(one, count):
                empty()
                return wrk(one.url + "/data", count, "-s", ROOT / "bench/post.lua")

            def get(one, count):
                settle(grouped)
                return wrk(one.url + "/data", count)

            compare("`POST /data`, one document", trio, post, (1, 200))
            empty()
            grouped.post(documents(1000))
            compare("`GET /data`, 100 of 1,000 documents", trio, get, (1, 200))
            print(f"resident after that: {grouped.resident_mib():.1f} MiB")


def main():
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
    if len(sys.argv) > 1:
        mongodb(sys.argv[1])
    else:
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT / "bench/bare-loop", check=True)
        embedded()


if __name__ == "__main__":
    main()
