"""Slow clients that are honest come to their end, however long it takes; those that have stalled are ended in time, at
whatever size (no stalled client hides behind its past)."""

import dataclasses
import pathlib
import socket
import threading
import time

from . import kinds
from .cgroup import two_tier
from .client import length_of
from .findings import Findings

# In seconds; two-tier's defaults, and what may pass until it has noticed.
BODY_TIMEOUT, SEND_TIMEOUT, SLACK = 10, 120, 2
# A batch that an import has under way is awaited.
BATCH = 5
MOST_SECONDS = 420
# How long a stalled client is watched.
MOST_STALLED = SEND_TIMEOUT + 30
# Pages of 200 KB and of 2 MB.
DOCUMENTS = "".join(f'{{"_id":{number},"text":"{2_000 * "x"}"}}\n' for number in range(1000))
PAGE = b"GET /data?limit=%d" + kinds.HOST + b"\r\n"
EXPORT = b"GET /data?limit=%d" + kinds.HOST + b"Accept: application/x-ndjson\r\n\r\n"
LARGE_BUFFER, DEFAULT_BUFFER = 1 << 16, None
SAMPLE = 0.25


@dataclasses.dataclass(frozen=True)
class Pace:
    """So many bytes each time, so many times a second, and a pause of so many seconds after so many bytes."""

    title: str
    piece: int
    pause: float = 0
    after: int = 20_000
    times: int = 10


PACES = [
    Pace("2 KB/s", 200),
    Pace("20 KB in 2 s, then a pause of 8 s", 1000, 8),
    Pace("20 KB at 2 KB/s, then a pause of 8 s", 200, 8),
]
JSON_BODY = b'{"text":"' + 60_000 * b"x" + b'"}'
LINES = 600 * (b'{"text":"' + 88 * b"x" + b'"}\n')
UPLOADS = {
    "a body of 60 KB": kinds.JSON + b"Content-Length: %d\r\n\r\n%b" % (len(JSON_BODY), JSON_BODY),
    "the same, chunked": kinds.JSON + kinds.CHUNKED + kinds.chunk(JSON_BODY) + kinds.chunk(b""),
    "an import of 60 KB": kinds.NDJSON + b"Content-Length: %d\r\n\r\n%b" % (len(LINES), LINES),
}
DOWNLOADS = {"a page of 200 KB": PAGE % 100, "an export of 300 KB": EXPORT % 150}


@dataclasses.dataclass(frozen=True)
class Stalled:
    title: str
    request: bytes
    limit: float
    # What it sends each second, or reads at first, and then each second.
    drip: bytes = b""
    reads: int = 0
    reads_each_second: int = 0
    receive_buffer: int | None = None


def _stalled():
    for size in (2_000, 60_000, 1_000_000):
        half = kinds.head_of(size) + b'{"text":"' + (size // 2) * b"x"
        yield Stalled(f"half a body of {size // 1000} KB", half, BODY_TIMEOUT)
        yield Stalled(f"half a body of {size // 1000} KB, then a byte per second", half, BODY_TIMEOUT, b"x")
    most = kinds.head_of(1_000_000) + b'{"text":"' + 950_000 * b"x"
    yield Stalled("950 KB of a body of 1 MB, then a byte per second", most, BODY_TIMEOUT, b"x")
    chunked = kinds.JSON + kinds.CHUNKED + kinds.chunk(b'{"text":"' + 60_000 * b"x")
    yield Stalled("60 KB of a chunked body, then a byte per second", chunked, BODY_TIMEOUT, kinds.chunk(b"x"))
    line, import_limit = kinds.half_line(60_000), BODY_TIMEOUT + BATCH
    yield Stalled("60 KB of an import's line, then a byte per second", line, import_limit, kinds.chunk(b"x"))
    past = kinds.NDJSON + kinds.CHUNKED + kinds.chunk(50 * LINES + b'{"text":"half')
    yield Stalled("3 MB of an import, then a byte per second", past, import_limit, kinds.chunk(b"x"))
    small = kinds.SMALL_BUFFER
    answers = {"a page of 200 KB": PAGE % 100, "a page of 2 MB": PAGE % 1000, "an export of 2 MB": EXPORT % 1000}
    for name, request in answers.items():
        yield Stalled(f"does not read {name}", request, SEND_TIMEOUT, receive_buffer=small)
        yield Stalled(f"reads a byte per second of {name}", request, SEND_TIMEOUT, b"", 0, 1, small)
    for name in ("a page of 2 MB", "an export of 2 MB"):
        yield Stalled(f"reads 1 MB of {name}, and no more", answers[name], SEND_TIMEOUT, b"", 1_000_000, 0, small)


def measure(arguments):
    findings = Findings("Progress", ["Stalled: seconds until the server's side of the connection is closed."])
    with two_tier() as server:
        server.post(DOCUMENTS)
        stalled = [_Stall(server.address, one) for one in _stalled()]
        honest = [_Transfer(server.address, what, request, pace) for what, request in UPLOADS.items() for pace in PACES]
        for what, request in DOWNLOADS.items():
            for pace in PACES:
                honest.append(_Transfer(server.address, what, request, pace, kinds.SMALL_BUFFER))
                honest.append(_Transfer(server.address, what, request, pace, DEFAULT_BUFFER))
        for one in (*stalled, *honest):
            one.start()
        _watch(server.address, stalled)
        for one in stalled:
            one.is_over = True
            limit = one.kind.limit + SLACK
            is_met = one.took is not None and one.took <= limit
            took = f"never within {MOST_STALLED} s" if one.took is None else f"{one.took:.1f} s"
            missed = [] if is_met else ["late"]
            findings.row(client=one.kind.title, bound=f"ends within {limit} s", seen=took, missed=missed)
        until = time.monotonic() + MOST_SECONDS
        for one in honest:
            one.join(max(0, until - time.monotonic()))
            client = f"{one.what}, {one.pace.title}{one.buffer}"
            seen = f"{one.outcome or 'still under way'}, {one.took:.0f} s"
            missed = [] if one.outcome == "complete" else ["cut"]
            findings.row(client=client, bound="completes", seen=seen, missed=missed)
    return findings


class _Stall(threading.Thread):
    def __init__(self, address, kind):
        super().__init__(daemon=True)
        self.address, self.kind = address, kind
        self.port = self.since = self.took = None
        self.is_over = False

    def run(self):
        connection = socket.socket()
        if self.kind.receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.kind.receive_buffer)
        with connection:
            connection.settimeout(20)
            try:
                connection.connect(self.address)
                connection.sendall(self.kind.request)
                left = self.kind.reads
                while left > 0 and (piece := connection.recv(min(left, 4096))):
                    left -= len(piece)
            except OSError:
                pass
            self.since, self.port = time.monotonic(), connection.getsockname()[1]
            connection.setblocking(False)
            while not self.is_over:
                try:
                    connection.send(self.kind.drip)
                    if self.kind.reads_each_second:
                        connection.recv(self.kind.reads_each_second)
                except OSError:
                    pass
                time.sleep(1)


def _watch(address, stalled):
    """Looks at the server's side: a client that does not read learns nothing of its connection's end."""
    until = time.monotonic() + MOST_STALLED
    while time.monotonic() < until and any(one.took is None for one in stalled):
        time.sleep(SAMPLE)
        still_open = _ports_of_clients(address[1])
        for one in stalled:
            if one.took is None and one.port is not None and one.port not in still_open:
                one.took = time.monotonic() - one.since


def _ports_of_clients(port):
    """Of connections whose server's side is not closed, from proc(5)."""
    ports, open_states = set(), ("01", "08")
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == port and fields[3] in open_states:
            ports.add(int(fields[2].split(":")[1], 16))
    return ports


class _Transfer(threading.Thread):
    """Sends its request at this pace, or reads the answer at it."""

    def __init__(self, address, what, request, pace, receive_buffer=DEFAULT_BUFFER):
        super().__init__(daemon=True)
        self.address, self.what, self.request, self.pace = address, what, request, pace
        self.receive_buffer = receive_buffer
        self.is_upload = what in UPLOADS
        self.buffer = "" if self.is_upload else ", small buffer" if receive_buffer else ", default buffer"
        self.outcome, self.began = None, time.monotonic()
        self._took = None

    @property
    def took(self):
        return self._took or time.monotonic() - self.began

    def run(self):
        connection = socket.socket()
        if self.receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        moved = 0
        with connection:
            connection.settimeout(60)
            try:
                connection.connect(self.address)
                answer = bytearray()
                if self.is_upload:
                    for moved in self._paced(len(self.request)):
                        connection.sendall(self.request[moved : moved + self.pace.piece])
                else:
                    connection.sendall(self.request)
                for moved in self._paced(1 << 30):
                    piece = connection.recv(LARGE_BUFFER if self.is_upload else self.pace.piece)
                    answer += piece
                    if self._is_whole(answer):
                        self.outcome = "complete"
                        break
                    if not piece:
                        raise ConnectionError(f"closed after {bytes(answer[:12])!r}")
                if answer[9:12] not in (b"200", b"201"):
                    self.outcome = bytes(answer[:12]).decode("latin-1")
            except OSError as problem:
                self.outcome = f"{type(problem).__name__}: {problem} at {moved:,} bytes"
        self._took = time.monotonic() - self.began

    def _paced(self, size):
        """The places to go on from, each in its time."""
        at, next_pause, next_time = 0, self.pace.after, time.monotonic()
        while at < size:
            yield at
            at += self.pace.piece
            next_time += 1 / self.pace.times
            if self.pace.pause and at >= next_pause:
                next_pause += self.pace.after
                next_time += self.pace.pause
            time.sleep(max(0, next_time - time.monotonic()))

    @staticmethod
    def _is_whole(answer):
        if b"\r\ntransfer-encoding: chunked" in answer[:1000].lower():
            return answer.endswith(b"\r\n0\r\n\r\n")
        length = length_of(answer) if b"\r\n\r\n" in answer else None
        return length is not None and len(answer) >= length
