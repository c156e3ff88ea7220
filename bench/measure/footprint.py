"""What two-tier takes: memory by number of clients, the time to its first answer, the size of its binary. Each row is
[what, value, unit, target]."""

import statistics

from .load import BODY, wrk
from .process import peak_mb, reset_peak, resident_mb
from .servers import BINARY, TwoTier, documents

IDLE_TARGET = 8
TARGETS = {200: 16, 1000: 32}
START_TARGET = 15
SIZE_TARGET = 6
STARTS = 9
LOADS = [("GET /", "/", None), ("GET /data", "/data", None), ("POST /data", "/data", BODY)]


def on(uri):
    """The settings for a store: MongoDB, or the embedded one where there is no URI."""
    return {"MONGODB_URI": uri} if uri else {}


def measure_footprint(database, seconds):
    """On a new server for each number of clients, since memory that was needed once is not all given back."""
    rows = []
    for allocator, settings in {"": {}, ", allocator not set": {"GLIBC_TUNABLES": ""}}.items():
        for store, uri in (("embedded store", None), ("MongoDB", database.uri)):
            name = f"{store}{allocator}"
            if uri:
                database.empty()
            for clients, target in TARGETS.items():
                with TwoTier(**on(uri), **settings) as server:
                    # A query has connected the driver.
                    server.get()
                    if clients == min(TARGETS):
                        rows.append([f"resident, idle, {name}", resident_mb(server.pid), "MB", IDLE_TARGET])
                    server.post(documents(1000))
                    for what, path, body in LOADS:
                        reset_peak(server.pid)
                        if failed := wrk(server.url + path, clients, seconds, body)["failed"]:
                            raise RuntimeError(f"{failed} requests failed: {what}, {clients} clients, {name}")
                        label = f"resident, most under {clients} clients, {name}: {what}"
                        rows.append([label, peak_mb(server.pid), "MB", target])
                    rows.append([f"resident, after {clients} clients, {name}", resident_mb(server.pid), "MB", target])
    return rows


def measure_start(database):
    rows = []
    for store, uri in (("new data file", None), ("MongoDB", database.uri)):
        times = []
        for _ in range(STARTS):
            with TwoTier(**on(uri)) as server:
                times.append(server.first_answer * 1000)
        rows.append([f"exec to first answer, {store}", statistics.median(times), "ms", START_TARGET])
    return [*rows, ["binary, which is nearly all of the image", BINARY.stat().st_size / 1e6, "MB", SIZE_TARGET]]
