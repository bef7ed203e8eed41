"""`make bench-ratelimit`: decisions of an edge from its leases, and answers of the rate-limit service over gRPC.

Prints a table and writes it as Markdown. Runs are alternated. What is measured: docs/performance.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

from bench.load.machine import description, niceness
from bench.load.measure import alternated
from bench.load.report import table, thousands
from bench.load.versions import versions
from bench.ratelimit import rows
from bench.ratelimit.rows import Row, Service, Sizes

BUILD = Path("build/bench").resolve()
HEAD = ("what", "a CPU-second of it", "spread", "a second")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.ratelimit", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each row (default 5)")
    parser.add_argument("--quick", action="store_true", help="one short run of each: does it work?")
    parser.add_argument("--cpu", default="0", help="processor of the service; empty: any")
    parser.add_argument(
        "--nice", type=int, default=0, help="niceness of all that is measured; below 0 needs root"
    )
    parser.add_argument("--markdown", type=Path, default=BUILD / "ratelimit.md", help="where the table goes")
    return parser.parse_args()


def works(service: Service, sizes: Sizes) -> Mapping[str, Callable[[], Row]]:
    """Return what is measured, by name."""
    edge = partial(rows.at_the_edge, count=sizes.decisions)
    return {
        "edge, from a lease": partial(edge, 1, 1),
        "edge, 10,000 users in turn": partial(edge, 10_000, 1),
        "edge, two rules": partial(edge, 1, 2),
        "service, 500 keys a call": partial(service.run, partial(rows.batched, calls=sizes.batches)),
        "service, one key a call": partial(service.run, partial(rows.single, calls=sizes.singles)),
        "service, Envoy's call": partial(service.run, partial(rows.envoy, calls=sizes.singles)),
    }


def measure(sizes: Sizes, runs: int, cpu: int | None) -> dict[str, list[Row]]:
    """Return the runs of each row."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        each = works(Service(folder, stack, cpu), sizes)
        found: dict[str, list[Row]] = {name: [] for name in each}
        for name in alternated(each, runs):
            found[name].append(each[name]())
    return found


def lines(found: Mapping[str, list[Row]]) -> list[list[str]]:
    """Return the table's lines."""
    made = []
    for name, runs in found.items():
        rates = [run.count / max(run.cpu, 0.01) for run in runs]
        spread = f"{thousands(min(rates))} to {thousands(max(rates))}"
        made.append(
            [
                name,
                thousands(median(rates)),
                spread,
                thousands(median(run.count / run.seconds for run in runs)),
            ]
        )
    return made


def main() -> None:
    """Measure and tell."""
    options = arguments()
    sizes = Sizes(50_000, 10, 200) if options.quick else Sizes()
    with niceness(options.nice):
        found = measure(
            sizes, 1 if options.quick else options.runs, int(options.cpu) if options.cpu else None
        )
    facts = {"machine": description(), "versions": versions(peers=False)}
    told = [
        f"- {what}: {', '.join(f'{name} {fact}' for name, fact in each.items())}"
        for what, each in facts.items()
    ]
    told.append(f'- command: make bench-ratelimit BENCH="{" ".join(sys.argv[1:])}"')
    text = "\n\n".join(["\n".join(told), table(lines(found), HEAD)])
    options.markdown.parent.mkdir(parents=True, exist_ok=True)
    options.markdown.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
