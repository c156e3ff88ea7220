"""A database that accepts and never answers, beside it what needs no database; then it is back."""

import collections
import contextlib
import selectors
import socket
import statistics
import threading
import time

from .beside import Apart, Ask, alternate
from .cgroup import Watch, two_tier
from .client import request
from .findings import Findings
from .servers import Database, address_of
from .slow import raise_descriptors

CLIENTS = 2000
# In seconds: what a request may take until its 503, with as much again for 2,000 clients of one process to see it; and
# what the first one may take once the database is back.
ANSWER, BACK = 5, 2
SLACK = 0.5
# A database that is slow but alive, and what it is then answered: there is no document with the `_id` "ada".
SLOW, ANSWERS = 0.2, {"200", "201", "404"}
BESIDE = 100
# Memory breathes, as in measure/verdict.py.
FLAT = 1.1
ASKS = [
    request("GET", "/data"), request("POST", "/data", b'{"name":"Ada"}'), request("GET", "/data/ada"),
    request("GET", "/data?limit=7"),
]


def measure(arguments):
    findings = Findings("A silent database")
    count, seconds = (arguments.connections or [CLIENTS])[0], arguments.seconds
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(Database())
        front = stack.enter_context(Front())
        uri = database.uri.replace(address_text(database.uri), "127.0.0.1:%d" % front.address[1])
        server = stack.enter_context(two_tier(MONGODB_URI=uri))
        ops = address_of(server.ops_url)
        with Watch(server) as watch:
            with Apart(_ask_for_data, server.address, count, seconds) as crowd:
                beside = [
                    stack.enter_context(Apart(alternate, address, [Ask(path, request("GET", path), status)], seconds))
                    for address, path, status in [
                        (server.address, "/", 200), (ops, "/healthz", 200), (ops, "/readyz", 503),
                        (ops, "/metrics", 200),
                    ]
                ]
                for one in beside:
                    for path, outcome in one.result().items():
                        what = f"GET {path} within {BESIDE} ms"
                        findings.check(what, outcome.is_within(BESIDE, most=True), f"p50 / p99 / most: {outcome}")
                answered, took, cpu = crowd.result()
        late = sum(one > ANSWER + SLACK for one in took)
        only_503 = set(answered) == {"503"}
        counts = ", ".join(f"{number:,} {status}" for status, number in answered.most_common())
        times = sorted(took) or [0]
        details = f"{counts}; p50 {statistics.median(times):.2f} s, most {times[-1]:.2f} s; generator {cpu:.0%}"
        findings.check(f"{count:,} clients on /data get their 503 within {ANSWER} s", only_503 and not late, details)
        _flat(findings, watch)
        front.turn_to(address_of("http://" + address_text(database.uri)))
        took, statuses = _first_answer(server.address)
        details = f"{took:.2f} s; before it {', '.join(statuses) or 'no other'}"
        findings.check(f"the first request after it is back is answered within {BACK} s", took <= BACK, details)
        front.delay = SLOW
        with Apart(_ask_for_data, server.address, count, 0) as crowd:
            answered, took, cpu = crowd.result()
        counts = ", ".join(f"{number:,} {status}" for status, number in answered.most_common())
        what = f"{count:,} requests at once are answered where each command takes {1000 * SLOW:.0f} ms more"
        findings.check(what, set(answered) <= ANSWERS, f"{counts}; most {max(took):.2f} s; generator {cpu:.0%}")
    return findings


def address_text(uri):
    return uri.split("@")[-1].split("/")[0]


def _flat(findings, watch):
    """From when all clients are there to the end."""
    rows = watch.samples[len(watch.samples) // 3 :]
    for name, column in (("threads", 2), ("resident memory", 1)):
        values = [row[column] for row in rows]
        first, last = statistics.median(values[: len(values) // 4]), max(values[-len(values) // 4 :])
        details = f"{first:.4g}, then {last:.4g}; most {max(values):.4g}"
        findings.check(f"{name} flat", last <= first * FLAT + 1, details)
    findings.note(f"{watch.note()} {watch}.")


def _first_answer(address):
    """Seconds until /data is answered from the database, and what was answered before."""
    began, statuses = time.monotonic(), []
    while (passed := time.monotonic() - began) < 30:
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=10) as connection:
            connection.sendall(ASKS[0])
            status = connection.recv(100)[9:12].decode()
            if status == "200":
                return time.monotonic() - began, statuses
            statuses.append(f"{status} after {time.monotonic() - began:.1f} s")
        time.sleep(0.1)
    return passed, statuses


def _ask_for_data(address, count, seconds):
    """So many clients, each with one request after the other, until the time is over and all are answered."""
    raise_descriptors(count + 200)
    answered, took, until = collections.Counter(), [], time.monotonic() + seconds
    began = time.monotonic()
    with selectors.DefaultSelector() as selector:

        def begin(index):
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex(address)
            selector.register(connection, selectors.EVENT_WRITE, [time.monotonic(), index])

        for index in range(count):
            begin(index)
        while selector.get_map() and time.monotonic() < until + 15:
            for key, events in selector.select(0.1):
                connection, (since, index) = key.fileobj, key.data
                what = "no connection"
                try:
                    if events & selectors.EVENT_WRITE:
                        connection.send(ASKS[index % len(ASKS)])
                        selector.modify(connection, selectors.EVENT_READ, key.data)
                        continue
                    what = "closed"
                    if answer := connection.recv(4096):
                        what = answer[9:12].decode("latin-1")
                except OSError as problem:
                    what = f"{what}: {type(problem).__name__}"
                answered[what] += 1
                took.append(time.monotonic() - since)
                selector.unregister(connection)
                connection.close()
                if time.monotonic() < until:
                    begin(index)
        for key in list(selector.get_map().values()):
            answered["no answer"] += 1
            took.append(time.monotonic() - key.data[0])
            key.fileobj.close()
    return answered, took, time.process_time() / (time.monotonic() - began)


class Front:
    """Before the database: silent, until it is turned to it."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.address = self._listener.getsockname()
        self._target, self._connections, self._lock = None, [], threading.Lock()
        self._is_closed = False
        # Seconds for each command.
        self.delay = 0

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def turn_to(self, address):
        """As a database that was started again: the old connections are gone."""
        with self._lock:
            self._target = address
            self._end_all()

    def _accept(self):
        while not self._is_closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.append(connection)
                if self._target:
                    self._forward(connection)

    def _forward(self, connection):
        database = socket.create_connection(self._target)
        self._connections.append(database)
        for source, target in ((connection, database), (database, connection)):
            is_command = target is database
            threading.Thread(target=self._copy, args=(source, target, is_command), daemon=True).start()

    def _copy(self, source, target, is_command):
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                time.sleep(self.delay if is_command else 0)
                target.sendall(piece)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _end_all(self):
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._connections.clear()

    def __exit__(self, *_):
        self._is_closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            self._end_all()
