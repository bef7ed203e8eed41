"""Whether an acknowledged publication is on the disk: nats-server's system calls, as strace sees them.

`python -m bench.history.fsync` publishes by an edge, one publication after the other, with nats-server's
`sync_interval: always` and with its default. For each acknowledgement that nats-server wrote to the edge's socket it says
whether the publication was written to its stream's block before, and whether that file was flushed to the disk (fsync)
in between; it prints the calls of the first ones. Latency, publish command to reply, is measured without strace.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from bench.history.mesh import edge, migrate, service_config
from bench.load.report import table
from bench.load.servers import PREFIX
from tests.support.edges import mapping, token
from tests.support.history import HistoryProcess
from tests.support.nats_server import NatsServer
from tests.support.raw_client import RawClient, joined
from tests.support.wait import eventually

MODES: Final = {"sync_interval: always": "sync_interval: always", "by default": ""}
CALLS: Final = "write,pwrite64,writev,fsync,fdatasync"
SHOWN: Final = 3
"""Publications whose calls are printed."""
HEAD = ("nats-server", "acknowledged", "written before", "and flushed before", "p50 ms", "p99 ms")

_CALL = re.compile(r"^(?:\[pid +)?(\d+)\]? +[\d.:]+ +(.*)$")
_BLOCK = re.compile(
    r"^(?:p?write(?:64|v)?)\(\d+<[^>]*/streams/(TW_[^/>]+)/msgs/[^>]*\.blk>.*?(?:Nats-Msg-Id|publication)"
)
_FLUSH = re.compile(r"^f(?:data)?sync\(\d+<[^>]*/streams/(TW_[^/>]+)/msgs/[^>]*\.blk>")
_ACK = re.compile(r'^writev?\(\d+<(?:TCP|socket)[^>]*>.*\\"stream\\":\\"(TW_[^\\]+)\\", ?\\"seq\\":(\d+)')


class Found(NamedTuple):
    """What a trace shows: acknowledgements, those whose block was written before, those that were flushed in between."""

    acknowledged: int
    written: int
    flushed: int
    excerpt: list[str]


class Trace:
    """Reads a trace, in the order of its lines.

    A call that another thread's interrupted stands on two lines; a flush counts when it has ended, all others when they begin.
    """

    def __init__(self) -> None:
        self._acknowledged = self._written = self._flushed = 0
        self._state: dict[str, str] = {}
        self._flushing: dict[str, str] = {}
        """The streams whose flush has begun, by thread."""
        self._excerpt: list[str] = []

    def judge(self, lines: Iterable[str]) -> Found:
        """Return what it shows."""
        for line in lines:
            parts = _CALL.match(line)
            if parts is not None and self._take(*parts.groups()) and self._acknowledged <= SHOWN:
                self._excerpt.append(_brief(line))
        return Found(self._acknowledged, self._written, self._flushed, self._excerpt)

    def _take(self, thread: str, call: str) -> bool:
        """Take a call; return whether it is of any interest."""
        if block := _BLOCK.match(call):
            self._state[block[1]] = "written"
        elif flush := _FLUSH.match(call):
            self._flushing[thread] = flush[1]
            if "<unfinished" not in call:
                self._flush_ended(thread)
        elif "sync resumed>" in call and thread in self._flushing:
            self._flush_ended(thread)
        elif ack := _ACK.match(call):
            self._acknowledge(ack[1])
        else:
            return False
        return True

    def _flush_ended(self, thread: str) -> None:
        stream = self._flushing.pop(thread)
        if self._state.get(stream) == "written":
            self._state[stream] = "flushed"

    def _acknowledge(self, stream: str) -> None:
        before = self._state.pop(stream, "")
        self._acknowledged += 1
        self._written += before != ""
        self._flushed += before == "flushed"


def judged(trace: Path) -> Found:
    """Return what a trace in a file shows."""
    return Trace().judge(trace.read_text().splitlines())


def _brief(line: str) -> str:
    """Return a line without this machine's folders, and with little of what is written."""
    short = re.sub(r"<[^<>]*/streams/", "<", line)
    short = re.sub(r'"((?:[^"\\]|\\.)*)"', lambda found: f'"{_ends(found[1])}"', short)
    return re.sub(r"^(\[pid +)?(\d+)(\])? +", "", short)


def _ends(text: str) -> str:
    return text if len(text) <= 70 else f"{text[:20]}..{text[-48:]}"


@contextlib.contextmanager
def traced(pid: int, file: Path) -> Iterator[None]:
    """Trace a process for a while. Where that cannot be, this process ends with one sentence."""
    strace = shutil.which("strace")
    if strace is None:
        sys.exit("tidewire: strace is missing: run `make setup-system`")
    command = [strace, "-f", "-yy", "-tt", "-s", "400", "-e", f"trace={CALLS}", "-o", file, "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        if process.stderr is None or "attached" not in (said := process.stderr.readline()):
            sys.exit(
                "tidewire: strace may not look into nats-server: run this as root, or with kernel.yama.ptrace_scope=0 "
                f"(it says: {said.strip()})"
            )
        try:
            yield
        finally:
            process.terminate()
            process.communicate()


async def publish(client: RawClient, count: int) -> list[float]:
    """Publish one after the other; return how long each took, in ms."""
    taken = []
    for number in range(count):
        began = time.perf_counter()
        reply = await client.command(publish={"channel": f"{PREFIX}fsync", "data": f"publication {number}"})
        taken.append((time.perf_counter() - began) * 1e3)
        if "publish" not in reply:
            raise RuntimeError(f"not acknowledged: {reply}")
    return sorted(taken)


async def measure(port: int, nats: NatsServer, trace: Path, few: int, many: int) -> tuple[Found, list[float]]:
    """Publish `many` as fast as that goes, and `few` under strace."""
    client = await joined(f"ws://127.0.0.1:{port}/connection/websocket", token())
    taken = await publish(client, many)
    with traced(nats.pid, trace):
        await publish(client, few)

        async def complete() -> bool:
            return judged(trace).acknowledged >= few

        with contextlib.suppress(AssertionError):
            await eventually(complete, 10)
    await client.close()
    return judged(trace), taken


def main() -> None:
    """Measure both, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.history.fsync", description=__doc__)
    parser.add_argument("--traced", type=int, default=50, help="publications under strace")
    parser.add_argument("--timed", type=int, default=1000, help="publications whose latency is measured")
    options = parser.parse_args()
    lines, excerpts = [], []
    for name, setting in MODES.items():
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            config = f'{mapping()}jetstream {{ store_dir: "{place / "jetstream"}"\n{setting}\n}}\n'
            with (
                NatsServer(place / "nats", config=config) as nats,
                migrate(nats),
                HistoryProcess(place, service_config(nats)) as history,
                edge(place, nats, history) as running,
            ):
                trace = place / "trace.txt"
                measured = measure(running.port, nats, trace, options.traced, options.timed)
                found, taken = asyncio.run(measured)
        p99 = taken[int(len(taken) * 0.99)]
        counts = [str(each) for each in found[:3]]
        lines.append([name, *counts, f"{statistics.median(taken):.2f}", f"{p99:.2f}"])
        excerpts += [f"\n{name}:", *found.excerpt]
    print(table(lines, HEAD))
    print("\n".join(excerpts))


if __name__ == "__main__":
    main()
