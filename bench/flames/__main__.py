"""`make flames`: flame graphs of an edge's two hot paths, as SVG in build/flames.

- fan-out: one channel, each publication to all its subscribers, one in flight (so that none are joined);
- inbound: connections that only publish, 16 in flight each, to a namespace without history.

py-spy samples the edge from outside, native code included, while the load generator of `make bench` keeps it busy.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.load.measure import Plan, Side
from bench.load.rows import Row, Stand
from bench.load.servers import prepare, tidewire
from bench.load.tools import build

BUILD = Path("build").resolve()  # make runs in bench/load
FLAMES = {
    "fan-out": Stand("a channel of 2,000, one publication in flight", 2_000, 1, (Row(name="", window=1),)),
    "inbound": Stand("100 publishers, 16 in flight each", 100, 0, (Row(name="", window=16, publishers=100),)),
}
RATE = 100
"""Samples a second: unwinding native stacks takes milliseconds, in which the edge stands still."""

_TITLE = re.compile(r'(<text id="title"[^>]*>)[^<]*')
"""py-spy puts its command line there."""
_INSTALLED = re.compile(r"/[^\s();<>&]*/(?:site-packages|lib-dynload|python3\.\d+|services)/")
_ELSEWHERE = re.compile(r"(?<=[\s(])/(?:[^\s();<>&]*/)+")


def presentable(svg: str, title: str) -> str:
    """Return a flame graph in which no path of this machine is left, only those inside packages, and bare file names."""
    titled = _TITLE.sub(rf"\1{title}", svg)
    return _ELSEWHERE.sub("", _INSTALLED.sub("", titled))


def record(pid: int, seconds: float, file: Path, title: str) -> None:
    """Sample a process for so long, and write its flame graph. Where that cannot be the process ends with one sentence."""
    py_spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if py_spy is None:
        sys.exit("tidewire: py-spy is missing: run `make setup`")
    what = ["--pid", str(pid), "--duration", f"{seconds:.0f}", "--rate", str(RATE), "--native", "--function"]
    command = [py_spy, "record", *what, "--format", "flamegraph", "--output", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:]
        sys.exit(
            "tidewire: py-spy may not look into the edge: run this as root, or with the capability SYS_PTRACE, or with "
            f"kernel.yama.ptrace_scope=0 (it says: {' '.join(reason)})"
        )
    file.write_text(presentable(file.read_text(), title))


def flame(stand: Stand, plan: Plan, file: Path) -> None:
    """Record an edge under the load of a stand's one row."""
    (row,) = stand.rows
    order = {**stand.order(row), "warmup": plan.warmup, "seconds": plan.seconds + 1}

    def on_stage(stage: str) -> None:
        if stage == "measuring":
            record(side.target.pid, plan.seconds, file, stand.name)

    with Side("edge", tidewire, plan, stand.connections) as side:
        side.join(stand.connections, stand.channels)
        side.fleet.run(order, on_stage)


def main() -> None:
    """Record both."""
    parser = argparse.ArgumentParser(prog="python -m bench.flames", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="time of each (default 10)")
    parser.add_argument("--folder", type=Path, default=BUILD / "flames", help="where they go")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        users = max(stand.connections for stand in FLAMES.values())
        tools = prepare(build(BUILD / "bench"), Path(name), users)
        plan = Plan(
            tools, runs=1, seconds=options.seconds, warmup=1, factor=1, server_cpu=None, load_cpu=None
        )
        for flame_name, stand in FLAMES.items():
            file = options.folder / f"{flame_name}.svg"
            flame(stand, plan, file)
            print(f"{file.name}: {file.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
