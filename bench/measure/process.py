"""What a process takes, from proc(5)."""

import os
import pathlib
import re

TICKS = os.sysconf("SC_CLK_TCK")


def _status(pid, name):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(name + r":\s+(\d+)", status)[1])


def resident_mb(pid):
    return _status(pid, "VmRSS") * 1024 / 1e6


def peak_mb(pid):
    """Since `reset_peak`."""
    return _status(pid, "VmHWM") * 1024 / 1e6


def reset_peak(pid):
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


def threads(pid):
    return _status(pid, "Threads")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
