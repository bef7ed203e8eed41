"""`make bench-presence`: what joins, leaves, members and questions cost the presence service, and how long it takes to rebuild all.

Prints tables and writes them as Markdown. How it is measured: docs/performance.md.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

import uvloop

from bench.load.machine import description, niceness
from bench.load.report import table, thousands
from bench.presence import inside, outside
from bench.presence.crowd import Crowd

BUILD = Path("build/bench").resolve()
PARTS = ("members", "rebuild", "questions")
MEMBERS_HEAD = ("a replica alone", "bytes a member", "joins a CPU-second", "leaves a CPU-second")
REBUILD_HEAD = ("rebuilt over NATS", "seconds", "CPU-seconds", "private MB")
QUESTIONS_HEAD = ("question, by gRPC", "median ms", "p99 ms", "a CPU-second")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.presence", description=__doc__)
    parser.add_argument("--members", type=int, default=1_000_000, help="members (default 1,000,000)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each row, of which the median is shown")
    parser.add_argument("--questions", type=int, default=500, help="questions of each kind (default 500)")
    parser.add_argument("--quick", action="store_true", help="one run with a hundredth of all: does it work?")
    parser.add_argument(
        "--nice", type=int, default=0, help="niceness of all that is measured; below 0 needs root"
    )
    parser.add_argument("--only", action="append", choices=PARTS, help=f"one of: {', '.join(PARTS)}")
    parser.add_argument("--markdown", type=Path, default=BUILD / "presence.md", help="where the tables go")
    return parser.parse_args()


def members(count: int, runs: int) -> str:
    """Return the table of what members take and joins cost."""
    crowds = (Crowd(count), Crowd(count, each=4), Crowd(count, users=True))
    return table((_members(crowd, runs) for crowd in crowds), MEMBERS_HEAD)


def _members(crowd: Crowd, runs: int) -> list[str]:
    found = [inside.run(crowd) for _ in range(runs)]
    return [
        crowd.title,
        f"{median(run.bytes / run.members for run in found):.0f}",
        thousands(median(run.members / run.joins for run in found)),
        thousands(median(run.members / run.leaves for run in found)),
    ]


async def rebuilds(folder: Path, count: int, runs: int) -> str:
    """Return the table of rebuilding."""
    crowd = Crowd(count)
    found = [await outside.rebuild(folder / str(run), crowd) for run in range(runs)]
    line = [
        crowd.title,
        f"{median(run.seconds for run in found):.1f}",
        f"{median(run.cpu for run in found):.1f}",
        f"{median(run.bytes for run in found) / 1e6:.0f}",
    ]
    return table([line], REBUILD_HEAD)


async def questions(folder: Path, count: int) -> str:
    """Return the table of questions."""
    found = await outside.ask(folder, count)
    lines = [
        [what, f"{asked.median:.1f}", f"{asked.p99:.1f}", f"{asked.rate:.0f}"]
        for what, asked in found.items()
    ]
    return table(lines, QUESTIONS_HEAD)


async def measure(options: argparse.Namespace, folder: Path) -> list[str]:
    """Return all tables that are wanted."""
    count, runs, asked = options.members, options.runs, options.questions
    if options.quick:
        count, runs, asked = count // 100, 1, max(10, asked // 100)
    wanted = options.only or PARTS
    found = []
    if "members" in wanted:
        found.append(members(count, runs))
    if "rebuild" in wanted:
        found.append(await rebuilds(folder / "rebuild", count, runs))
    if "questions" in wanted:
        found.append(await questions(folder / "questions", asked))
    return found


def main() -> None:
    """Measure, print and write."""
    options = arguments()
    with tempfile.TemporaryDirectory() as folder, niceness(options.nice):
        tables = uvloop.run(measure(options, Path(folder)))
    machine = "; ".join(f"{name}: {value}" for name, value in description().items())
    text = "\n\n".join([*tables, machine]) + "\n"
    options.markdown.parent.mkdir(parents=True, exist_ok=True)
    options.markdown.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
