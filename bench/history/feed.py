"""What it costs the history service to hear a publication: `python -m bench.history.feed`.

The link's parser is given the bytes that nats-server sends for what JetStream publishes again: 128 bytes of data, an edge's
headers, JetStream's, in 16 streams. Behind it are the service's own followers, cache and metrics; only the streams are not
real, since they are looked at once, before. `floor` is the same bytes parsed and dropped. Prints CPU microseconds of the
thread for each publication: the median, the least and the greatest of the rounds.

`--beside FOLDER` alternates it with another checkout, in a process of its own. `--profile` prints a profile
of one row instead, in which calls cost more than they do.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import msgspec
import structlog

from tests.fakes.clock import ManualClock
from tests.fakes.history import FakeNotebook, FakeStore, FakeStream
from tests.support.edges import PARTITIONS
from tidewire.history.cache import Cache
from tidewire.history.config import HistoryConfig
from tidewire.history.followers import Followers
from tidewire.history.namespaces import Namespaces
from tidewire.history.telemetry import Telemetry
from tidewire.kernel.config import decode
from tidewire.kernel.subjects import in_subject
from tidewire.platform.garbage import settle
from tidewire.platform.nats_parser import FastParser
from tidewire.platform.nats_types import RawSubscription, Traffic

ROOT = Path(__file__).resolve().parents[2]
PUBLICATIONS = 8_000
ROUNDS = 9
DATA = b'"' + b"x" * 126 + b'"'
BUDGET = 256 << 20
SCARCE = 1 << 20
"""Far less than what the channels keep, so that every publication drives another one out."""
MESSAGE = (
    b"NATS/1.0\r\nNats-Msg-Id: 5b1d0c9a7e3f4a86-%d\r\nTw-V: 1\r\nTw-Time: 1800000000000000\r\n"
    b'Tw-Info: {"user":"user-1","client":"0f8f2f2e-4b7c-4d0e-9c3a-0a4f9d0c7b1e"}\r\n'
    b"Nats-Stream: TW_default_%b\r\nNats-Subject: %b\r\nNats-Sequence: %d\r\n"
    b"Nats-Time-Stamp: 2026-11-27T06:%02d:%02d.%09dZ\r\nNats-Last-Sequence: %d\r\n\r\n"
)


class Row(msgspec.Struct, frozen=True):
    """What is measured: how many channels take turns, messages in one read, and bytes that memory may take."""

    channels: int
    at_once: int
    budget: int = BUDGET
    floor: bool = False
    reads: int = 0
    """0: hearing is measured; else the read of what was heard, the first or a later one."""


ROWS = {
    "1,600 channels, 1 a read": Row(1_600, 1),
    "floor, 1 a read": Row(1_600, 1, floor=True),
    "1,600 channels, 40 a read": Row(1_600, 40),
    "100 channels, 40 a read": Row(100, 40),
    "1,600 channels, 40 a read, 1 MiB of memory": Row(1_600, 40, SCARCE),
    "new channels, 40 a read": Row(10**9, 40),
    "floor, 40 a read": Row(1_600, 40, floor=True),
    "taken for a reply, the first time": Row(1_600, 40, reads=1),
    "taken for a reply again": Row(1_600, 40, reads=2),
}


class Republished:
    """Publications as JetStream publishes them again, in channels that take turns."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._number = 0
        self._ends: dict[bytes, int] = {}
        self._last: dict[bytes, int] = {}

    def reads(self, count: int, at_once: int) -> list[bytes]:
        """Return the bytes of the next publications, so many of them in each read."""
        return [b"".join(self._next() for _ in range(at_once)) for _ in range(count // at_once)]

    def _next(self) -> bytes:
        key = in_subject(f"log:room-{self._number % self._channels}", PARTITIONS)
        partition = key.split(b".", 3)[2]
        sequence = self._ends[partition] = self._ends.get(partition, 0) + 1
        second, nanoseconds = divmod(self._number * 50_000, 1_000_000_000)
        said = (self._number, partition, key, sequence, *divmod(second, 60), nanoseconds)
        header = MESSAGE % (*said, self._last.get(key, 0))
        self._last[key] = sequence
        self._number += 1
        line = b"HMSG tw.out%b 1 %d %d\r\n" % (key[5:], len(header), len(header) + len(DATA))
        return b"%b%b%b\r\n" % (line, header, DATA)


class Ear:
    """The service's end of a link: a parser, and behind it the followers, or nobody."""

    def __init__(self, row: Row) -> None:
        self._cache = Cache(row.budget)
        self.followers = _followers(self._cache)
        self._subscriptions: dict[bytes, RawSubscription] = {}
        if row.floor:
            self._take(b"", lambda *_message: None)
        else:
            link: Any = SimpleNamespace(subscribe=self._take)
            self.followers.subscribe(link)
        client = SimpleNamespace(_max_payload=1 << 20)
        self._parser = FastParser(client, self._subscriptions, Traffic(), lambda: None, _raise)

    def _take(self, _subject: bytes, callback: Callable[..., None]) -> int:
        self._subscriptions[b"1"] = RawSubscription(callback, b"")  # the same for each partition
        return 1

    async def hear(self, reads: list[bytes]) -> None:
        """Take what was read."""
        for read in reads:
            await self._parser.parse(read)

    async def read(self) -> None:
        """Take everything that memory has, as it stands in replies."""
        for one in self.followers.by_stream.values():
            for timeline in self._cache.of(one.feed):
                for place in range(timeline.count):
                    timeline.body(place)

    @property
    def heard(self) -> int:
        """How many publications the streams were followed by."""
        return sum(one.feed.heard for one in self.followers.by_stream.values())


def _followers(cache: Cache) -> Followers:
    namespace = {"name": "log", "history_size": 20, "history_ttl": "1h"}
    settings = {"nats": {"partitions": PARTITIONS}, "channel": {"namespaces": [namespace]}}
    namespaces = Namespaces(decode(HistoryConfig, settings), PARTITIONS, range(PARTITIONS))
    clock = ManualClock()
    log = structlog.make_filtering_bound_logger(40)
    quiet: Any = structlog.wrap_logger(structlog.PrintLogger(sys.stderr), wrapper_class=log)
    store = FakeStore(FakeStream(clock))
    return Followers(namespaces, cache, store, FakeNotebook(), Telemetry(), quiet, clock)


def _raise(error: Exception) -> None:
    raise error


async def measured(row: Row, profiler: cProfile.Profile | None = None) -> float:
    """Return CPU microseconds of this thread for each publication, after as many that warm up."""
    ear, source = Ear(row), Republished(row.channels)
    await ear.followers.look()
    await ear.hear(source.reads(PUBLICATIONS, row.at_once))
    reads = source.reads(PUBLICATIONS, row.at_once)
    settle()
    spent = await _spent(lambda: ear.hear(reads), profiler if not row.reads else None)
    for _ in range(row.reads):
        spent = await _spent(ear.read, profiler)
    if ear.heard != (0 if row.floor else 2 * PUBLICATIONS):
        raise RuntimeError(f"{ear.heard} publications were taken")
    return spent / PUBLICATIONS / (2 if row.reads else 1) * 1e6


async def _spent(work: Callable[[], Awaitable[None]], profiler: cProfile.Profile | None) -> float:
    """Return CPU seconds of this thread."""
    if profiler is not None:
        profiler.enable()
    began = time.thread_time()
    await work()
    spent = time.thread_time() - began
    if profiler is not None:
        profiler.disable()
    return spent


class Child:
    """A process with the services of a checkout, and what its tests put in place of streams: measures a row when asked."""

    def __init__(self, checkout: Path) -> None:
        path = os.pathsep.join([str(checkout / "services"), str(checkout)])
        command = [sys.executable, __file__, "--child"]
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": path},
            cwd=checkout,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self, name: str) -> float:
        """Return CPU microseconds of a publication."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("it was started with pipes")
        print(name, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def end(self) -> None:
        """Let it go."""
        self._process.communicate()


def answer() -> None:
    """Be a `Child`: measure what is named on standard input."""
    for line in sys.stdin:
        print(asyncio.run(measured(ROWS[line.rstrip()])), flush=True)


def line(name: str, spent: dict[str, list[float]]) -> str:
    """Return what is printed of a row: microseconds by checkout."""
    cells = [
        f"{whose} {median(costs):6.2f} ({min(costs):.2f} to {max(costs):.2f})"
        for whose, costs in spent.items()
    ]
    if len(spent) > 1:
        ratios = [new / old for new, old in zip(*spent.values(), strict=True)]
        cells.append(f"ratio {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return f"{name:44} {'   '.join(cells)}"


def compare(checkouts: dict[str, Path], names: list[str], rounds: int) -> None:
    """Measure the rows in each checkout, alternated, and print."""
    children = {whose: Child(checkout.resolve()) for whose, checkout in checkouts.items()}
    for name in names:
        spent: dict[str, list[float]] = {whose: [] for whose in children}
        for _ in range(rounds):
            for whose, child in children.items():
                spent[whose].append(child.measure(name))
        print(line(name, spent), flush=True)
    for child in children.values():
        child.end()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.history.feed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", action="append", metavar="ROW", choices=[*ROWS], help="one of the rows")
    parser.add_argument("--beside", type=Path, help="another checkout, alternated with this one")
    parser.add_argument("--profile", default="", choices=[*ROWS], help="print where the time of this goes")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.profile:
        profiler = cProfile.Profile(time.thread_time)
        asyncio.run(measured(ROWS[options.profile], profiler))
        pstats.Stats(profiler).sort_stats("tottime").print_stats(40)
    elif options.child:
        answer()
    else:
        beside = {"beside": options.beside} if options.beside else {}
        compare({"here": ROOT, **beside}, options.only or [*ROWS], options.rounds)


if __name__ == "__main__":
    main()
