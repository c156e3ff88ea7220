"""Load from wrk and ab, and what they say about it: one dictionary a measurement, its times in milliseconds."""

import json
import os
import pathlib
import re
import subprocess
import tempfile

WRK_SCRIPT = pathlib.Path(__file__).resolve().parent.parent / "wrk.lua"
BODY = '{"name":"Ada","born":1815,"mathematician":true}'


def wrk(url, clients, seconds, body=None):
    """A connection a client, kept, with one request after the other."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "-s", WRK_SCRIPT, url]
    environment = {"PATH": os.environ["PATH"], **({"BODY": body} if body else {})}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    result = json.loads(output.splitlines()[-1])
    return {
        "rate": result["requests"] / result["microseconds"] * 1e6,
        "requests": result["requests"],
        "failed": result["failed"],
        **{name: result[name] / 1000 for name in ("p50", "p99", "p99.9")},
    }


def ab(url, clients, seconds):
    """A connection a request."""
    with tempfile.NamedTemporaryFile() as percentiles:
        # More than there can be: -t by itself would end after 50,000.
        command = ["ab", "-q", "-t", str(seconds), "-n", "10000000", "-c", str(clients), "-e", percentiles.name, url]
        output = subprocess.run(command, capture_output=True, text=True).stdout
        return read_ab(output, pathlib.Path(percentiles.name).read_text())


def read_ab(output, percentiles=""):
    """From ab's report, and from what its -e has written: a line a whole percent."""
    if "Complete requests" not in output:
        raise RuntimeError(f"ab did not run to its end:\n{output}")

    def number(name):
        match = re.search(name + r":\s+([\d.]+)", output)
        return float(match[1]) if match else 0

    times = dict(line.split(",") for line in percentiles.splitlines()[1:])
    return {
        "rate": number("Requests per second"),
        "requests": int(number("Complete requests")),
        "failed": int(number("Failed requests") + number("Non-2xx responses")),
        "p50": float(times["50"]) if "50" in times else None,
        "p99": float(times["99"]) if "99" in times else None,
        "p99.9": None,
    }
