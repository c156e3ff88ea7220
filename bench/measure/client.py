"""A small HTTP client whose own time hardly counts: one connection for latencies, or very many at once."""

import dataclasses
import resource
import selectors
import socket
import time


class Client:
    """One kept connection."""

    def __init__(self, address):
        self.connection = socket.create_connection(address, timeout=60)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method, path, body=b"", content_type="application/json"):
        """Status, head, body, and the seconds that it took."""
        sent = request(method, path, body, content_type)
        began = time.perf_counter()
        self.connection.sendall(sent)
        answer = bytearray()
        while (length := length_of(answer)) is None or len(answer) < length:
            piece = self.connection.recv(1 << 20)
            if not piece:
                raise ConnectionError("the server has closed the connection")
            answer += piece
        took = time.perf_counter() - began
        head, _, text = bytes(answer).partition(b"\r\n\r\n")
        return int(head.split()[1]), head.decode(), text, took

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()


def request(method, path, body=b"", content_type="application/json"):
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
    if body:
        head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def length_of(answer):
    """Of the whole answer in bytes, once its head is there."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(answer[:end]).lower()
    start = head.find(b"\r\ncontent-length:")
    return end + 4 + int(head[start + 17 :].split(b"\r\n")[0])


@dataclasses.dataclass
class Outcome:
    """What became of the clients of a crowd. Times in seconds."""

    answered: int = 0
    # Could not connect; got no answer to its first request, or half an answer; got none to a later one, as its kept
    # connection was closed just then, which a client may meet at any time and answers with a new connection (RFC 9112,
    # section 9.3.1); got another answer than 200.
    refused: int = 0
    lost: int = 0
    closed: int = 0
    wrong: int = 0
    # Answers that said "Connection: close", behind which the client came back with a new connection.
    turned_away: int = 0
    # From the start of a connection to its first answer, and of the later requests.
    first: list = dataclasses.field(default_factory=list)
    later: list = dataclasses.field(default_factory=list)
    took: float = 0


class _Member:
    def __init__(self, address):
        self.address = address
        self.answers = 0
        self.connect()

    def connect(self):
        self.connection = socket.socket()
        self.connection.setblocking(False)
        self.began = time.perf_counter()
        self.connection.connect_ex(self.address)
        self.is_connected = False
        self.is_first = True
        self.answer = bytearray()


def crowd(address, clients, requests, path="/", give_up=120):
    """All connect at once; each asks `requests` times, one after the other, on one connection while it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < clients + 100:
        raise RuntimeError(f"{clients} clients take as many descriptors, and ulimit -Hn allows {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    outcome, sent, began = Outcome(), request("GET", path), time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for _ in range(clients):
            member = _Member(address)
            selector.register(member.connection, selectors.EVENT_WRITE, member)
        while selector.get_map() and time.perf_counter() < began + give_up:
            for key, _ in selector.select(1):
                member = key.data
                if not _go_on(member, selector, outcome, sent, requests):
                    selector.unregister(member.connection)
                    member.connection.close()
        for key in list(selector.get_map().values()):
            outcome.lost += 1
            key.data.connection.close()
    outcome.took = time.perf_counter() - began
    return outcome


def _go_on(member, selector, outcome, sent, requests):
    """False if the member is done, whatever the reason."""
    try:
        if not member.is_connected:
            if member.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                outcome.refused += 1
                return False
            member.is_connected = True
            selector.modify(member.connection, selectors.EVENT_READ, member)
            member.connection.send(sent)
            return True
        piece = member.connection.recv(1 << 16)
    except OSError:
        piece = b""
    if not piece:
        return _end(member, outcome)
    member.answer += piece
    length = length_of(member.answer)
    if length is None or len(member.answer) < length:
        return True
    now = time.perf_counter()
    (outcome.first if member.is_first else outcome.later).append(now - member.began)
    outcome.answered += 1
    outcome.wrong += not member.answer.startswith(b"HTTP/1.1 200 ")
    member.answers += 1
    if member.answers == requests:
        return False
    member.is_first = False
    if b"\r\nconnection: close\r\n" in member.answer[: member.answer.find(b"\r\n\r\n") + 2].lower():
        outcome.turned_away += 1
        selector.unregister(member.connection)
        member.connection.close()
        member.connect()
        selector.register(member.connection, selectors.EVENT_WRITE, member)
        return True
    member.answer.clear()
    member.began = now
    try:
        member.connection.send(sent)
    except OSError:
        return _end(member, outcome)
    return True


def _end(member, outcome):
    """Counts a connection that ended before its last answer."""
    if not member.is_first and not member.answer:
        outcome.closed += 1
    else:
        outcome.lost += 1
    return False
