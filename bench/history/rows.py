"""The stands of durable channels: acknowledged publications, and latency, with history and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from statistics import median
from typing import cast

from bench.history.mesh import durable
from bench.history.native import NativeSide
from bench.load import servers
from bench.load.measure import Measurement, Plan, Results, Side, measure_row
from bench.load.report import faults, thousands
from bench.load.rows import Row, Stand
from bench.load.servers import Server

HISTORY, PLAIN = "with history", "without history"
WAYS = {"nats-py, raw": "raw", "nats-py, publish_async": "publish_async"}
SIDES: Mapping[str, Server] = {HISTORY: durable, PLAIN: servers.tidewire}

PUBLISHES = Stand(
    "acked publishes",
    100,
    0,
    (
        Row(name="100 x 1 in flight", window=1, publishers=100, counts="acks"),
        Row(name="100 x 16 in flight, 1,600 channels", window=16, publishers=100, spread=16, counts="acks"),
        Row(name="100 x 16 in flight, 100 channels", window=16, publishers=100, counts="acks"),
        Row(name="2,000/s, 1,600 channels", rate=2_000, publishers=100, spread=16, counts="acks"),
    ),
)
LATENCIES = (
    Stand("200 channels of 5", 1_000, 200, (Row(name="5k/s", rate=5_000, publishers=200),)),
    Stand("one channel of 1k", 1_000, 1, (Row(name="20k/s", rate=20_000),)),
)
STANDS = (PUBLISHES, *LATENCIES)
QUANTILES = ("p50", "p99")
HEAD = (
    "what",
    "by",
    "per CPU-s",
    "spread",
    "fixed loop, ms",
    "a second",
    "NATS's CPU",
    "history's CPU",
    "p50 ms",
    "p99 ms",
    "p50, p99 to that without history",
    "faults",
)


def measure(stand: Stand, plan: Plan) -> dict[str, Results]:
    """Return what each row gave, with history, without, and where nobody listens by nats-py."""
    with ExitStack() as stack:
        sides = {
            name: stack.enter_context(Side(name, server, plan, stand.connections))
            for name, server in SIDES.items()
        }
        for side in sides.values():
            side.join(stand.connections, stand.channels)
        ways = WAYS if not stand.channels else {}
        others = {name: stack.enter_context(NativeSide(way, plan)) for name, way in ways.items()}
        everybody = cast("Mapping[str, Side]", {**sides, **others})
        return {
            row.name: measure_row(row, stand, everybody if row.window else sides, plan) for row in stand.rows
        }


def lines(stand: Stand, results: Mapping[str, Results]) -> list[list[str]]:
    """Return the table's lines."""
    return [
        [f"{stand.name}, {row}", by, *_cells(runs, by_name[PLAIN])]
        for row, by_name in results.items()
        for by, runs in by_name.items()
    ]


def _cells(runs: Sequence[Measurement], plain: Sequence[Measurement]) -> list[str]:
    kind = "" if runs[0].said["deliveries"] else "ack_"
    rates = [run.per_server_cpu for run in runs]
    return [
        thousands(median(rates)),
        f"{thousands(min(rates))} to {thousands(max(rates))}",
        _loop(runs),
        thousands(median(run.count / run.said["seconds"] for run in runs)),
        f"{median(run.broker_cpu / run.server_cpu for run in runs):.0%}",
        f"{median(run.service_cpu / run.server_cpu for run in runs):.0%}" if runs[0].service_cpu else "",
        *(f"{median(run.said[f'{kind}{name}_us'] for run in runs) / 1e3:.1f}" for name in QUANTILES),
        "" if runs is plain else ", ".join(_ratio(runs, plain, f"{kind}{name}_us") for name in QUANTILES),
        faults(runs),
    ]


def _loop(runs: Sequence[Measurement]) -> str:
    """Return how long the fixed loop took around the runs: what a CPU-second was worth."""
    times = [run.loop * 1e3 for run in runs if run.loop]
    return f"{median(times):.0f} ({min(times):.0f} to {max(times):.0f})" if times else ""


def _ratio(runs: Sequence[Measurement], plain: Sequence[Measurement], name: str) -> str:
    """Return the median of the ratios of pairs of runs."""
    pairs = [(ours.said[name], its.said[name]) for ours, its in zip(runs, plain, strict=False)]
    ratios = [ours / its for ours, its in pairs if ours and its]  # 0: nothing came that was due in the time
    if not ratios:
        return "none"
    return f"{median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"
