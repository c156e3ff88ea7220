"""Stalled bodies of 1 MB, and honest requests with a body beside them (nobody starves)."""

from . import kinds
from .beside import POST_17_KB, POST_900_KB, TWO_BYTES, alternate, apart
from .cgroup import Watch, two_tier
from .findings import Findings
from .slow import NEARLY, RIGHT_TO_SHED, Crowd, Limits

COUNTS = [16, 200, 5000]
HONEST = 1000
# A body of two bytes needs nothing that others could hold.
TINY = 100
# Half of the body is there; then nothing, or as much as is legal (1 KiB/s).
SENT = 500_000
STALLED = [
    kinds.stalled_body("silent", "silent", SENT),
    kinds.stalled_body("legal", "1.1 KB/s each", SENT, 1127 * b"x"),
]


def measure(arguments):
    findings = Findings("Nobody starves", [
        f"Bodies of 1 MB that stop after {SENT // 1000} KB; honest requests beside them, each with a connection of its "
        "own: p50 / p99 / most. " + RIGHT_TO_SHED.format(Limits.connections),
    ])
    for kind in STALLED:
        for count in arguments.connections or COUNTS:
            _row(findings, kind, count, arguments)
    return findings


def _row(findings, kind, count, arguments):
    with two_tier() as server:
        with Crowd(server.address, [kind], count) as crowd, Watch(server, gauge=lambda: crowd.open) as watch:
            crowd.wait(5 + count / 500, lambda: crowd.came >= count)
            began, came = len(watch.samples), crowd.came
            asks = [POST_17_KB, POST_900_KB, TWO_BYTES]
            outcomes = apart(alternate, server.address, asks, min(arguments.seconds, 10))
        bounds = {ask.name: HONEST for ask in asks} | {TWO_BYTES.name: TINY}
        missed = [name for name, one in outcomes.items() if not one.is_within(bounds[name], most=True)]
        if came < count * NEARLY:
            missed.append("few bodies came: says nothing")
        if watch.judged() > arguments.memory:
            missed.append(f"memory over {arguments.memory} MB")
        findings.note(watch.note())
        findings.row(
            bodies=kind.title, of=count, open=watch.mean(began), **outcomes, ended=crowd.said(),
            **watch.columns(), generator=f"{crowd.cpu:.0%}", missed=missed,
        )
