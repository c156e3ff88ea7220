"""What is measured, as processes: two-tier, what it is compared with, and the database. Each starts on a free port of
its own and is ended with its `with` block.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# Built and run as the image does it.
DOCKERFILE = (ROOT / "Dockerfile").read_text()
RUSTFLAGS = re.search(r'RUSTFLAGS="(.*)"', DOCKERFILE)[1]
TARGET = f"{os.uname().machine}-unknown-linux-gnu"
BINARY = pathlib.Path(os.environ.get("BINARY", ROOT / "target" / TARGET / "release/two-tier")).resolve()
BARE_LOOP = ROOT / "bench/bare-loop/target/release/bare-loop"
AXUM = pathlib.Path(os.environ.get("AXUM", ROOT / "bench/axum/target/release/axum-peer")).resolve()
PYTHON = ROOT / "target/bench-flask/bin/python"
ALLOCATOR = os.environ.get("GLIBC_TUNABLES", re.search(r"GLIBC_TUNABLES=(\S+)", DOCKERFILE)[1])


def end_with_sigterm():
    """SIGTERM ends a script as Ctrl-C does: through its `with` blocks, and with them its servers."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def build(*crates):
    """Builds two-tier and the crates in bench/ that are named, unless BINARY or AXUM names one that is there."""
    release = ["cargo", "build", "--locked", "--release", "--quiet"]
    if "BINARY" not in os.environ:
        environment = {**os.environ, "RUSTFLAGS": RUSTFLAGS}
        subprocess.run([*release, "--target", TARGET], cwd=ROOT, env=environment, check=True)
    for crate in (crate for crate in crates if crate.upper() not in os.environ):
        subprocess.run(release, cwd=ROOT / "bench" / crate, check=True)


def build_flask():
    """A Python environment of its own; its PyMongo also empties the database between measurements."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", PYTHON.parent.parent], check=True)
        requirements = ROOT / "bench/flask/requirements.txt"
        subprocess.run([PYTHON, "-m", "pip", "install", "-q", "-r", requirements], check=True)


class Server:
    """A process that says on its output where it listens."""

    LISTENS = r"listens on (http://[\d.:]+)"

    def __init__(self, command, settings=None):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="two-tier-bench-"))
        environment = {"PORT": "0", "OPS_PORT": "0", "LOG": "off", "PATH": os.environ["PATH"], **(settings or {})}
        self.log = []
        started = time.monotonic()
        # A session of its own: Ctrl-C is for the script, which then ends its servers in order.
        self.process = subprocess.Popen(
            command, env=environment, cwd=self.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )
        self.pid = self.process.pid
        for line in self.process.stdout:
            self.log.append(line)
            if match := re.search(self.LISTENS, line):
                self.url = match[1]
                self.ops_url = (re.search(r"operations port on (http://[\d.:]+)", line) or [None, None])[1]
                break
        else:
            sys.exit(f"{command} did not start:\n{''.join(self.log)}")
        self.address = address_of(self.url)
        ask(self.address)
        self.first_answer = time.monotonic() - started
        threading.Thread(target=lambda: self.log.extend(self.process.stdout), daemon=True).start()

    def get(self, path="/data"):
        return urllib.request.urlopen(self.url + path).read()

    def post(self, documents):
        headers = {"Content-Type": "application/x-ndjson"}
        request = urllib.request.Request(self.url + "/data", documents.encode(), headers)
        return json.load(urllib.request.urlopen(request))["inserted"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


class TwoTier(Server):
    def __init__(self, **settings):
        super().__init__([BINARY], {"GLIBC_TUNABLES": ALLOCATOR, **settings})


class Flask(Server):
    """Behind gunicorn, with as many workers and threads as its own documentation recommends for the machine."""

    LISTENS = r"Listening at: (http://[\d.:]+)"

    def __init__(self, uri):
        build_flask()
        command = [PYTHON, "-m", "gunicorn", "-b", "127.0.0.1:0", "-w", str(2 * os.cpu_count() + 1), "--threads", "8"]
        super().__init__([*command, "--chdir", ROOT / "bench/flask", "app:app"], {"MONGODB_URI": uri})


class Axum(Server):
    def __init__(self, uri, page):
        super().__init__([AXUM], {"MONGODB_URI": uri, "PAGE": page})


class Database:
    """The MongoDB at `uri`, or else a FerretDB of our own."""

    def __init__(self, uri=None):
        build_flask()
        self.process = None
        self.uri = uri
        if uri is None:
            self._start_ferretdb()
        info = json.loads(self._pymongo("print(json.dumps(client.server_info(), default=str))"))
        ferretdb = info.get("ferretdb", info.get("ferretdbVersion"))
        if isinstance(ferretdb, dict):
            ferretdb = ferretdb.get("version")
        self.version = f"FerretDB {ferretdb} on SQLite" if ferretdb else f"MongoDB {info['version']}"

    def _start_ferretdb(self):
        program = _ferretdb()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="two-tier-bench-"))
        port = free_port()
        self.process = subprocess.Popen(
            [program, "--handler=sqlite", f"--sqlite-url=file:{self.directory}/", f"--state-dir={self.directory}",
             f"--listen-addr=127.0.0.1:{port}", "--debug-addr=-", "--telemetry=disable", "--log-level=ERROR",
             "--test-enable-new-auth", "--setup-database=admin", "--setup-username=root", "--setup-password=secret"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )
        wait_for_port(("127.0.0.1", port), self.process)
        self.uri = f"mongodb://root:secret@127.0.0.1:{port}/bench?authSource=admin"

    def empty(self):
        self._pymongo("client.get_default_database()['data'].drop()")

    def _pymongo(self, code):
        code = f"import json, os, pymongo; client = pymongo.MongoClient(os.environ['URI']); {code}"
        return subprocess.run([PYTHON, "-c", code], env={"URI": self.uri}, check=True, stdout=subprocess.PIPE).stdout

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.terminate()
            self.process.wait(30)
            shutil.rmtree(self.directory, ignore_errors=True)


def _ferretdb():
    """The one that the tests have built, else it is built the same way."""
    tools = ROOT / "target/tmp/tools"
    built = sorted(tools.glob("ferretdb-[0-9a-f]*"), key=lambda path: path.stat().st_mtime)
    built = [path for path in built if os.access(path, os.X_OK) and path.suffix == ""]
    if not built:
        tools.mkdir(parents=True, exist_ok=True)
        subprocess.run([ROOT / "tests/ferretdb/build.sh", tools / "ferretdb-b"], check=True)
        built = [tools / "ferretdb-b"]
    return built[-1]


def settle(server):
    """Waits until the database has done what the last candidate's clients have left it to do."""
    fastest = None
    until = time.monotonic() + 60
    calm = 0
    while calm < 5 and time.monotonic() < until:
        started = time.monotonic()
        server.get()
        took = time.monotonic() - started
        fastest = min(took, fastest or took)
        calm = calm + 1 if took < 2 * fastest else 0


def documents(count):
    return "".join(f'{{"name":"Ada","number":{number},"active":true}}\n' for number in range(count))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_port(address, process):
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        try:
            return socket.create_connection(address).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
    sys.exit(f"nothing listens on {address}")


def address_of(url):
    host, port = url.removeprefix("http://").rstrip("/").split("/")[0].split(":")
    return host, int(port)


def ask(address, path="/"):
    """One request without a library, whose import and parsing would count as the server's."""
    with socket.create_connection(address) as connection:
        # HTTP/1.0: the answer ends with the connection.
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer
