#!/usr/bin/env python3
"""Runs the commands of README.md and of the other documents as they are printed there:
    tests/readme.py

A command that can run here does, against the release binary, and what it prints is what the document shows; ids and times
may differ. One that cannot (a cluster, a container engine, the whole test suite) must stand in the script or workflow
that runs it: ELSEWHERE says where, and what is written differently there. A command that is run nowhere is a failure,
and so is a link that leads nowhere.

Needs cargo, curl and openssl, and the ports 8080 and 9090; where it may, it takes a network of its own to have them free.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md",
             *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md"))]
SERVER = "cargo run --release"
PATIENCE = 30  # seconds

# Commands that are run by another file: which, and what is written differently there.
CI, CLUSTER = ".github/workflows/ci.yml", "tests/operations.sh"
TESTS = "timeout --verbose --kill-after=1m 40m cargo test --locked"
ELSEWHERE = {
    # .ci/run is what runs this file.
    ".ci/run": (".ci/run", {".ci/run": "tests/readme.py"}),
    "cargo fmt": (".ci/run", {"fmt": "fmt --check"}),
    "cargo clippy --all-targets -- -D warnings": (".ci/run", {"clippy": "clippy --locked"}),
    "cargo test": (".ci/run", {"cargo test": TESTS}),
    # A part of the above.
    "cargo test --test paging": (".ci/run", {"cargo test --test paging": TESTS}),
    "docker build --tag two-tier:0.1.0 .": (CI, {}),
    "docker run --read-only --cap-drop ALL --memory 128m --publish 127.0.0.1:8080:8080 --volume two-tier:/data two-tier:0.1.0":
        (CI, {"docker run": "docker run --detach --name readme"}),
    "docker compose up --build --wait": (CI, {}),
    "docker tag two-tier:0.1.0 registry.example.com/two-tier:0.1.0": (CI, {"registry.example.com": "localhost:5000"}),
    "docker push registry.example.com/two-tier:0.1.0": (CI, {"registry.example.com": "localhost:5000"}),
    "kind load docker-image two-tier:0.1.0": (CI, {}),
    "kubectl apply -f https://github.com/kubernetes-sigs/metrics-server/releases/download/v0.9.0/components.yaml": (CI, {}),
    "kubectl -n kube-system patch deployment metrics-server --type json -p "
    """'[{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"--kubelet-insecure-tls"}]'""": (CI, {}),
    "kubectl apply -f k8s.yaml": (CLUSTER, {}),
    "kubectl -n app-namespace rollout status deployment/app": (CLUSTER, {}),
    "kubectl -n app-namespace rollout restart deployment/app": (CLUSTER, {}),
    "kubectl -n app-namespace logs -l app.kubernetes.io/name=two-tier | grep 'reach the database'":
        (CLUSTER, {"database'": "database' || (($? == 1))"}),
    # In the background.
    "kubectl -n app-namespace port-forward service/app-service 8080:80": (CLUSTER, {"8080:80": "8080:80 &"}),
    # No terminal, and a minute of load.
    "kubectl run ab --rm -it --restart=Never --image=httpd:2.4-alpine -- ab -k -c 200 -n 1000000 http://app-service.app-namespace/data":
        (CLUSTER, {"-it": "-i", "1000000": "10000"}),
    # It has no end of its own.
    "kubectl -n app-namespace get hpa --watch": (CLUSTER, {"kubectl": "timeout 5 kubectl", "--watch": "--watch || (($? == 124))"}),
    "kubectl -n app-namespace set image deployment/app two-tier=two-tier:0.2.0": (CLUSTER, {}),
    # No terminal to ask for the password, and a stand-in for MongoDB where there is no image of it.
    "kubectl -n mongo-namespace exec -it mongo-0 -- mongosh -u root -p --authenticationDatabase admin two-tier "
    "/docker-entrypoint-initdb.d/mongo-init.js": (CLUSTER, {"-it": "-i", "-p": "-p change-me-root", "init.js": 'init.js 2>"$work/error" || is_stand_in'}),
    "kubectl -n app-namespace create secret docker-registry my-registry-secret --docker-server=registry.example.com "
    "--docker-username=USER --docker-password=PASSWORD": (CLUSTER, {}),
    """kubectl patch pv "$(kubectl -n mongo-namespace get pvc data-mongo-0 -o jsonpath='{.spec.volumeName}')" """
    """-p '{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}'""": (CLUSTER, {}),
    """kubectl patch pv VOLUME --type json -p '[{"op":"remove","path":"/spec/claimRef"}]'""": (CLUSTER, {"VOLUME": '"$volume"'}),
    "kubectl delete -f k8s.yaml": (CLUSTER, {}),
}

# What may be run here; a tool that could reach a cluster or an engine of whoever runs this may not.
TOOLS_HERE = ("curl ", "sed ", "seq ", SERVER)

# What has to be so before a command, and after it.
EMPTY_BEFORE = "curl -T export.ndjson"
MUST_NOT_BE_IN = {"my-k8s.yaml": "change-me-"}

# What differs from one time to the next.
ID, TIME = r"[0-9a-f]{24}", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
VARIES = re.compile(f"(?P<id>{ID})|(?P<time>{TIME})")
# Tools whose commands belong into a block, where this finds them.
IN_RUNNING_TEXT = re.compile(r"`((?:cargo|curl|docker|kubectl|podman|kind|sed|rustup|git) [^`]*)`")
# Of which the text speaks without asking for them.
ONLY_MENTIONED = {"cargo test", "curl --json", "minikube image load"}


class Command:
    def __init__(self, document, line, text):
        self.place, self.text, self.shown = f"{document}:{line}", text, None

    def __str__(self):
        return f"{self.place}: {self.text}"


def commands_of(document):
    """The commands of a document's blocks: each line of `sh`; of `console` what follows `$ `, with what is printed."""
    commands, language = [], None
    for number, line in enumerate((ROOT / document).read_text().splitlines(), 1):
        if fence := re.match(r"\s*```(\w*)", line):
            language = None if language is not None else fence[1]
            if language not in (None, "sh", "console", "text"):
                failures.append(f"{document}:{number}: a block of {language or 'no language'}; sh and console are run")
        elif language == "sh" and line.strip():
            commands.append(Command(document, number, line.strip()))
        elif language == "console" and line.startswith("$ "):
            commands.append(Command(document, number, line[2:]))
            commands[-1].shown = ""
        elif language == "console" and line:
            commands[-1].shown += line + "\n"
        elif language is None:
            for mentioned in IN_RUNNING_TEXT.findall(line):
                if mentioned not in ONLY_MENTIONED:
                    failures.append(f"{document}:{number}: `{mentioned}` is in the running text, where nothing runs it")
    return commands


def check_links(document):
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        file = (ROOT / document).parent / path if path else ROOT / document
        if not file.exists():
            failures.append(f"{document}: the link {target} leads nowhere")
        elif anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
            if anchor not in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]:
                failures.append(f"{document}: {path} has no heading #{anchor}")


def check_justfile():
    """Each command of the justfile also stands in CONTRIBUTING.md, without its arguments."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for line in (ROOT / "justfile").read_text().splitlines():
        if line.startswith("    ") and not line.startswith("    @"):
            command = line.split("{{")[0].strip()
            if command not in text:
                failures.append(f"justfile: CONTRIBUTING.md does not have {command}")


def stands_elsewhere(command):
    """Whether a line of the file is the command, but for what is written differently there."""
    file, differences = ELSEWHERE[command.text]
    wanted = command.text
    for printed, there in differences.items():
        if printed not in wanted:
            failures.append(f"{command}: has no {printed!r}, which ELSEWHERE replaces")
        wanted = wanted.replace(printed, there, 1)
    text = re.sub(r" \\\n +", " ", (ROOT / file).read_text())  # lines that go on
    lines = [line.strip().removeprefix("run: ") for line in text.splitlines()]
    if wanted not in lines:
        failures.append(f"{command}: {file} does not run it: there is no line\n    {wanted}")
    return file


class Here:
    """The server, and a directory like a clone for the commands that go with it."""

    def __init__(self, directory):
        self.clone, self.data, self.server = directory / "clone", directory / "two-tier.redb", None
        for file in subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines():
            if (ROOT / file).is_file():
                (self.clone / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, self.clone / file)

    def start(self):
        """The document's command in the repository itself, where what is built already is found."""
        with contextlib.suppress(OSError):
            socket.create_connection(("localhost", 8080), timeout=5).close()
            sys.exit("port 8080 is another server's")
        environment = {**os.environ, "DATA_FILE": str(self.data), "LOG": "off"}
        self.server = subprocess.Popen(["bash", "-c", SERVER], cwd=ROOT, env=environment, start_new_session=True)
        until = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                return urllib.request.urlopen("http://localhost:8080/", timeout=5).close()
            if self.server.poll() is not None or time.monotonic() > until:
                sys.exit(f"{SERVER}: the server does not answer")
            time.sleep(0.05)

    def stop(self):
        if self.server:
            # cargo, and the server that it runs.
            os.killpg(self.server.pid, signal.SIGTERM)
            self.server.wait(PATIENCE)
            self.server = None

    def run(self, command):
        if command.text == SERVER:
            if not self.server:
                self.start()
            return
        if command.text.startswith(EMPTY_BEFORE):
            self.stop()
            self.data.unlink()
            self.start()
        done = subprocess.run(["bash", "-o", "pipefail", "-c", command.text], cwd=self.clone, capture_output=True, text=True,
                              timeout=300)
        printed = done.stdout
        # So that an answer that tells of a failure is none, where nothing is shown.
        refused = command.shown is None and '"type":"about:blank"' in printed
        if done.returncode != 0 or refused:
            failures.append(f"{command}: ended with {done.returncode}: {printed}{done.stderr}")
        elif command.shown is not None and not matches(command.shown, printed):
            failures.append(f"{command}: printed\n    {printed}instead of\n    {command.shown}")
        for file, text in MUST_NOT_BE_IN.items():
            if command.text.endswith("> " + file) and text in (self.clone / file).read_text():
                failures.append(f"{command}: {file} still has {text}")


def matches(shown, printed):
    pattern, at = "", 0
    for found in VARIES.finditer(shown):
        pattern += re.escape(shown[at:found.start()]) + (ID if found["id"] else TIME)
        at = found.end()
    return re.fullmatch(pattern + re.escape(shown[at:]), printed) is not None


failures = []


def main():
    commands = [command for document in DOCUMENTS for command in commands_of(document)]
    for document in DOCUMENTS:
        check_links(document)
    check_justfile()
    used = {command.text for command in commands}
    failures.extend(f"ELSEWHERE has a command that no document has: {text}" for text in ELSEWHERE if text not in used)
    with tempfile.TemporaryDirectory() as directory:
        here = Here(pathlib.Path(directory))
        try:
            for command in commands:
                if command.text in ELSEWHERE:
                    print(f"{command}\n    by {stands_elsewhere(command)}")
                elif not command.text.startswith(TOOLS_HERE):
                    failures.append(f"{command}: nothing runs it")
                else:
                    before = len(failures)
                    here.run(command)
                    print(f"{command}\n    {'run' if len(failures) == before else 'FAILED'}", flush=True)
        finally:
            here.stop()
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    print(f"{len(commands)} commands in {len(DOCUMENTS)} documents, {len(failures)} failures")
    sys.exit(1 if failures else 0)


def in_a_network_of_its_own():
    """Starts this again where nobody else has the ports, if the system lets it; what cargo may have to fetch comes first."""
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)
    unshare = ["unshare", "--net"] if os.getuid() == 0 else ["unshare", "--net", "--map-root-user"]
    script = ["bash", "-c", 'ip link set lo up && exec "$@"', "-", sys.executable, __file__, "--here"]
    if subprocess.run([*unshare, "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0:
        sys.exit(subprocess.run([*unshare, *script]).returncode)


if __name__ == "__main__":
    if sys.argv[1:] != ["--here"]:
        with contextlib.suppress(FileNotFoundError):
            in_a_network_of_its_own()
    main()
