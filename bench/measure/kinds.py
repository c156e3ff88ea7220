"""The kinds of slow connection: what each sends at first, and then from time to time."""

import dataclasses

HOST = b" HTTP/1.1\r\nHost: localhost\r\n"
JSON = b"POST /data" + HOST + b"Content-Type: application/json\r\n"
NDJSON = b"POST /data" + HOST + b"Content-Type: application/x-ndjson\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
# The first 100 documents of DOCUMENTS make a page of 2 MB, all of them an export of 6 MB.
PAGE = b"GET /data?limit=100" + HOST + b"\r\n"
EXPORT = b"GET /data" + HOST + b"Accept: application/x-ndjson\r\n\r\n"
# Numbers come before every other type of `_id`, so that they stay the first page whatever is stored beside them.
DOCUMENTS = "".join(f'{{"_id":{number},"text":"{20_000 * "x"}"}}\n' for number in range(300))
# What a client that does not read allows the kernel to take for it. Little, so that the rest is the server's.
SMALL_BUFFER = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Kind:
    name: str
    title: str
    # What it sends at once, and what it then sends each time that so many seconds have passed.
    opening: bytes = b""
    drip: bytes = b""
    every: float = 1
    reads: bool = True
    # Stays after a 200.
    is_served: bool = False
    receive_buffer: int | None = None


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def head_of(length):
    return JSON + b"Content-Length: %d\r\n\r\n" % length


def half_line(size):
    return NDJSON + CHUNKED + chunk(b'{"text":"' + size * b"x")


def stalled_body(name, title, sent, drip=b"", length=1_000_000):
    return Kind(name, title, head_of(length) + b'{"text":"' + sent * b"x", drip)


def reader(name, title, request, receive_buffer=SMALL_BUFFER):
    return Kind(name, title, request, reads=False, receive_buffer=receive_buffer)


KINDS = [
    Kind("idle", "idle"),
    Kind("kept", "kept alive after a request", b"GET /" + HOST + b"\r\n", is_served=True),
    Kind("head", "a byte of a head per second", b"GET /" + HOST + b"X-Slow: ", b"x"),
    stalled_body("body", "a byte of a 10 KB body per second", 0, b"x", 10_000),
    stalled_body("long-body", "60 KB of a 1 MB body, then a byte per second", 60_000, b"x"),
    Kind(
        "chunked-body", "the same, chunked", JSON + CHUNKED + chunk(b'{"text":"' + 60_000 * b"x"), chunk(b"x"),
    ),
    Kind("import", "60 KB of a line of an import, then a byte per second", half_line(60_000), chunk(b"x")),
    Kind("long-import", "5 MB of a line of an import, then a byte per second", half_line(5_000_000), chunk(b"x")),
    reader("page", "does not read a page of 2 MB", PAGE),
    reader("export", "does not read an export", EXPORT),
]
BY_NAME = {kind.name: kind for kind in KINDS}
