"""The table: a line per row and server, medians with the least and the greatest, ratios of pairs of runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from bench.load.measure import Measurement, Results
from bench.load.rows import LIMIT

HEAD = (
    "what",
    "server",
    "per CPU-s",
    "spread",
    "broker's CPU",
    "with it",
    "of the limit",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "p99 to the limit's",
    "messages a frame",
    "bytes a message",
    "faults",
)
GOALS_HEAD = ("what", "beside", "demanded", "measured", "spread", "reached")


def rows_of(what: str, results: Results, reference: str = LIMIT) -> list[list[str]]:
    """Return the lines of one row of runs; ratios count the brokers' CPU. An overloaded server has fewer runs."""
    return [_line(what, name, runs, results[reference]) for name, runs in results.items()]


def _line(what: str, name: str, runs: Sequence[Measurement], reference: Sequence[Measurement]) -> list[str]:
    pairs = [] if runs is reference else [*zip(runs, reference, strict=False)]
    delay = "" if any(run.said.get("deliveries") for run in runs) else "ack_"
    rates = [run.per_server_cpu for run in runs]
    return [
        what,
        name,
        thousands(statistics.median(rates)),
        f"{thousands(min(rates))} to {thousands(max(rates))}",
        *_with_brokers(runs),
        _spread([ours.per_cpu / its.per_cpu for ours, its in pairs if its.count]),
        *(_milliseconds(runs, f"{delay}{quantile}_us") for quantile in ("p50", "p99", "p999")),
        _spread([ours / its for ours, its in _both(pairs, f"{delay}p99_us")]),
        _merging(runs),
        _bytes(runs),
        faults(runs),
    ]


def _with_brokers(runs: Sequence[Measurement]) -> tuple[str, str]:
    """Return the brokers' CPU for each second of the server's, and the rate when it counts."""
    shares = [run.broker_cpu / run.server_cpu for run in runs if run.broker_cpu and run.server_cpu]
    if not shares:
        return "", ""
    return f"{statistics.median(shares):.0%}", thousands(statistics.median(run.per_cpu for run in runs))


def _both(pairs: Iterable[tuple[Measurement, Measurement]], name: str) -> list[tuple[float, float]]:
    """Return a latency of both of each pair, where both have one."""
    found = [(ours.said.get(name), its.said.get(name)) for ours, its in pairs]
    return [(ours, its) for ours, its in found if ours and its]


def memory_rows(what: str, found: Mapping[str, Sequence[float]]) -> list[list[str]]:
    """Return the lines of KiB per connection."""
    return [
        [
            what,
            name,
            _kib(statistics.median(sizes)),
            f"{_kib(min(sizes))} to {_kib(max(sizes))}",
        ]
        + [""] * (len(HEAD) - 4)
        for name, sizes in found.items()
    ]


def table(lines: Iterable[Sequence[str]], head: Sequence[str] = HEAD) -> str:
    """Return a Markdown table with its columns aligned."""
    rows = [head, *lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def document(
    about: Mapping[str, Mapping[str, object]],
    notes: Sequence[str],
    lines: Iterable[Sequence[str]],
    goals: Iterable[Sequence[str]],
) -> str:
    """Return all that a reader needs, in Markdown: what was measured how, what was not, goals, table."""
    facts = [
        f"- {what}: {', '.join(f'{name} {fact}' for name, fact in each.items())}"
        for what, each in about.items()
    ]
    left_out = [f"- not measured: {note}" for note in notes]
    return "\n".join([*facts, *left_out, "", table(goals, GOALS_HEAD), "", table(lines), ""])


def thousands(rate: float) -> str:
    """Return a rate in thousands."""
    return f"{rate / 1e3:.0f}k" if rate >= 10_000 else f"{rate / 1e3:.1f}k"


def _kib(size: float) -> str:
    return f"{size / 1024:.2f}"


def _spread(ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _milliseconds(runs: Sequence[Measurement], name: str) -> str:
    values = [
        found for run in runs if (found := run.said.get(name))
    ]  # 0: nothing came that was due in the time
    return f"{statistics.median(values) / 1e3:.1f}" if values else ""


def _merging(runs: Sequence[Measurement]) -> str:
    frames = sum(run.said.get("frames", 0) for run in runs)
    return f"{sum(run.said['deliveries'] for run in runs) / frames:.2f}" if frames else ""


def _bytes(runs: Sequence[Measurement]) -> str:
    """Return what the generators read for each delivery, frames and acknowledgements included."""
    deliveries = sum(run.said.get("deliveries", 0) for run in runs)
    return f"{sum(run.said['bytes'] for run in runs) / deliveries:.0f}" if deliveries else ""


def faults(runs: Sequence[Measurement]) -> str:
    """Return what went wrong in runs."""
    names = sorted({name for run in runs for name in run.faults})
    return ", ".join(f"{name} {sum(run.faults.get(name, 0) for run in runs)}" for name in names)
