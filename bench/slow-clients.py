#!/usr/bin/env python3
"""What slow and hostile clients cost: those that are well-behaved beside them, memory, and the places for connections.

    bench/slow-clients.py                          well-behaved clients beside each kind of slow connection; 15 minutes
    bench/slow-clients.py --kind idle --kind head --connections 1500 --seconds 5
    bench/slow-clients.py --places                 10,000 kept connections, 20,000 clients, newcomers where all is taken
    bench/slow-clients.py --starve                 stalled bodies beside honest ones
    bench/slow-clients.py --bound                  the largest requests and answers at once, in the memory's bound
    bench/slow-clients.py --silent-database        a database that accepts and never answers
    bench/slow-clients.py --progress               slow honest clients to their end, stalled ones to theirs; 5 minutes

Beside two-tier, on the embedded store with default settings, the axum peer where it can take part. Writes
bench/slow-clients.md, a section a part. Exit code 1 if a bound was missed. Ctrl-C ends it and all that it has started.
Memory is measured in a cgroup of the server's own where one can be made (as root). BINARY: another two-tier than the
one that is built as the image builds it; AXUM: another axum peer.
"""

import argparse
import pathlib
import sys

from measure import beside_slow, bound, places, progress, servers, silent, starve
from measure.findings import write

MODES = {
    "places": places.measure,
    "starve": starve.measure,
    "bound": bound.measure,
    "silent-database": silent.measure,
    "progress": progress.measure,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in MODES:
        parser.add_argument(f"--{name}", dest="modes", action="append_const", const=name)
    parser.add_argument("--kind", action="append", choices=beside_slow.NAMES, help="of slow connection; default: each")
    parser.add_argument("--connections", type=int, nargs="+", metavar="N", help="default: as the part has them")
    parser.add_argument("--seconds", type=int, default=15, help="of the well-behaved client, for each row")
    parser.add_argument("--memory", type=int, default=128, metavar="MB", help="the bound that is judged by")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent / "slow-clients.md")
    arguments = parser.parse_args()
    servers.end_with_sigterm()
    servers.build(*([] if arguments.modes else ["axum"]))
    is_good = True
    for measure in [MODES[name] for name in arguments.modes or []] or [beside_slow.measure]:
        findings = measure(arguments)
        is_good &= findings.is_good
        # After each part, so that a run that is broken off keeps what it has.
        write(arguments.out, "Slow and hostile clients", [findings])
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
