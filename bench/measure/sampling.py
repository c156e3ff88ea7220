"""Samples a running two-tier each second: a row of a CSV file, and in the end a picture of them all."""

import csv
import dataclasses
import re
import statistics
import threading
import time
import urllib.request

from . import charts, process

# name in the CSV -> title of its panel in the picture
COLUMNS = {
    "requests_per_second": "requests a second",
    "p99_ms": "p99 in the server, ms",
    "resident_mb": "resident memory, MB",
    "threads": "threads",
    "descriptors": "descriptors",
    "cpu_percent": "processor, % of one core",
}


@dataclasses.dataclass
class Counters:
    """What /metrics has counted so far."""

    at: float
    requests: float
    # Requests at most so many seconds long.
    buckets: dict
    cpu_seconds: float

    @classmethod
    def read(cls, pid, ops_url):
        at = time.monotonic()
        page = urllib.request.urlopen(ops_url + "/metrics", timeout=30).read().decode()
        requests = sum(float(value) for value in re.findall(r"^two_tier_http_requests_total\{.*\} (\S+)$", page, re.M))
        buckets = {}
        bucket = r'^two_tier_http_request_duration_seconds_bucket\{le="(.+?)".*\} (\S+)$'
        for bound, count in re.findall(bucket, page, re.M):
            buckets[float(bound)] = buckets.get(float(bound), 0) + float(count)
        return cls(at, requests, buckets, process.cpu_seconds(pid))


class Sampler:
    """Runs from `with` to its end. `phase` names what is going on, and may be changed at any time."""

    def __init__(self, pid, ops_url, file):
        self.pid, self.ops_url = pid, ops_url
        self.phase = "before"
        self.rows = []
        self._file = open(file, "w", newline="")
        self._csv = csv.DictWriter(self._file, ["second", "phase", *COLUMNS])
        self._csv.writeheader()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._start = self._last = Counters.read(self.pid, self.ops_url)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self._thread.join()
        self._file.close()

    def _run(self):
        while not self._stopped.wait(max(0, self._start.at + len(self.rows) + 1 - time.monotonic())):
            try:
                self._sample()
            except OSError as problem:
                print(f"no sample: {problem}", flush=True)
                if self._stopped.wait(1):
                    return

    def _sample(self):
        now = Counters.read(self.pid, self.ops_url)
        seconds = now.at - self._last.at
        p99 = quantile(0.99, self._last.buckets, now.buckets)
        row = {
            "second": round(now.at - self._start.at, 2),
            "phase": self.phase,
            "requests_per_second": round((now.requests - self._last.requests) / seconds, 1),
            "p99_ms": None if p99 is None else round(p99 * 1000, 3),
            "resident_mb": round(process.resident_mb(self.pid), 2),
            "threads": process.threads(self.pid),
            "descriptors": process.descriptors(self.pid),
            "cpu_percent": round((now.cpu_seconds - self._last.cpu_seconds) / seconds * 100, 1),
        }
        self._last = now
        self.rows.append(row)
        self._csv.writerow(row)
        # Whatever ends the script, what was sampled is there.
        self._file.flush()

    def of(self, phase):
        return [row for row in self.rows if row["phase"] == phase]

    def draw(self, file, title):
        phases = [(rows[0]["second"], rows[-1]["second"], "load") for rows in [self.of("load")] if rows]
        panels = []
        seconds = [row["second"] for row in self.rows]
        for name, panel_title in COLUMNS.items():
            points = [(row["second"], row[name]) for row in self.rows if row[name] is not None]
            series = [charts.Series("two-tier", _thinned(points))]
            panel = charts.Panel(panel_title, series, "seconds", phases=phases, markers=False, x_values=seconds)
            panels.append(panel)
        charts.draw(file, title, panels)


def quantile(part, earlier, later):
    """As Prometheus' histogram_quantile, of what came between two readings; None where nothing did."""
    counts = sorted((bound, count - earlier.get(bound, 0)) for bound, count in later.items())
    total = counts[-1][1] if counts else 0
    if not total:
        return None
    below, below_count = 0.0, 0.0
    for bound, count in counts:
        if count >= part * total:
            if bound == float("inf"):
                return below
            return below + (bound - below) * (part * total - below_count) / (count - below_count)
        below, below_count = bound, count
    return below


def _thinned(points, most=600):
    """Of an hour no more points than the picture has room for: of each stretch the lowest and the highest."""
    if len(points) <= most:
        return points
    stretch = -(-2 * len(points) // most)
    thinned = []
    for start in range(0, len(points), stretch):
        some = points[start : start + stretch]
        thinned += sorted({min(some, key=lambda point: point[1]), max(some, key=lambda point: point[1])})
    return thinned


def compare_start_and_end(rows, name):
    """The medians of a column at the start and at the end of the rows, without the tenth in which all warms up."""
    rows = rows[len(rows) // 10 :]
    part = max(1, len(rows) // 5)
    values = [row[name] for row in rows]
    return statistics.median(values[:part]), statistics.median(values[-part:])
