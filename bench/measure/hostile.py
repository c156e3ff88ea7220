"""Clients that mean no good, or whose network is bad, a thread each. What becomes of them does not matter, but that an
answer to nonsense says so."""

import collections
import contextlib
import random
import socket
import struct
import threading

from .servers import address_of

HOST = b" HTTP/1.1\r\nHost: localhost\r\n"
JSON = b"POST /data" + HOST + b"Content-Type: application/json\r\n"
NDJSON = b"POST /data" + HOST + b"Content-Type: application/x-ndjson\r\n"
# What it is, the request, the status that answers it.
NONSENSE = [
    ("a body that is no JSON", JSON + b'Content-Length: 5\r\n\r\n{"a":', b"400"),
    ("no such type", b"POST /data" + HOST + b"Content-Type: text/csv\r\nContent-Length: 3\r\n\r\na,b", b"415"),
    ("too long", JSON + b"Content-Length: 99999999999\r\n\r\n", b"413"),
    ("no such path", b"GET /../etc/passwd" + HOST + b"\r\n", b"404"),
    ("no such method", b"DELETE /data" + HOST + b"\r\n", b"405"),
]
WHOLE = JSON + b'Content-Length: 14\r\n\r\n{"reset":true}'
HALF = JSON + b'Content-Length: 100000\r\n\r\n[{"half":true},'
HALF_IMPORT = NDJSON + b'Transfer-Encoding: chunked\r\n\r\n10\r\n{"half'
PAGE = b"GET /data" + HOST + b"\r\n"
EXPORT = b"GET /data" + HOST + b"Accept: application/x-ndjson\r\n\r\n"


class Hostile:
    def __init__(self, url):
        self.address = address_of(url)
        self.counts = collections.Counter()
        self.failures = []

    def run(self, stopped):
        self.stopped = stopped
        kinds = 20 * [self.slow_head] + 10 * [self.half_body] + 5 * [self.no_reader] + [
            self.reset, self.garbage, self.endless_head, self.nonsense, self.silent,
        ]
        threads = [threading.Thread(target=self._kind, args=(kind,)) for kind in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _kind(self, kind):
        while not self.stopped.is_set():
            self.counts[kind.__name__.replace("_", " ")] += 1
            # What the server cuts off is an error here, and meant to be.
            with contextlib.suppress(OSError), socket.create_connection(self.address, timeout=60) as connection:
                kind(connection)

    def _wait_for_end(self, connection, most=40):
        connection.settimeout(1)
        for _ in range(most):
            with contextlib.suppress(TimeoutError):
                if not connection.recv(65536):
                    return
            if self.stopped.is_set():
                return

    def slow_head(self, connection):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        while not self.stopped.wait(1):
            connection.sendall(b"x")

    def half_body(self, connection):
        connection.sendall(random.choice([HALF, HALF_IMPORT]))
        if random.random() < 0.5:
            self.stopped.wait(1)
        else:
            self._wait_for_end(connection)

    def no_reader(self, connection):
        """Asks for everything and takes nothing."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(EXPORT)
        self.stopped.wait(random.uniform(1, 40))

    def reset(self, connection):
        connection.sendall(random.choice([PAGE, WHOLE, WHOLE[:-5], EXPORT]))
        # Closed with a reset, at once.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stopped.wait(random.choice([0, 0.02]))

    def garbage(self, connection):
        connection.sendall(random.randbytes(random.randint(1, 4096)))
        self.stopped.wait(0.02)

    def endless_head(self, connection):
        connection.sendall(b"GET / HTTP/1.1\r\nX-Endless: ")
        for _ in range(1000):
            connection.sendall(b"x" * 1000)
        self.stopped.wait(0.1)

    def silent(self, connection):
        self._wait_for_end(connection, 15)

    def nonsense(self, connection):
        what, request, status = random.choice(NONSENSE)
        connection.sendall(request)
        answer = connection.recv(65536)
        if answer.split(b" ")[1:2] != [status]:
            self.counts["failed"] += 1
            self.failures.append(f"{what}: {answer[:200]!r}")
        self.stopped.wait(0.02)
