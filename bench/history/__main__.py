"""`make bench-history`: what channels with history cost beside those without, and beside nats-py alone.

Prints tables of acknowledged publications, latency, reads of the history service and its memory, and writes them as
Markdown. The figures of one table come from one go; runs are alternated. How it is measured: docs/performance.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.history import rows, service
from bench.load.machine import description, niceness
from bench.load.measure import Plan
from bench.load.report import table
from bench.load.servers import prepare
from bench.load.tools import build
from bench.load.versions import versions

BUILD = Path("build/bench").resolve()
READS, MEMORY = "reads", "memory"
NAMES = [*(stand.name for stand in rows.STANDS), READS, MEMORY]
QUICK = 20
"""How many times less `--quick` takes."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.history", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each row (default 5)")
    parser.add_argument("--seconds", type=float, default=3, help="measured seconds of a run (default 3)")
    parser.add_argument("--quick", action="store_true", help="one short run of each: does it work?")
    parser.add_argument(
        "--only", action="append", metavar="PART", choices=NAMES, help=f"one of: {', '.join(NAMES)}"
    )
    parser.add_argument("--cpus", default="0,1", help="processors of the server and of the load; empty: any")
    parser.add_argument(
        "--nice", type=int, default=0, help="niceness of all that is measured; below 0 needs root"
    )
    parser.add_argument("--markdown", type=Path, default=BUILD / "history.md", help="where the tables go")
    return parser.parse_args()


def plan_of(options: argparse.Namespace, folder: Path) -> Plan:
    """Return how it is measured."""
    factor = QUICK if options.quick else 1
    cpus = [int(number) for number in options.cpus.split(",")] if options.cpus else [None, None]
    return Plan(
        tools=prepare(build(BUILD), folder, 1_000),
        runs=1 if options.quick else options.runs,
        seconds=min(options.seconds, 1) if options.quick else options.seconds,
        warmup=0.2 if options.quick else 1,
        factor=factor,
        server_cpu=cpus[0],
        load_cpu=cpus[1],
    )


def sizes_of(factor: int) -> service.Sizes:
    """Return how much is read and filled."""
    full = service.Sizes()
    few, many = full.slope
    return service.Sizes(
        full.read_channels // factor,
        full.reads // factor,
        full.stream_reads // factor,
        (few // factor, many // factor),
    )


def measure(plan: Plan, names: Sequence[str]) -> Iterator[str]:
    """Measure what is named, and yield a table for each part."""
    for stand in rows.STANDS:
        if stand.name in names:
            results = rows.measure(stand.scaled(plan.factor), plan)
            yield table(rows.lines(stand, results), rows.HEAD)
    if READS in names:
        found = service.measure_reads(plan, sizes_of(plan.factor))
        yield table(service.reads_lines(found), service.READS_HEAD)
    if MEMORY in names:
        yield table(service.measure_memory(plan, sizes_of(plan.factor)), service.MEMORY_HEAD)


def main() -> None:
    """Measure, and write what there is after each part."""
    options = arguments()
    facts = {"machine": description(), "versions": versions(peers=False)}
    parts = [
        *(
            f"- {what}: {', '.join(f'{name} {fact}' for name, fact in each.items())}"
            for what, each in facts.items()
        ),
        f'- command: make bench-history BENCH="{" ".join(sys.argv[1:])}"',
    ]
    parts = ["\n".join(parts)]
    options.markdown.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, niceness(options.nice):
        for part in measure(plan_of(options, Path(folder)), options.only or NAMES):
            parts.append(part)
            options.markdown.write_text("\n\n".join(parts) + "\n")
    print("\n\n".join(parts))


if __name__ == "__main__":
    main()
