"""results.json -> results.md and the charts."""

from . import charts
from .comparison import figures, median

INTRODUCTION = """\
# What two-tier was measured to do

Written by `bench/run.py`; `bench/README.md` says how to repeat it. The load comes from the same machine, so it takes a
part of the processors from what it measures: the figures compare, they do not say what a server by itself can do. A
client sends its next request when its last one is answered, so few clients and slow answers make few requests. Each
rate is the median of the rounds with the lowest and the highest in brackets, each latency the median of the rounds.
Latencies are those of requests that were answered before the end of a round: where a round has few, they are too low.
"""

FERRETDB = """\
The MongoDB here is FerretDB on SQLite, on the same machine. It sorts the whole collection for each page, so a query
that many share is worth more than on MongoDB itself.
"""

# Fewer answers than this in a round say nothing about one in a thousand.
ENOUGH_FOR_P999 = 1000


def write(results, parts, bench):
    tables = {name: results[name] for name in parts if "measurements" in results.get(name, {})}
    databases = {part["versions"].get("database", "") for part in tables.values()}
    notes = [FERRETDB] if any("FerretDB" in name for name in databases) else []
    lines = [INTRODUCTION, *notes, "## Targets", "", *_targets(results)]
    for name, part in tables.items():
        _chart(bench / f"charts/{name}.svg", part)
        lines += ["", f"## {part['title']}", "", f"![{part['title'].replace('`', '')}](charts/{name}.svg)", ""]
        lines += [*_rates(part), "", *_latencies(part), "", _conditions(part)]
    for name in ("footprint", "start"):
        if name in results:
            title = {"footprint": "Memory", "start": "Start and size"}[name]
            lines += ["", f"## {title}", "", *_rows(results[name]["rows"]), "", _conditions(results[name])]
    (bench / "results.md").write_text("\n".join(lines) + "\n")


def _conditions(part):
    versions = ", ".join(f"{name} {version}" for name, version in part["versions"].items())
    rounds = f"{part['rounds']} round{'s' * (part['rounds'] != 1)} of {part['seconds']} s"
    return f"{part['date']}, {rounds}, {part['took'] / 60:.1f} minutes in all; {part['machine']}; {versions}."


def _rates(part):
    candidates = part["measurements"]
    own, *others = candidates
    ratios = f" | {own} : {', '.join(others)}" if others else ""
    yield f"| clients | {' | '.join(f'{name}, req/s' for name in candidates)}{ratios} |"
    yield "|---:|" + "---:|" * (len(candidates) + bool(others))
    for clients in candidates[own]:
        cells = []
        for candidate in candidates.values():
            rates = figures(candidate, clients, "rate")
            failed = sum(figures(candidate, clients, "failed"))
            cell = f"{_rate(median(candidate, clients, 'rate'))} ({_rate(min(rates))}–{_rate(max(rates))})"
            cells.append(cell + f", **{failed} failed**" * bool(failed))
        ratio = ", ".join(_ratio(part, other, clients) for other in others)
        yield f"| {clients} | {' | '.join(cells)} | {ratio} |" if others else f"| {clients} | {' | '.join(cells)} |"


def _rate(value):
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _ratio(part, other, clients):
    value = ratio(part, other, clients)
    return "–" if value is None else f"{value:.3g}"


def ratio(part, other, clients):
    """Of two-tier's rate to another's."""
    own = median(next(iter(part["measurements"].values())), clients, "rate")
    rate = median(part["measurements"][other], clients, "rate")
    return own / rate if rate else None


def _latencies(part):
    yield f"| clients | {' | '.join(f'{name}, p50 / p99 / p99.9 ms' for name in part['measurements'])} |"
    yield "|---:|" + "---:|" * len(part["measurements"])
    for clients in next(iter(part["measurements"].values())):
        cells = (_percentiles(candidate, clients) for candidate in part["measurements"].values())
        yield f"| {clients} | {' | '.join(cells)} |"


def _percentiles(candidate, clients):
    values = [median(candidate, clients, name) for name in ("p50", "p99", "p99.9")]
    if min(figures(candidate, clients, "requests")) < ENOUGH_FOR_P999:
        values[2] = None
    return " / ".join("–" if value is None else f"{value:,.{2 if value < 10 else 0}f}" for value in values)


def _chart(path, part):
    clients = list(next(iter(part["measurements"].values())))
    rates, latencies = [], []
    for name, candidate in part["measurements"].items():
        points = []
        for count in clients:
            values = figures(candidate, count, "rate")
            points.append((count, median(candidate, count, "rate"), min(values), max(values)))
        rates.append(charts.Series(name, points))
        points = [
            (count, median(candidate, count, "p99"), median(candidate, count, "p50"), median(candidate, count, "p99.9"))
            for count in clients
            if median(candidate, count, "p99") is not None
        ]
        latencies.append(charts.Series(name, points))
    high = max(point[1] for series in rates for point in series.points)
    low = min(point[1] for series in rates for point in series.points)
    panels = [
        charts.Panel("requests a second", rates, "clients", categories=clients, log_y=high > 20 * max(low, 1)),
        charts.Panel("p99, ms (bar: p50 to p99.9)", latencies, "clients", categories=clients, log_y=True),
    ]
    charts.draw(path, part["title"].replace("`", ""), panels)


def _targets(results):
    yield "| Measure | Target | Measured | |"
    yield "|---|---:|---:|---|"
    for what, target, measured, is_met in _target_rows(results):
        yield f"| {what} | {target} | {measured} | {'met' if is_met else '**missed**'} |"


def _target_rows(results):
    ratios = [
        *(("root", "axum", clients, 1) for clients in (1, 64, 200, 1000)),
        ("root", "bare loop", 200, 0.8), ("root", "Flask", 200, 5), ("root-connections", "axum", 200, 1),
        ("get-mongodb", "axum cursor", 200, 100), ("get-mongodb", "axum single batch", 200, 10),
        ("get-mongodb", "axum cursor", 1, 1), ("get-mongodb", "axum single batch", 1, 1),
        ("post-mongodb", "axum", 200, 8), ("post-mongodb", "axum", 1, 0.95),
    ]
    for name, other, clients, target in ratios:
        if name in results:
            value = ratio(results[name], other, clients)
            what = f"{results[name]['title']}: of {other}'s rate at {clients} client{'s' * (clients != 1)}"
            yield what, f"≥ {target}", f"{value or 0:.3g}", (value or 0) >= target
    for name in ("footprint", "start"):
        most = {}
        # One line for all loads; what is left after them is no more than what there was under them.
        for what, value, unit, target in results.get(name, {}).get("rows", []):
            what = what.split(":")[0]
            if "after" not in what:
                most[what] = max((value, unit, target), most.get(what, (0, unit, target)))
        for what, (value, unit, target) in most.items():
            yield what, f"≤ {target} {unit}", f"{value:.1f} {unit}", value <= target


def _rows(rows):
    yield "| | measured | target |"
    yield "|---|---:|---:|"
    for what, value, unit, target in rows:
        yield f"| {what} | {value:.1f} {unit} | {target} {unit} |"
