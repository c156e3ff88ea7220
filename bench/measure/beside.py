"""A well-behaved client beside slow ones, in a process of its own: a new connection for each of its requests."""

import contextlib
import dataclasses
import http.client
import multiprocessing
import signal
import socket
import statistics
import time

from .client import length_of, request
from .kinds import CHUNKED, JSON, chunk

# In seconds. Between two requests: it is there to notice, not to be load.
PAUSE = 0.002
TIMEOUT = 10
PIECE = 1 << 16
LINES = 100_000
LINE = b'{"name":"Ada","text":"a line like any other","n":%d}\n'


@dataclasses.dataclass(frozen=True)
class Ask:
    name: str
    request: bytes
    status: int = 200


def post(size):
    """A document of so many bytes."""
    return request("POST", "/data", b'{"text":"' + (size - 11) * b"x" + b'"}')


WELCOME = Ask("GET /", request("GET", "/"))
SMALL_POST = Ask("POST /data", request("POST", "/data", b'{"name":"Ada","born":1815}'), 201)
TWO_BYTES = Ask("POST of 2 bytes, chunked", JSON + CHUNKED + chunk(b"{}") + chunk(b""), 201)
POST_17_KB = Ask("POST of 17 KB", post(17_000), 201)
POST_900_KB = Ask("POST of 900 KB", post(900_000), 201)


class Latencies:
    """Of one kind of request, in milliseconds. A failure is no latency, and spoils the verdict by itself."""

    def __init__(self, times, failures):
        self.times, self.failures = sorted(1000 * time for time in times), failures
        self.p50 = statistics.median(self.times) if times else None
        self.p99 = self.times[int(len(times) * 0.99)] if times else None
        self.most = self.times[-1] if times else None

    def __str__(self):
        text = f"{len(self.failures)} of {len(self.times) + len(self.failures)} failed"
        if self.times:
            text += f", {self.p50:.3g} / {self.p99:.3g} / {self.most:.3g} ms"
        return text + (f" ({self.failures[0]})" if self.failures else "")

    def is_within(self, milliseconds, most=False):
        return not self.failures and bool(self.times) and (self.most if most else self.p99) <= milliseconds


def alternate(address, asks, seconds):
    """Each in turn for so long, and each at least once: {name: Latencies}."""
    times, failures = {ask.name: [] for ask in asks}, {ask.name: [] for ask in asks}
    until = time.monotonic() + seconds
    while True:
        for ask in asks:
            try:
                times[ask.name].append(once(address, ask))
            except (OSError, ValueError) as problem:
                failures[ask.name].append(_said(problem))
            time.sleep(PAUSE)
        if time.monotonic() > until:
            return {ask.name: Latencies(times[ask.name], failures[ask.name]) for ask in asks}


def _said(problem):
    text = " ".join(str(problem).split()).replace("|", "/")[:120]
    return text if isinstance(problem, ValueError) else f"{type(problem).__name__}: {text}"


def once(address, ask):
    """The seconds from the start of the connection to the last byte of the answer."""
    began, answer = time.perf_counter(), bytearray()
    with socket.create_connection(address, TIMEOUT, source_address=("127.0.2.1", 0)) as connection:
        connection.sendall(ask.request)
        while (length := length_of(answer)) is None or len(answer) < length:
            connection.settimeout(max(0.001, TIMEOUT - (time.perf_counter() - began)))
            piece = connection.recv(PIECE)
            if not piece:
                raise ConnectionError("closed before the answer's end")
            answer += piece
    if int(answer[9:12]) != ask.status:
        raise ValueError(f"{answer[9:12].decode('latin-1')} instead of {ask.status}")
    return time.perf_counter() - began


def large(address, timeout=30):
    """An import, an export and a long POST, one after the other: {what: seconds, or what went wrong}."""
    return {what: _try(call, address, timeout) for what, call in LARGE.items()}


def _try(call, address, timeout):
    began = time.monotonic()
    try:
        with contextlib.closing(http.client.HTTPConnection(*address, timeout=timeout)) as connection:
            call(connection, began + timeout)
    except (OSError, http.client.HTTPException, ValueError) as problem:
        return _said(problem)
    return time.monotonic() - began


def _import(connection, until):
    lines = b"".join(LINE % number for number in range(LINES))
    connection.request("POST", "/data", lines, {"Content-Type": "application/x-ndjson"})
    text = _expect(connection, 201).read()
    if b'"inserted":%d}' % LINES not in text:
        raise ValueError(text[:100])


def _export(connection, until):
    connection.request("GET", "/data", headers={"Accept": "application/x-ndjson"})
    answer, lines = _expect(connection, 200), 0
    while piece := answer.read(PIECE):
        lines += piece.count(b"\n")
        if time.monotonic() > until:
            raise TimeoutError(f"{lines:,} lines so far")
    if lines < LINES:
        raise ValueError(f"{lines:,} lines")


def _post(connection, until):
    connection.request("POST", "/data", b'{"text":"' + 900_000 * b"x" + b'"}', {"Content-Type": "application/json"})
    _expect(connection, 201).read()


def _expect(connection, status):
    answer = connection.getresponse()
    if answer.status != status:
        raise ValueError(f"{answer.status} {answer.read(200)!r}")
    return answer


LARGE = {"import": _import, "export": _export, "POST of 900 KB": _post}


class Apart:
    """A call in a process of its own from `with` to `result()`. It has to bound its time itself."""

    def __init__(self, call, *arguments):
        self._outcome, self._pipe = multiprocessing.Pipe(duplex=False)
        self._process = multiprocessing.Process(target=self._run, args=(self._pipe, call, arguments), daemon=True)

    @staticmethod
    def _run(pipe, call, arguments):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        pipe.send(call(*arguments))

    def result(self):
        try:
            return self._outcome.recv()
        except EOFError:
            raise RuntimeError("a client of the benchmark's own has failed") from None

    def __enter__(self):
        self._process.start()
        # Only its end is left, so that its death is the end of the pipe.
        self._pipe.close()
        return self

    def __exit__(self, *_):
        if self._process.is_alive() and not self._outcome.poll(0.2):
            self._process.kill()
        self._process.join()


def apart(call, *arguments):
    with Apart(call, *arguments) as running:
        return running.result()
