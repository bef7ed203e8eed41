"""For how long a long read keeps the history service from everything else: `python -m bench.history.long_reads`.

A channel's publications were heard, of an edge's size and headers. All are read, as they never were before, and once more, by the
service's own reader and servicer; beside that something else takes each turn of the loop that it gets. Prints the CPU milliseconds of
the thread that a read takes in all, and the most that it takes between two turns: the median of the runs, the least and the greatest.
Only the stream is not real. Another checkout's code: PYTHONPATH=THERE/services:. python -m bench.history.long_reads
"""

from __future__ import annotations

import argparse
import asyncio
import time
from statistics import median
from typing import Any

from bench.load.report import table
from tests.fakes.history import STREAM, FakeHistory
from tidewire.history.config import HistoryConfig
from tidewire.history.messages import Message
from tidewire.history.namespaces import Namespaces
from tidewire.history.servicer import HistoryServicer
from tidewire.kernel.config import decode
from tidewire.platform.garbage import settle
from tidewire.rpc.history.v1 import history_pb2 as pb

KEY = b"tw.in.0.chat.a"
LINES = (
    b"\r\nTw-V: 1\r\nTw-Time: 1800000000000000"
    b'\r\nTw-Info: {"user":"user-1","client":"0f8f2f2e-4b7c-4d0e-9c3a-0a4f9d0c7b1e"}'
)
DATA = b'"' + b"x" * 126 + b'"'
HEAD = ("read", "publications", "CPU ms", "most between two turns, ms")


class Caller:
    """Implements what the servicer asks of a call's context."""

    def peer(self) -> str:
        """Who calls."""
        return "bench"

    def invocation_metadata(self) -> None:
        """It does not say what it is called."""


async def filled(count: int) -> FakeHistory:
    """Return a service that has heard a channel's publications."""
    history = FakeHistory(budget=1 << 30)
    kept = {"name": "chat", "history_size": count, "history_ttl": "1h"}
    settings = {
        "nats": {"partitions": 1},
        "storage": {"profiles": [{"name": "default", "max_messages": count}]},
        "channel": {"namespaces": [kept]},
    }
    history.followers.configure(Namespaces(decode(HistoryConfig, settings), 1, [0]))
    await history.look()
    now = int(history.clock.wall() * 1e9)
    for number in range(1, count + 1):
        history.hear(Message(STREAM.encode(), KEY, number, now + number, number - 1, LINES, DATA))
    settle()
    return history


async def measured(history: FakeHistory, count: int) -> tuple[int, float, float]:
    """Return how much was answered, and the CPU seconds in all and at once."""
    servicer = HistoryServicer(history.reader, history.positions)
    caller: Any = Caller()
    begin = before = time.thread_time()
    reading = asyncio.ensure_future(servicer.Read(pb.ReadRequest(channel="chat:a", limit=count), caller))
    most = 0.0
    while not reading.done():
        await asyncio.sleep(0)
        now = time.thread_time()
        most, before = max(most, now - before), now
    reply = pb.ReadReply.FromString(await reading)
    return len(reply.publications), before - begin, most


async def runs(count: int, times: int) -> dict[str, list[tuple[int, float, float]]]:
    """Return what the first and the next reads took."""
    found: dict[str, list[tuple[int, float, float]]] = {"the first": [], "the next": []}
    for _ in range(times):
        history = await filled(count)
        for taken in found.values():
            taken.append(await measured(history, count))
    return found


def milliseconds(seconds: list[float]) -> str:
    """Return the median, the least and the greatest."""
    shown = [f"{each * 1e3:.1f}" for each in (median(seconds), min(seconds), max(seconds))]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.history.long_reads", description=__doc__)
    parser.add_argument("--publications", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    lines = []
    for name, taken in asyncio.run(runs(options.publications, options.runs)).items():
        counts, whole, most = (list(each) for each in zip(*taken, strict=True))
        lines.append([name, f"{counts[0]:,}", milliseconds(whole), milliseconds(most)])
    print(table(lines, HEAD))


if __name__ == "__main__":
    main()
