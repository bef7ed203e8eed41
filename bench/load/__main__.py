"""`make bench`: how much the edge does per second of CPU, beside a C server that does nothing else.

Prints one table and writes what every run said as JSON. All figures of one table come from one go on one machine, and
the runs of all servers are alternated, so that ratios stand where absolute figures drift.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import msgspec

import tidewire
from bench.load.machine import description
from bench.load.measure import Plan, measure_connects, measure_memory, measure_stand
from bench.load.report import memory_rows, rows_of, table
from bench.load.rows import CONNECT_SERVERS, CONNECTS, MEMORY_TO, SERVERS, STANDS
from bench.load.servers import Tools, write_tokens
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
        nice=options.nice,
    )


def versions() -> dict[str, str]:
    """Return the versions of what was measured."""
    nats = subprocess.run([program(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return {"tidewire": tidewire.__version__, "python": platform.python_version(), "nats": nats}


def measure(plan: Plan, only: list[str] | None) -> tuple[list[list[str]], dict[str, Any]]:
    """Measure all that is asked for; returns the table's lines and what the JSON holds."""
    lines: list[list[str]] = []
    data: dict[str, Any] = {}
    for stand in STANDS:
        if only is None or stand.name in only:
            data[stand.name] = measure_stand(stand.scaled(plan.factor), SERVERS, plan)
            for row, results in data[stand.name].items():
                lines += rows_of(f"{stand.name}, {row}", results)
    if only is None or CONNECT in only:
        *_, bare = CONNECT_SERVERS
        data[CONNECT] = measure_connects(CONNECT_SERVERS, bare, plan)
        lines += rows_of("connect with JWT", data[CONNECT], bare)
    if only is None or MEMORY in only:
        data[MEMORY] = measure_memory(SERVERS, plan)
        lines += memory_rows(data[MEMORY])
    return lines, data


def main() -> None:
    """Measure, print, write."""
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        before = description()
        lines, data = measure(plan := plan_of(options, Path(folder)), options.only)
    about = {"machine": before, "load_after": os.getloadavg(), "versions": versions(), "runs": plan.runs}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(msgspec.to_builtins({"about": about, "results": data}), indent=1))
    print(json.dumps(about))
    print(table(lines))


if __name__ == "__main__":
    main()
