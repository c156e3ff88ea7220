"""Very many slow connections, from one process with one epoll set. One that the server ends is opened again, at a
bounded rate, so that there are always nearly as many as were asked for."""

import collections
import dataclasses
import multiprocessing
import os
import resource
import select
import signal
import socket
import time

# Linux's, which Python's socket has no name for: the port is chosen by `connect`, for this destination.
IP_BIND_ADDRESS_NO_PORT = 24
# Ends an orphan, and whatever else goes wrong.
MOST_SECONDS = 900
TICK = 0.01
PIECE = 1 << 16
# With less of those that were asked for, a row says nothing of what it is about.
NEARLY = 0.9
RIGHT_TO_SHED = (
    "A server may end connections that it has no memory for: they come again, up to {:,} a second, which costs it no "
    "less than if they had stayed. So a row counts if nearly all have come at least once, and `open` says how many "
    "there were on average."
)


@dataclasses.dataclass
class Limits:
    """New connections a second, and bytes a second that are sent at most: they come from a network, not from memory."""

    connections: int = 1000
    bytes: int = 200_000_000
    # Whether one that was ended is opened again.
    reopens: bool = True


def raise_descriptors(needed):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, needed), max(hard, needed)))
    except (ValueError, OSError):
        raise SystemExit(f"{needed:,} descriptors are needed, and ulimit -Hn allows {hard:,}") from None


class Crowd:
    """From `with` to its end. `open` is how many are open now, `came` how many have been, those that came again counted
    again; `served` how many had a 200 so far. In the end `counts` is what became of those that the server ended, by
    status where it gave one, and `cpu` the generator's own processor time by second."""

    def __init__(self, address, kinds, count, limits=None):
        self.address, self.kinds, self.count, self.limits = address, kinds, count, limits or Limits()
        self.counts, self.cpu = collections.Counter(), 0
        self._open = multiprocessing.Value("i", 0, lock=False)
        self._came = multiprocessing.Value("i", 0, lock=False)
        self._served = multiprocessing.Value("i", 0, lock=False)
        self._stopped = multiprocessing.Event()
        self._outcome, self._pipe = multiprocessing.Pipe(duplex=False)
        self._process = multiprocessing.Process(target=self._run, args=(self._pipe,), daemon=True)

    @property
    def open(self):
        return self._open.value

    @property
    def came(self):
        return self._came.value

    @property
    def served(self):
        return self._served.value

    def wait(self, seconds, reached):
        """Until `reached`, or so long."""
        until = time.monotonic() + seconds
        while not reached() and time.monotonic() < until and self._process.is_alive():
            time.sleep(0.05)
        return reached()

    def __enter__(self):
        self._process.start()
        # Only its end is left, so that its death is the end of the pipe.
        self._pipe.close()
        return self

    def __exit__(self, *exception):
        self._stopped.set()
        is_well = self._outcome.poll(20)
        if is_well:
            try:
                self.counts, self.cpu = self._outcome.recv()
            except EOFError:
                is_well = False
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        if not is_well and not any(exception):
            raise RuntimeError("the generator of slow connections has failed")

    def _run(self, pipe):
        # Ctrl-C is for the script, which then stops its clients.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise_descriptors(self.count + 200)
        generator = _Generator(self.address, self.kinds, self.count, self.limits)
        began, parent = time.monotonic(), os.getppid()
        while not self._stopped.is_set() and time.monotonic() < began + MOST_SECONDS and os.getppid() == parent:
            generator.turn()
            self._open.value, self._served.value = generator.established, generator.served
            self._came.value = generator.came
        cpu = time.process_time() / (time.monotonic() - began)
        generator.close()
        pipe.send((generator.counts, cpu))

    def said(self):
        """What became of those that did not stay, the most frequent first."""
        return ", ".join(f"{count:,} {what}" for what, count in self.counts.most_common()) or "none"


class _Connection:
    __slots__ = ("socket", "kind", "sent", "is_connected", "is_served", "is_closed")

    def __init__(self, kind):
        self.kind, self.sent = kind, 0
        self.is_connected = self.is_served = self.is_closed = False


class _Generator:
    def __init__(self, address, kinds, count, limits):
        self.address, self.limits = address, limits
        self.epoll = select.epoll()
        self.by_descriptor = {}
        # Those to be opened, and those whose next byte is due, in this order.
        self.missing = collections.deque(kinds[index % len(kinds)] for index in range(count))
        self.due = {kind: collections.deque() for kind in kinds}
        self.counts = collections.Counter()
        self.established = self.served = self.opened = self.came = 0
        self.may_open = self.may_send = 0.0
        self.last = time.monotonic()

    def turn(self):
        now = time.monotonic()
        passed, self.last = min(now - self.last, 0.1), now
        self.may_open = min(self.may_open + passed * self.limits.connections, self.limits.connections / 10)
        self.may_send = min(self.may_send + passed * self.limits.bytes, self.limits.bytes / 10)
        while self.missing and self.may_open >= 1:
            self.may_open -= 1
            self._open(self.missing.popleft())
        for kind, due in self.due.items():
            while due and due[0][0] <= now:
                connection = due.popleft()[1]
                if not connection.is_closed and self._drip(connection):
                    due.append((now + kind.every, connection))
        if self.may_send <= 0:
            # Everybody waits, and the set would only say over and over that they could send.
            time.sleep(TICK / 2)
            return
        for descriptor, events in self.epoll.poll(TICK, 2000):
            if connection := self.by_descriptor.get(descriptor):
                self._event(connection, events)

    def _open(self, kind):
        connection = _Connection(kind)
        connection.socket = socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        connection.socket.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if kind.receive_buffer:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, kind.receive_buffer)
        # Each address has 28,000 ports of its own.
        connection.socket.bind((f"127.0.1.{1 + self.opened % 8}", 0))
        self.opened += 1
        connection.socket.connect_ex(self.address)
        self.by_descriptor[connection.socket.fileno()] = connection
        self.epoll.register(connection.socket, select.EPOLLOUT | select.EPOLLRDHUP)

    def _event(self, connection, events):
        if events & (select.EPOLLERR | select.EPOLLHUP | select.EPOLLRDHUP):
            self._end(connection)
        elif events & select.EPOLLIN:
            self._receive(connection)
        elif events & select.EPOLLOUT:
            if not connection.is_connected:
                connection.is_connected = True
                self.established += 1
                self.came += 1
            if self.may_send > 0:
                self._send(connection)

    def _send(self, connection):
        """One piece, so that all get on alike."""
        opening = connection.kind.opening
        try:
            sent = connection.socket.send(opening[connection.sent : connection.sent + PIECE])
            connection.sent += sent
            self.may_send -= sent
        except BlockingIOError:
            pass
        except OSError:
            return self._end(connection)
        is_sent = connection.sent == len(opening)
        if is_sent and connection.kind.drip:
            self.due[connection.kind].append((self.last + connection.kind.every, connection))
        wanted = select.EPOLLRDHUP | (select.EPOLLIN if connection.kind.reads else 0)
        self.epoll.modify(connection.socket, wanted | (0 if is_sent else select.EPOLLOUT))

    def _drip(self, connection):
        """False if the connection is no more."""
        try:
            self.may_send -= connection.socket.send(connection.kind.drip)
        except BlockingIOError:
            # The server has stopped reading, and the kernel's buffers are full.
            return True
        except OSError:
            self._end(connection)
            return False
        return True

    def _receive(self, connection):
        answer = self._read(connection)
        if not self._serve(connection, answer):
            self._end(connection, answer)

    def _serve(self, connection, answer):
        is_answer = isinstance(answer, bytes) and answer.startswith(b"HTTP/1.1 200")
        if not is_answer or not connection.kind.is_served or connection.is_served:
            return False
        connection.is_served = True
        self.served += 1
        return True

    @staticmethod
    def _read(connection):
        try:
            return connection.socket.recv(PIECE)
        except BlockingIOError:
            return b""
        except OSError as problem:
            return problem

    def _end(self, connection, answer=None):
        """The server has ended it, or answered what it was not asked."""
        if answer is None:
            answer = self._read(connection)
        what = "closed"
        if isinstance(answer, OSError):
            what = "reset" if connection.is_connected else "not connected"
        elif answer.startswith(b"HTTP/1.") and not self._serve(connection, answer):
            what = answer[9:12].decode("latin-1")
        self.counts[what] += 1
        self._close(connection)
        if self.limits.reopens:
            self.missing.append(connection.kind)

    def _close(self, connection):
        connection.is_closed = True
        self.established -= connection.is_connected
        del self.by_descriptor[connection.socket.fileno()]
        connection.socket.close()

    def close(self):
        for connection in list(self.by_descriptor.values()):
            self._close(connection)
        self.epoll.close()
