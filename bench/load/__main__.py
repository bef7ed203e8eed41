"""`make bench`: how much the edge does per second of CPU, beside a C server that does nothing else.

Prints one table and writes what every run said as JSON. All figures of one table come from one go on one machine, and
the runs of all servers are alternated, so that ratios stand where absolute figures drift.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

import tidewire
from bench.load.machine import description, niceness
from bench.load.measure import Plan, measure_connects, measure_memory, measure_stand
from bench.load.report import memory_rows, rows_of, table
from bench.load.rows import BARE, CONNECTS, MEMORY_TO, PEERS, SERVERS, STANDS
from bench.load.servers import Server, Tools, peers_are_installed, write_tokens
from bench.load.tools import build
from tests.support.nats_server import program

BUILD = Path("build/bench").resolve()
QUICK = 20
"""How many times fewer connections `--quick` takes."""
CONNECT, MEMORY = "connect", "memory"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    names = [stand.name for stand in STANDS]
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each row and server (default 5)")
    parser.add_argument("--seconds", type=float, default=4, help="measured seconds of a run (default 4)")
    parser.add_argument(
        "--quick", action="store_true", help="one short run with few connections: does it work?"
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="STAND",
        choices=[*names, CONNECT, MEMORY],
        help=f"one of: {', '.join([*names, CONNECT, MEMORY])}; may be repeated",
    )
    parser.add_argument("--no-peers", action="store_true", help="measure no other projects' servers")
    parser.add_argument(
        "--cpus", default="0,1", help="processors of the server and of the load (default 0,1); empty: any"
    )
    parser.add_argument(
        "--nice", type=int, default=0, help="niceness of all that is measured; below 0 needs root"
    )
    parser.add_argument("--json", type=Path, default=BUILD / "load.json", help="where the JSON goes")
    return parser.parse_args()


def plan_of(options: argparse.Namespace, folder: Path) -> Plan:
    """Return how it is measured."""
    factor = QUICK if options.quick else 1
    most = max([CONNECTS, MEMORY_TO, *(stand.connections for stand in STANDS)]) // factor
    cpus = [int(number) for number in options.cpus.split(",")] if options.cpus else [None, None]
    return Plan(
        tools=Tools(build(BUILD), folder, write_tokens(folder / "tokens.txt", most)),
        runs=1 if options.quick else options.runs,
        seconds=min(options.seconds, 1) if options.quick else options.seconds,
        warmup=0.2 if options.quick else 1,
        factor=factor,
        server_cpu=cpus[0],
        load_cpu=cpus[1],
    )


def versions() -> dict[str, str]:
    """Return the versions of what was measured."""
    nats = subprocess.run([program(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return {"tidewire": tidewire.__version__, "python": platform.python_version(), "nats": nats}


def measure(
    plan: Plan, servers: Mapping[str, Server], only: list[str] | None
) -> Iterator[tuple[str, Any, list[list[str]]]]:
    """Measure all that is asked for; yields names, what the JSON holds of each, and the table's lines."""
    for stand in STANDS:
        if only is None or stand.name in only:
            rows = measure_stand(stand.scaled(plan.factor), servers, plan)
            lines = [rows_of(f"{stand.name}, {row}", results) for row, results in rows.items()]
            yield stand.name, rows, [*chain.from_iterable(lines)]
    if only is None or CONNECT in only:
        (bare,) = BARE
        connects = measure_connects({**servers, **BARE}, bare, plan)
        yield CONNECT, connects, rows_of("connect with JWT", connects, bare)
    if only is None or MEMORY in only:
        memory = measure_memory(servers, plan)
        yield MEMORY, memory, memory_rows(memory)


def servers_of(options: argparse.Namespace) -> dict[str, Server]:
    """Return the servers to measure."""
    if options.no_peers or not peers_are_installed():
        print("without Socket.IO: `make setup-peers` installs it", file=sys.stderr)
        return SERVERS
    return {**SERVERS, **PEERS}


def main() -> None:
    """Measure, write what there is after each stand, print the table."""
    options = arguments()
    about = {"machine": description(), "versions": versions(), "command": sys.argv[1:]}
    results: dict[str, Any] = {}
    lines: list[list[str]] = []
    options.json.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, niceness(options.nice):
        plan = plan_of(options, Path(folder))
        for name, found, its_lines in measure(plan, servers_of(options), options.only):
            results[name] = found
            lines += its_lines
            options.json.write_text(
                json.dumps(msgspec.to_builtins({"about": about, "results": results}), indent=1)
            )
    print(json.dumps(about))
    if plan.factor > 1:
        print(f"quick: {plan.factor} times fewer connections than the rows are named for")
    print(table(lines))


if __name__ == "__main__":
    main()
