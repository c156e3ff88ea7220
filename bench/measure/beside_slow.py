"""A well-behaved client beside slow connections of one kind, or of all at once (slow clients cost next to nothing)."""

from . import kinds
from .beside import LARGE, SMALL_POST, WELCOME, alternate, apart, large
from .cgroup import Confined, Watch, two_tier
from .findings import Findings
from .servers import AXUM
from .slow import NEARLY, RIGHT_TO_SHED, Crowd, Limits

COUNTS = [1500, 5000]
MIXED = "mixed"
NAMES = [kind.name for kind in kinds.KINDS] + [MIXED]
P99 = 50
# The axum peer gets no further than its own `/`: it has no store of its own.
NOWHERE = "mongodb://127.0.0.1:1/bench"
_NOT_ASKED = dict.fromkeys([SMALL_POST.name, *LARGE], "-")


def measure(arguments):
    findings = Findings("Beside slow connections", [
        "A well-behaved client opens a connection for each request: p50 / p99 / most. `ended`: what the server did to "
        "slow ones. " + RIGHT_TO_SHED.format(Limits.connections),
    ])
    for count in arguments.connections or COUNTS:
        bound = P99
        for name in arguments.kind or NAMES:
            if name == "idle":
                peer = _axum(findings, count, arguments.seconds)
                bound = max(P99, 2 * peer.p99) if peer.p99 else P99
            _two_tier(findings, name, count, bound, arguments)
    return findings


def _axum(findings, count, seconds):
    with Confined([AXUM], MONGODB_URI=NOWHERE, PAGE="cursor") as server:
        with Crowd(server.address, [kinds.BY_NAME["idle"]], count) as crowd, _watch(server, crowd) as watch:
            crowd.wait(_patience(count), lambda: crowd.open >= count)
            began = len(watch.samples)
            outcome = apart(alternate, server.address, [WELCOME], seconds)["GET /"]
        findings.row(
            connections="idle, axum", of=count, open=watch.mean(began), **{"GET /": outcome}, **_NOT_ASKED,
            ended=crowd.said(), **watch.columns(), **_processors(watch, crowd),
        )
        return outcome


def _two_tier(findings, name, count, bound, arguments):
    chosen = kinds.KINDS if name == MIXED else [kinds.BY_NAME[name]]
    title = "all kinds mixed" if name == MIXED else chosen[0].title
    with two_tier() as server:
        server.post(kinds.DOCUMENTS)
        with Crowd(server.address, chosen, count) as crowd, _watch(server, crowd) as watch:
            crowd.wait(_patience(count), lambda: crowd.came >= count)
            began, came = len(watch.samples), crowd.came
            outcomes = apart(alternate, server.address, [WELCOME, SMALL_POST], arguments.seconds)
            others = apart(large, server.address, max(10, 2 * arguments.seconds))
        missed = [f"{what} failed" for what, one in outcomes.items() if one.failures]
        missed += [f"{what} over {bound:.0f} ms" for what, one in outcomes.items() if one.p99 and one.p99 > bound]
        missed += [what for what, took in others.items() if isinstance(took, str)]
        if watch.judged() > arguments.memory:
            missed.append(f"memory over {arguments.memory} MB")
        if came < count * NEARLY:
            missed.append("few connections came: says nothing")
        if server.process.poll() is not None:
            missed.append("the server has ended")
        findings.row(
            connections=title, of=count, open=watch.mean(began), **outcomes, **_seconds(others),
            ended=crowd.said(), **watch.columns(), **_processors(watch, crowd), missed=missed,
        )
        findings.note(watch.note())


def _watch(server, crowd):
    return Watch(server, gauge=lambda: crowd.open)


def _patience(count):
    """Seconds until so many connections should be open."""
    return 5 + count / 500


def _seconds(others):
    return {what: took if isinstance(took, str) else f"{took:.2g} s" for what, took in others.items()}


def _processors(watch, crowd):
    return {"processors: server": f"{watch.cpu:.0%}", "generator": f"{crowd.cpu:.0%}"}
