"""On what something was measured, and with which versions."""

import os
import pathlib
import re
import subprocess
import tomllib

from .servers import BINARY, ROOT


def machine():
    """Its shape, not its name."""
    memory = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) / 1024**2
    return f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, Linux {'.'.join(os.uname().release.split('.')[:2])}"


def versions(database):
    found = {"two-tier": own_version()}
    lock = tomllib.loads((ROOT / "bench/axum/Cargo.lock").read_text())
    for package in lock["package"]:
        if package["name"] in ("axum", "mongodb", "tokio"):
            found[package["name"]] = package["version"]
    for line in (ROOT / "bench/flask/requirements.txt").read_text().split():
        name, version = line.split("==")
        found[name] = version
    if database:
        found["database"] = database.version
    return found


def own_version():
    output = subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True).stdout
    return output.strip().removeprefix("two-tier ")
