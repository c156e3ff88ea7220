"""Well-behaved clients for the soak: readers, writers, imports and exports, a thread each. They remember what was
acknowledged, and count whatever does not go as it should as a failure."""

import collections
import contextlib
import http.client
import itertools
import json
import random
import threading
import time

from .servers import address_of

JSON, NDJSON = "application/json", "application/x-ndjson"
# In seconds: as often as this adds to some hundred documents a second, which 20 minutes can hold.
WRITE_PAUSE, READ_PAUSE, IMPORT_PAUSE, EXPORT_PAUSE = 0.02, 0.005, 5, 10
IMPORTED = 1000
# Longer than anything that the server allows itself.
TIMEOUT = 60


class Behaved:
    """All of them, against one server. `max_documents`: the collection is checked and emptied when it has so many."""

    def __init__(self, url, empty=None, max_documents=None):
        self.address = address_of(url)
        self.empty, self.max_documents = empty, max_documents
        self.acknowledged = set()
        # Documents of earlier rounds, which were found and thrown away.
        self.checked = 0
        self.counts = collections.Counter()
        self.failures = []
        self._keys = itertools.count(1)
        self._lock = threading.Lock()
        self._busy = 0
        self._paused = False
        self._may_change = threading.Condition(self._lock)

    def run(self, stopped):
        """Until the event is set; then all that was acknowledged is looked for."""
        roles = 3 * [self._write] + 3 * [self._read] + [self._import, self._export]
        threads = [threading.Thread(target=self._role, args=(role, stopped)) for role in roles]
        for thread in threads:
            thread.start()
        while not stopped.wait(0.5):
            if self.max_documents and len(self.acknowledged) > self.max_documents:
                self._empty()
        for thread in threads:
            thread.join()
        self._check()

    def _role(self, role, stopped):
        connection = self._connection()
        while not stopped.is_set():
            try:
                pause = role(connection)
            except (OSError, http.client.HTTPException, ValueError) as problem:
                self._fail(f"{role.__name__}: {type(problem).__name__}: {problem}")
                connection.close()
                connection, pause = self._connection(), 1
            stopped.wait(pause)
        connection.close()

    def _connection(self):
        return http.client.HTTPConnection(*self.address, timeout=TIMEOUT)

    def _fail(self, what):
        with self._lock:
            self.counts["failed"] += 1
            if len(self.failures) < 20:
                self.failures.append(f"{time.strftime('%H:%M:%S')} {what}")

    @contextlib.contextmanager
    def _step(self):
        """No step is in progress while the collection is emptied."""
        with self._may_change:
            self._may_change.wait_for(lambda: not self._paused)
            self._busy += 1
        try:
            yield
        finally:
            with self._may_change:
                self._busy -= 1
                self._may_change.notify_all()

    def _empty(self):
        with self._may_change:
            self._paused = True
            self._may_change.wait_for(lambda: not self._busy)
        self._check()
        self.empty()
        with self._may_change:
            self.checked += len(self.acknowledged)
            self.acknowledged.clear()
            self._paused = False
            self._may_change.notify_all()

    def _ask(self, connection, method, path, status, body=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, headers, encode_chunked=headers.get("Transfer-Encoding") == "chunked")
        answer = connection.getresponse()
        text = answer.read()
        self.counts[f"{method} {path.split('?')[0] if '/data/' not in path else '/data/ID'}"] += 1
        if answer.status != status:
            raise ValueError(f"{method} {path}: {answer.status} {text[:300]!r}")
        return answer, text

    def _write(self, connection):
        with self._step():
            keys = [next(self._keys) for _ in range(random.choice([1, 1, 1, 1, 20]))]
            fields = {"name": "Ada", "tags": ["a", "b"], "at": {"$date": "2026-11-23T12:00:00Z"}}
            made = [{"key": key, **fields} for key in keys]
            body = json.dumps(made[0] if len(made) == 1 else made)
            answer, text = self._ask(connection, "POST", "/data", 201, body, Content_Type=JSON)
            self._remember(keys, json.loads(text)["inserted"])
            if location := answer.getheader("Location"):
                _, text = self._ask(connection, "GET", location, 200)
                if json.loads(text)["key"] != keys[0]:
                    raise ValueError(f"{location} is another document: {text[:200]!r}")
        return random.uniform(0, 2 * WRITE_PAUSE)

    def _remember(self, keys, inserted):
        if inserted != len(keys):
            raise ValueError(f"{inserted} documents were stored, not {len(keys)}")
        with self._lock:
            self.acknowledged.update(keys)

    def _read(self, connection):
        with self._step():
            self._ask(connection, "GET", "/", 200)
            answer, text = self._ask(connection, "GET", "/data", 200)
            page = json.loads(text)
            if link := answer.getheader("Link"):
                _, text = self._ask(connection, "GET", link[1 : link.index(">")], 200)
                following = json.loads(text)
                if not following or following[0]["_id"] == page[-1]["_id"]:
                    raise ValueError("the next page does not follow")
        return random.uniform(0, 2 * READ_PAUSE)

    def _import(self, connection):
        with self._step():
            keys = [next(self._keys) for _ in range(IMPORTED)]
            lines = (b"%b\n" % json.dumps({"key": key, "imported": True, "text": "x" * 100}).encode() for key in keys)
            options = {"Content_Type": NDJSON, "Transfer_Encoding": "chunked"}
            _, text = self._ask(connection, "POST", "/data", 201, lines, **options)
            self._remember(keys, json.loads(text)["inserted"])
        return IMPORT_PAUSE

    def _export(self, connection):
        with self._step():
            expected = len(self.acknowledged)
            lines = sum(chunk.count(b"\n") for chunk in self._exported(connection))
            if lines < expected:
                raise ValueError(f"an export had {lines} documents where {expected} were acknowledged before it")
        return EXPORT_PAUSE

    def _exported(self, connection):
        connection.request("GET", "/data", headers={"Accept": NDJSON})
        answer = connection.getresponse()
        self.counts["export"] += 1
        if answer.status != 200:
            raise ValueError(f"export: {answer.status} {answer.read()[:300]!r}")
        while chunk := answer.read(1 << 16):
            yield chunk

    def _check(self):
        """All that was acknowledged is there, once, and nothing that nobody has sent as a whole."""
        keys = []
        try:
            rest = b""
            for chunk in self._exported(self._connection()):
                *lines, rest = (rest + chunk).split(b"\n")
                documents = map(json.loads, lines)
                keys += [document["key"] for document in documents if "reset" not in document]
        except (OSError, http.client.HTTPException, ValueError, KeyError) as problem:
            return self._fail(f"the check: {type(problem).__name__}: {problem}")
        if missing := self.acknowledged - set(keys):
            self._fail(f"{len(missing)} acknowledged documents are not there, such as {sorted(missing)[:5]}")
        if len(keys) != len(set(keys)):
            self._fail(f"{len(keys) - len(set(keys))} documents are there twice")
