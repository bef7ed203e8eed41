"""What the edge is to reach: ratios of one go, from the results by stand and row."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from bench.load.measure import Measurement
from bench.load.rows import BARE, CONNECT, LIMIT, MEMORY, SOCKETIO, TIDEWIRE

Found = Mapping[str, Any]
"""The results of what was measured, by name: of stands by row and server, of connects and memory by server."""


class Goal(msgspec.Struct, frozen=True):
    """A bound for the median of what `measured` finds, a value for each run or pair of runs.

    `measured` raises KeyError where that was not measured.
    """

    what: str
    beside: str
    bound: float
    measured: Callable[[Found], list[float]]
    least: bool = True
    unit: str = "x"

    def line(self, found: Found) -> list[str]:
        """Return the goal's line of the table."""
        demanded = f"at {'least' if self.least else 'most'} {self.bound:.2f} {self.unit}"
        try:
            values = self.measured(found)
        except KeyError:
            values = []
        if not values:
            return [self.what, self.beside, demanded, "not measured", "", ""]
        median = statistics.median(values)
        reached = median >= self.bound if self.least else median <= self.bound
        spread = f"{min(values):.2f} to {max(values):.2f}"
        return [self.what, self.beside, demanded, f"{median:.2f}", spread, "yes" if reached else "**no**"]


def _pairs(runs: Mapping[str, Sequence[Any]], beside: str) -> list[tuple[Any, Any]]:
    return [*zip(runs[TIDEWIRE], runs[beside], strict=False)]


def _ratio(runs: Mapping[str, Sequence[Measurement]], beside: str) -> list[float]:
    return [ours.per_cpu / its.per_cpu for ours, its in _pairs(runs, beside) if its.count]


def throughput(stand: str, row: str, bound: float, beside: str = LIMIT) -> Goal:
    """Demand so many times what another server does per CPU-second, brokers counted."""
    return Goal(f"{stand}, {row}", beside, bound, lambda found: _ratio(found[stand][row], beside))


def latency(stand: str, row: str, bound: float) -> Goal:
    """Demand a p99 of at most so many times that of the limit server."""

    def measured(found: Found) -> list[float]:
        said = [[run.said["p99_us"] for run in pair] for pair in _pairs(found[stand][row], LIMIT)]
        return [ours / its for ours, its in said if its]

    return Goal(f"{stand}, {row}: p99", LIMIT, bound, measured, least=False)


def _memory(found: Found) -> list[float]:
    return [size / 1024 for size in found[MEMORY][TIDEWIRE]]


def _memory_of_socketio(found: Found) -> list[float]:
    return [ours / its for ours, its in _pairs(found[MEMORY], SOCKETIO)]


(_BARE,) = BARE
GOALS = (
    throughput("one channel of 10k", "50k/s", 0.85),
    throughput("one channel of 10k", "16 in flight", 6),
    latency("one channel of 10k", "16 in flight", 1),
    throughput("one channel of 1k", "16 in flight", 4.5),
    latency("one channel of 1k", "16 in flight", 1),
    throughput("1k channels of 10", "20k/s", 0.42),
    latency("1k channels of 10", "20k/s", 3),
    throughput("acked publishes", "1 in flight", 0.35),
    throughput("acked publishes", "16 in flight", 0.12),
    Goal("connect with JWT", _BARE, 1, lambda found: _ratio(found[CONNECT], _BARE)),
    Goal("memory per idle connection", "", 4, _memory, least=False, unit="KiB"),
    throughput("one channel of 10k", "50k/s", 2.5, SOCKETIO),
    throughput("one channel of 10k", "1 in flight", 2.5, SOCKETIO),
    throughput("one channel of 10k", "16 in flight", 2.5, SOCKETIO),
    throughput("one channel of 1k", "50k/s", 2.5, SOCKETIO),
    throughput("one channel of 1k", "16 in flight", 2.5, SOCKETIO),
    throughput("1k channels of 10", "20k/s", 2.5, SOCKETIO),
    Goal("memory per idle connection", SOCKETIO, 1 / 3, _memory_of_socketio, least=False),
)
