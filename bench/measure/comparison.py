"""Candidates side by side: each in turn, by number of clients, in several rounds."""

import statistics
import sys


def compare(servers, measure, clients, rounds):
    """{candidate: {clients: [measurement of each round]}}. A failed request of two-tier's ends the run; the others'
    are counted."""
    results = {name: {str(count): [] for count in clients} for name in servers}
    for count in clients:
        for turn in range(rounds):
            for name in servers if turn % 2 == 0 else reversed(servers):
                result = measure(servers[name], count)
                results[name][str(count)].append(result)
                if result["failed"] and name in ("two-tier", "grouping off"):
                    sys.exit(f"{result['failed']} requests of {name} failed at {count} clients: {result}")
        rates = ", ".join(f"{name} {median(results[name], count, 'rate'):,.0f}/s" for name in servers)
        print(f"  {count} clients: {rates}", file=sys.stderr, flush=True)
    return results


def figures(candidate, clients, name):
    """What the rounds have measured."""
    values = [measurement[name] for measurement in candidate[str(clients)]]
    return [value for value in values if value is not None]


def median(candidate, clients, name):
    values = figures(candidate, clients, name)
    return statistics.median(values) if values else None
