"""The requests and answers that take most memory, at once (memory has one bound)."""

import collections
import contextlib
import itertools
import socket
import threading
import time

from . import kinds
from .beside import SMALL_POST, WELCOME, once
from .cgroup import Watch, two_tier
from .client import Client
from .findings import Findings
from .slow import Crowd

MIB = 1 << 20
LINE = 6 * MIB
# A page of 4 MB: as many documents as it may have.
LARGE_DOCUMENTS = "".join(f'{{"_id":{number},"text":"{4_300 * "x"}"}}\n' for number in range(1000))
LARGE_PAGE = b"GET /data?limit=1000" + kinds.HOST + b"\r\n"
HELD_SECONDS = 8
ROUNDS = 3
TIMEOUT = 40


def measure(arguments):
    findings = Findings("Memory has one bound")
    bodies = kinds.head_of(len(_keys(MIB - 1))) + _keys(MIB - 1)
    _requests(findings, "16 bodies of 1 MB of short distinct keys at once", 16, bodies, arguments)
    text = _line(b'{"text":"' + (LINE - 11) * b"x" + b'"}')
    _requests(findings, "64 import lines of 6 MiB, a string", 64, text, arguments)
    _requests(findings, "64 import lines of 6 MiB, short distinct keys", 64, _line(_keys(LINE - 1)), arguments)
    for count in (6, 300):
        _unread(findings, count, arguments, False)
        _unread(findings, count, arguments, True)
    return findings


def _keys(size):
    """An object of so many bytes at most: as many fields as fit, each of which is then more in BSON."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    fields, length = [], 1
    for key in itertools.chain.from_iterable(itertools.product(letters, repeat=size) for size in (1, 2, 3, 4)):
        field = f'"{"".join(key)}":1'
        if (length := length + len(field) + 1) > size:
            return ("{" + ",".join(fields) + "}").encode()
        fields.append(field)


def _line(document):
    return kinds.NDJSON + b"Content-Length: %d\r\n\r\n%b\n" % (len(document) + 1, document)


def _requests(findings, what, count, request, arguments):
    """Sent at once, in a few rounds. All but their last bytes first, so that they are there at the same time."""
    statuses = collections.Counter()
    with two_tier() as server:
        with Watch(server) as watch:
            for _ in range(ROUNDS):
                gate = threading.Barrier(count)
                threads = [
                    threading.Thread(target=_send, args=(server.address, request, gate, statuses), daemon=True)
                    for _ in range(count)
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
        _row(findings, what, server, watch, arguments, f"{ROUNDS} rounds: " + _counts(statuses))


def _send(address, request, gate, statuses):
    what, last = "not connected", len(request) - 3
    try:
        with socket.create_connection(address, timeout=TIMEOUT) as connection:
            what = "lost"
            connection.settimeout(10)
            with contextlib.suppress(TimeoutError):
                # The server may well wait with some until others are done.
                connection.sendall(request[:last])
                with contextlib.suppress(threading.BrokenBarrierError):
                    gate.wait(5)
                connection.settimeout(TIMEOUT)
                connection.sendall(request[last:])
            if answer := connection.recv(100):
                what = answer[9:12].decode("latin-1")
    except OSError as problem:
        what = f"{what} ({type(problem).__name__})"
    statuses[what] += 1


def _unread(findings, count, arguments, changes):
    """Clients that do not read a page; while it `changes`, each holds a version of its own."""
    what = f"{count} clients that do not read a page of 4 MB" + (", which changes meanwhile" if changes else "")
    kind = kinds.reader("large-page", what, LARGE_PAGE)
    with two_tier() as server:
        server.post(LARGE_DOCUMENTS)
        with Watch(server) as watch, Crowd(server.address, [kind], count) as crowd:
            failures, until = [], time.monotonic() + HELD_SECONDS
            numbers = itertools.count(1)
            while time.monotonic() < until:
                try:
                    if changes:
                        _change(server.address, next(numbers))
                    once(server.address, WELCOME)
                    once(server.address, SMALL_POST)
                except (OSError, ValueError) as problem:
                    failures.append(f"{type(problem).__name__}: {problem}")
                time.sleep(0.02)
            details = f"open {crowd.open}; beside them {len(failures)} failures"
            details += f" ({failures[0]})" if failures else ""
        missed = [] if not failures else ["requests beside them failed"]
        _row(findings, what, server, watch, arguments, f"{details}; ended: {crowd.said()}", missed)


def _change(address, number):
    """A document before all others in the page."""
    with Client(address) as client:
        client.connection.settimeout(5)
        client.ask("POST", "/data", b'{"_id":%d}' % -number)


def _counts(counter):
    return ", ".join(f"{count} {what}" for what, count in counter.most_common())


def _row(findings, what, server, watch, arguments, details, missed=()):
    missed = list(missed)
    if watch.judged() > arguments.memory:
        missed.append(f"over {arguments.memory} MB")
    if server.process.poll() is not None:
        missed.append("the server has ended")
    findings.row(what=what, **watch.columns(), **{"answers": details}, missed=missed)
    findings.note(watch.note())
