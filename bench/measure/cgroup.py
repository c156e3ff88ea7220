"""A server in a cgroup of its own, whose memory is then counted as a container's is: with what the kernel holds for it,
the buffers of its sockets among it. Version 1 or 2, whichever the machine has; it takes root."""

import os
import pathlib
import threading
import time

from . import process
from .servers import ALLOCATOR, BINARY, Server

ROOT = pathlib.Path("/sys/fs/cgroup")
# Enters the cgroup, and becomes the server without another process.
ENTER = ["sh", "-c", 'echo $$ > "$0" && exec "$@"']
MB = 1e6
# Far beyond any bound: for the machine, not for the measurement.
MOST = 3 << 30


class Cgroup:
    """`source` says what is read, or why nothing is."""

    def __init__(self):
        self.path = None
        own = {}
        for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            own |= {name: path for name in controllers.split(",")}
        if "memory" in own:
            self._create(ROOT / "memory", own["memory"], "memory.usage_in_bytes")
            self.source = "memory.usage_in_bytes + memory.kmem.tcp.usage_in_bytes (cgroup v1)"
        else:
            self._create(ROOT, own.get("", "/"), "memory.current")
            self.source = "memory.current (cgroup v2)"
        if self.path is None:
            self.source = "no cgroup could be made here (that takes root): resident size only"
        elif "memory" in own:
            (self.path / "memory.limit_in_bytes").write_text(str(MOST))
            # Version 1 counts the buffers of sockets only once their limit has been written.
            (self.path / "memory.kmem.tcp.limit_in_bytes").write_text(str(MOST))
        else:
            (self.path / "memory.max").write_text(str(MOST))

    def _create(self, root, own, needed):
        """Beneath our own cgroup, or beside it: one of version 2 that has processes can have no such children."""
        inside = root / own.lstrip("/")
        for parent in dict.fromkeys([inside, inside.parent, root]):
            path = parent / f"two-tier-bench-{os.getpid()}-{time.monotonic_ns()}"
            try:
                path.mkdir()
            except OSError:
                continue
            if (path / needed).exists():
                self.path = path
                return
            path.rmdir()

    def enter(self, command):
        return [*ENTER, self.path / "cgroup.procs", *command] if self.path else command

    def _number(self, name):
        try:
            return int((self.path / name).read_text())
        except FileNotFoundError:
            return 0

    def read(self):
        """Megabytes: all of it, and that part of it which is cached files, which the kernel gives up when it is short
        of memory."""
        if self.path is None:
            return None, None
        total = self._number("memory.current") or self._number("memory.usage_in_bytes")
        total += self._number("memory.kmem.tcp.usage_in_bytes")
        files = 0
        for line in (self.path / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            files += int(value) if name in ("active_file", "inactive_file") else 0
        return total / MB, files / MB

    def remove(self):
        for _ in range(50 if self.path else 0):
            try:
                return self.path.rmdir()
            except OSError:
                # Its last process is not quite gone.
                time.sleep(0.1)


class Confined(Server):
    """A server in a cgroup of its own."""

    def __init__(self, command, **settings):
        self.cgroup = Cgroup()
        try:
            super().__init__(self.cgroup.enter(command), settings)
        except BaseException:
            self._abandon()
            raise

    def _abandon(self):
        """It did not start, or we were told to end meanwhile."""
        if child := getattr(self, "process", None):
            child.kill()
            child.wait()
        self.cgroup.remove()

    def __exit__(self, *_):
        super().__exit__()
        self.cgroup.remove()


def two_tier(**settings):
    return Confined([BINARY], **{"GLIBC_TUNABLES": ALLOCATOR, **settings})


class Watch:
    """Samples a confined server ten times a second from `with` to its end. All in megabytes."""

    EVERY = 0.1

    def __init__(self, server, gauge=None):
        self.server, self.gauge = server, gauge
        # Of the cgroup: the most, and the most without cached files, with the files that there were then.
        self.current = self.unreclaimable = self.files = 0
        # (seconds, resident, threads, gauge)
        self.samples = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        began = time.monotonic()
        while not self._stopped.wait(self.EVERY):
            try:
                total, files = self.server.cgroup.read()
                sample = process.resident_mb(self.server.pid), process.threads(self.server.pid)
            except (OSError, TypeError):
                return
            self.samples.append((time.monotonic() - began, *sample, self.gauge() if self.gauge else None))
            if total is not None:
                self.current = max(self.current, total)
                if total - files > self.unreclaimable:
                    self.unreclaimable, self.files = total - files, files

    def __enter__(self):
        process.reset_peak(self.server.pid)
        self._cpu, self._began = process.cpu_seconds(self.server.pid), time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self._thread.join()
        self.resident = self.cpu = 0
        if self.server.process.poll() is None:
            self.resident = process.peak_mb(self.server.pid)
            self.cpu = (process.cpu_seconds(self.server.pid) - self._cpu) / (time.monotonic() - self._began)

    def mean(self, began):
        """Of the gauge, from that sample on."""
        values = [gauge for *_, gauge in self.samples[began:]]
        return round(sum(values) / len(values)) if values else "-"

    def note(self):
        text = f"Memory, the most that was seen ten times a second: {self.server.cgroup.source}."
        if self.server.cgroup.path:
            text += " Judged without files: what is cached of the data file is given up as soon as memory is short."
        return text

    def judged(self):
        """What has to stay under the bound: all but cached files, or the resident size where there is no cgroup."""
        return self.unreclaimable or self.resident

    def __str__(self):
        return ", ".join(f"{name} {value}" for name, value in self.columns().items())

    def columns(self):
        row = {"RSS, MB": round(self.resident, 1)}
        if self.server.cgroup.path:
            row |= {"cgroup, MB": round(self.current, 1), "without files": round(self.unreclaimable, 1)}
        return row
