"""The places for connections: what a kept one takes, very many clients at once, and a newcomer where all is taken."""

from . import kinds, process
from .beside import WELCOME, alternate, apart
from .cgroup import Watch, two_tier
from .client import crowd as clients_at_once
from .findings import Findings
from .slow import NEARLY, Crowd, Limits, raise_descriptors

PLACES = 10_000
CLIENTS = 20_000
RESIDENT = 16
NEWCOMER = 1000
# All places, whatever is set aside.
MORE_THAN_ALL = 1.05


def measure(arguments):
    findings = Findings("Places")
    places = (arguments.connections or [PLACES])[0]
    _kept(findings, places, arguments)
    _once_each(findings, 2 * places)
    for name in ("idle", "kept", "head"):
        _newcomer(findings, name, int(places * MORE_THAN_ALL), min(arguments.seconds, 10))
    return findings


def _kept(findings, places, arguments):
    with two_tier() as server, Watch(server) as watch:
        limits = Limits(reopens=False)
        with Crowd(server.address, [kinds.BY_NAME["kept"]], places, limits) as crowd:
            is_served = crowd.wait(10 + places / 500, lambda: crowd.served >= places)
            served, still_open = crowd.served, crowd.open
            resident = process.resident_mb(server.pid)
        findings.note(watch.note())
    details = f"{served:,} were served, {still_open:,} are open; ended: {crowd.said()}; generator {crowd.cpu:.0%}"
    findings.check(f"{places:,} connections are kept after a request", is_served and still_open >= places, details)
    details = f"{resident:.1f} MB; at most: {watch}"
    findings.check(f"they take at most {RESIDENT} MB resident", is_served and watch.resident <= RESIDENT, details)
    is_met = is_served and watch.judged() <= arguments.memory
    findings.check(f"and at most {arguments.memory} MB in all", is_met, f"{watch.judged():.1f} MB")


def _once_each(findings, count):
    with two_tier() as server, Watch(server) as watch:
        outcome = apart(_come_and_leave, server.address, count)
    missing = count - outcome.answered
    times = sorted(outcome.first) or [0]
    details = (
        f"{outcome.took:.1f} s; {missing:,} were not, of them {outcome.refused:,} refused; "
        f"p50 {times[len(times) // 2]:.2g} s, most {times[-1]:.2g} s; {watch}"
    )
    findings.check(f"{count:,} clients that come at once, ask once and leave are all served", missing == 0, details)


def _come_and_leave(address, count):
    raise_descriptors(count + 200)
    return clients_at_once(address, count, 1, give_up=60)


def _newcomer(findings, name, count, seconds):
    """Beside connections of which those that have to give way come again."""
    with two_tier() as server:
        with Crowd(server.address, [kinds.BY_NAME[name]], count) as crowd:
            crowd.wait(10 + count / 500, lambda: crowd.open >= count * NEARLY)
            held = crowd.open
            outcome = apart(alternate, server.address, [WELCOME], seconds)["GET /"]
    title = f"a newcomer is served within {NEWCOMER / 1000:.0f} s where {count:,} want the places, "
    title += kinds.BY_NAME[name].title
    is_met = outcome.is_within(NEWCOMER, most=True) and held >= count * NEARLY
    details = f"{outcome}; {held:,} were open; ended: {crowd.said()}"
    findings.check(title, is_met, details)
