"""`make bench`: how much the edge does per second of CPU, beside a C server that does nothing else.

Prints tables and writes them as Markdown, and what every run said as JSON. All figures of one table come from one go on
one machine, and the runs of all servers are alternated, so that ratios stand where absolute figures drift.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from bench.load.goals import GOALS
from bench.load.machine import description, niceness
from bench.load.measure import Plan, measure_connects, measure_memory, measure_stand
from bench.load.report import document, memory_rows, rows_of
from bench.load.rows import (
    BARE,
    CONNECT,
    MEMORY,
    PEERS,
    PLAIN_SIZE,
    SECURE,
    SECURE_CONNECT,
    SECURE_MEMORY,
    SECURE_SIZE,
    SECURE_STAND,
    SERVERS,
    STANDS,
)
from bench.load.servers import Server, peers_are_installed, prepare
from bench.load.tools import build, speaks_tls
from bench.load.versions import versions

BUILD = Path("build/bench").resolve()
QUICK = 20
"""How many times fewer connections `--quick` takes."""
NAMES = [*(stand.name for stand in STANDS), CONNECT, MEMORY, SECURE_STAND.name, SECURE_CONNECT, SECURE_MEMORY]

Part = tuple[str, Any, list[list[str]]]
"""A name, what the JSON holds of it, and the table's lines."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each row and server (default 5)")
    parser.add_argument("--seconds", type=float, default=3, help="measured seconds of a run (default 3)")
    parser.add_argument(
        "--quick", action="store_true", help="one short run with few connections: does it work?"
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="STAND",
        choices=NAMES,
        help=f"one of: {', '.join(NAMES)}; may be repeated",
    )
    parser.add_argument("--no-peers", action="store_true", help="measure no other projects' servers")
    parser.add_argument(
        "--cpus", default="0,1", help="processors of the server and of the load (default 0,1); empty: any"
    )
    parser.add_argument(
        "--nice", type=int, default=0, help="niceness of all that is measured; below 0 needs root"
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=BUILD / "load.json",
        help="where the JSON goes; the Markdown goes beside it",
    )
    return parser.parse_args()


def plan_of(options: argparse.Namespace, folder: Path) -> Plan:
    """Return how it is measured."""
    factor = QUICK if options.quick else 1
    most = max([PLAIN_SIZE.connects, PLAIN_SIZE.memory_to, *(stand.connections for stand in STANDS)])
    cpus = [int(number) for number in options.cpus.split(",")] if options.cpus else [None, None]
    return Plan(
        tools=prepare(build(BUILD), folder, most // factor),
        runs=1 if options.quick else options.runs,
        seconds=min(options.seconds, 1) if options.quick else options.seconds,
        warmup=0.2 if options.quick else 1,
        factor=factor,
        server_cpu=cpus[0],
        load_cpu=cpus[1],
    )


def measure(plan: Plan, servers: Mapping[str, Server], names: list[str]) -> Iterator[Part]:
    """Measure what is named."""
    for stand in (*STANDS, SECURE_STAND):
        if stand.name in names:
            rows = measure_stand(stand.scaled(plan.factor), servers, plan)
            lines = [rows_of(f"{stand.name}, {row}", results) for row, results in rows.items()]
            yield stand.name, rows, [*chain.from_iterable(lines)]
    size, secure_size = PLAIN_SIZE.scaled(plan.factor), SECURE_SIZE.scaled(plan.factor)
    if CONNECT in names:
        (bare,) = BARE
        connects = measure_connects({**servers, **BARE}, plan, size, bare=bare)
        yield CONNECT, connects, rows_of("connect with JWT", connects, bare)
    if SECURE_CONNECT in names:
        connects = measure_connects(SECURE, plan, secure_size)
        yield SECURE_CONNECT, connects, rows_of("connect with JWT over TLS", connects)
    if MEMORY in names:
        memory = measure_memory(servers, plan, size)
        yield MEMORY, memory, memory_rows("KiB per idle connection", memory)
    if SECURE_MEMORY in names:
        memory = measure_memory(SECURE, plan, secure_size)
        yield SECURE_MEMORY, memory, memory_rows("KiB per idle connection with TLS", memory)


def notes(options: argparse.Namespace, *, peers: bool, secure: bool) -> list[str]:
    """Say what is left out, and why."""
    found = []
    if not peers:
        found.append(
            f"{', '.join(PEERS)}" + ("" if options.no_peers else ": `make setup-peers` installs them")
        )
    if not secure:
        found.append("TLS: OpenSSL's headers are missing (`make setup-system` installs them)")
    if options.quick:
        found.append(f"the named numbers of connections: --quick takes {QUICK} times fewer")
    return found


def main() -> None:
    """Measure, write what there is after each stand, print the table."""
    options = arguments()
    began = time.monotonic()
    peers, secure = not options.no_peers and peers_are_installed(), speaks_tls()
    about = {
        "machine": description(),
        "versions": versions(peers=peers),
        "command": {"make bench": f'BENCH="{" ".join(sys.argv[1:])}"'},
    }
    left_out = notes(options, peers=peers, secure=secure)
    names = [name for name in options.only or NAMES if secure or "TLS" not in name]
    results: dict[str, Any] = {}
    lines: list[list[str]] = []
    options.json.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, niceness(options.nice):
        plan = plan_of(options, Path(folder))
        for name, found, its_lines in measure(plan, {**SERVERS, **(PEERS if peers else {})}, names):
            results[name] = found
            lines += its_lines
            about["command"]["took"] = f"{time.monotonic() - began:.0f} s"
            text = document(about, left_out, lines, [goal.line(results) for goal in GOALS])
            options.json.with_suffix(".md").write_text(text)
            options.json.write_text(
                json.dumps(msgspec.to_builtins({"about": about, "results": results}), indent=1)
            )
    print(text)


if __name__ == "__main__":
    main()
