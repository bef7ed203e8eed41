"""The recovery storm: thousands of connections that come back at once, each of which has missed 50 publications.

`python -m bench.history.storm`: for one channel and for a thousand, `storm` is all of it (handshake, connect with a token,
subscribe with a position; 64 connections of each process under way at a time), and `recoveries only` the subscribe commands
of connections that are there already, all sent at once. Beside them the same reads as JetStream answers them, filtered by
subject. CPU is user and system time of the processes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from bench.history.fill import channels, fill
from bench.history.mesh import edge, service_config, streams
from bench.history.service import heard
from bench.load.machine import bind, cpu_seconds, niceness, wait_settled
from bench.load.report import table
from bench.load.servers import PREFIX
from tests.support.edges import PARTITIONS, PATIENT, EdgeProcess, token
from tests.support.history import HistoryProcess, client_of
from tests.support.links import started
from tests.support.nats_server import NatsServer
from tests.support.wait import eventually
from tidewire.history.adapters.batched_gets import BatchedGets
from tidewire.kernel.streams import stream_name
from tidewire.kernel.subjects import in_subject

MISSED, SEEN = 50, 10
"""Publications of each channel behind and before the position that clients come back with."""
EXPECTED = MISSED
"""Publications that a recovery has."""
MOST_OF_A_PROCESS = 18_000
AT_ONCE = 32
"""Reads of JetStream under way."""
HEAD = (
    "what",
    "count",
    "p50 s",
    "p99 s",
    "all s",
    "edge's CPU, us each",
    "history's",
    "NATS's",
    "faults",
)

Position = tuple[int, str]


class Storm(msgspec.Struct, frozen=True):
    """How big it is."""

    connections: int
    channels: Sequence[int]
    processes: int
    filtered_reads: int


class Meter:
    """The CPU that processes have used since it was made, in microseconds for each of `count`."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self._before = [*map(cpu_seconds, pids)]

    def each(self, count: int) -> list[str]:
        """Return it, process by process."""
        used = [
            after - before for after, before in zip(map(cpu_seconds, self._pids), self._before, strict=True)
        ]
        return [f"{seconds / count * 1e6:.0f}" for seconds in used]


class Flocks:
    """Processes with connections; use `running`."""

    def __init__(self, processes: Sequence[asyncio.subprocess.Process], count: int) -> None:
        self._processes = processes
        share = -(-count // len(processes))
        self._shares = [(at, min(at + share, count)) for at in range(0, count, share)]

    async def order(self, what: str, value: Any = None, **more: Any) -> list[Any]:  # noqa: ANN401 - of an order
        """Give all the same order; without a value, each its own numbers."""
        values = [value] * len(self._shares) if value is not None else self._shares
        pairs = zip(self._processes, values, strict=True)
        return await asyncio.gather(*(_order(process, {what: each, **more}) for process, each in pairs))

    async def times(self, what: str) -> tuple[list[float], dict[str, int]]:
        """Have all do it; return the seconds after which each was there, ascending, and what went wrong."""
        began = time.monotonic()
        answers = await self.order(what)
        found = sorted(at - began for answer in answers for at in answer["times"])
        return found, {why: count for answer in answers for why, count in answer["faults"].items()}


async def _order(process: asyncio.subprocess.Process, order: dict[str, Any]) -> Any:  # noqa: ANN401 - an answer
    if process.stdin is None or process.stdout is None:
        raise AssertionError("no pipes")
    process.stdin.write(json.dumps(order).encode() + b"\n")
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError(f"a process of connections ended with status {await process.wait()}")
    return json.loads(line)


@asynccontextmanager
async def running(count: int, least: int, cpu: int | None) -> AsyncIterator[Flocks]:
    """Run as many processes as the connections need, and `least` at least."""
    processes = []
    try:
        for _ in range(max(least, -(-count // MOST_OF_A_PROCESS))):
            pipe = asyncio.subprocess.PIPE
            command = [sys.executable, "-m", "bench.history.flock"]
            process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=1 << 24)
            processes.append(process)
            bind(process.pid, cpu)
        yield Flocks(processes, count)
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def positions(history: HistoryProcess, count: int) -> list[Position]:
    """Return, channel by channel, the position behind which all that was missed is."""
    await eventually(partial(heard, history, count * (SEEN + MISSED)), 120)
    found = []
    async with client_of(history) as client:
        for number in range(count):
            reply = await client.read(f"{PREFIX}{number}")
            if len(reply.publications) != MISSED + SEEN:
                raise RuntimeError(f"{PREFIX}{number} has {len(reply.publications)} publications")
            found.append((reply.publications[SEEN - 1].offset, reply.top.epoch))
    return found


async def recoveries(
    flocks: Flocks,
    running_edge: EdgeProcess,
    history: HistoryProcess,
    nats: NatsServer,
    count: int,
    name: str,
) -> AsyncIterator[list[str]]:
    """Yield the lines of one number of channels."""
    pids = running_edge.pid, history.pid, nats.pid
    for what, before in (("storm", None), ("recoveries only", "connect")):
        if before is not None:
            await flocks.times(before)
        await asyncio.to_thread(wait_settled, [*pids])
        meter = Meter(*pids)
        times, faults = await flocks.times("storm" if before is None else "subscribe")
        quantiles = [times[int(len(times) * share) - 1] for share in (0.5, 0.99, 1)] if times else []
        seconds = [f"{each:.2f}" for each in quantiles] or [""] * 3
        problems = ", ".join(f"{count} x {why}" for why, count in faults.items())
        yield [f"{what}, {name}", str(len(times)), *seconds, *meter.each(count), problems]
        await flocks.order("close", value=True)
        await asyncio.to_thread(wait_settled, [*pids])


async def filtered(nats: NatsServer, found: Sequence[Position], count: int) -> list[str]:
    """Read as many recoveries by JetStream itself: batched direct gets, filtered by subject."""
    async with started(nats.url) as (link, _):
        gets, room, times = BatchedGets(link, "_INBOX", 30), asyncio.Semaphore(AT_ONCE), []
        meter, began = Meter(nats.pid), time.monotonic()

        async def read(number: int) -> None:
            subject = in_subject(f"{PREFIX}{number}", PARTITIONS).decode()
            stream = stream_name("default", int(subject.split(".")[2]))
            query = {"seq": found[number][0] + 1, "next_by_subj": subject, "batch": MISSED}
            async with room:
                messages, _ = await gets.get(stream, query)
            if len(messages) != MISSED:
                raise RuntimeError(f"{len(messages)} instead of {MISSED}")
            times.append(time.monotonic() - began)

        await asyncio.gather(*(read(number % len(found)) for number in range(count)))
        (cpu,) = meter.each(count)
    seconds = [f"{times[int(count * share) - 1]:.2f}" for share in (0.5, 0.99, 1)]
    return [f"JetStream's filtered reads, {_channels(len(found))}", str(count), *seconds, "", "", cpu, ""]


def _channels(count: int) -> str:
    return f"{count:,} channels" if count > 1 else "1 channel"


async def measure(storm: Storm, folder: Path, cpus: Sequence[int | None]) -> list[list[str]]:
    """Return the lines of the table."""
    tokens = folder / "tokens.txt"
    tokens.write_text("".join(f"{token(f'user-{n}', ttl=86_400)}\n" for n in range(storm.connections)))
    lines = []
    for count in storm.channels:
        place = folder / str(count)
        with ExitStack() as stack:
            nats = await asyncio.to_thread(_started, place, stack)  # it runs a loop of its own
            history = stack.enter_context(HistoryProcess(place, service_config(nats)))
            running_edge = stack.enter_context(edge(place, nats, history, client=PATIENT))
            bind(running_edge.pid, cpus[0])
            await fill(nats.url, channels(count, SEEN + MISSED), b'"' + b"x" * 126 + b'"')
            found = await positions(history, count)
            async with running(storm.connections, storm.processes, cpus[1]) as flocks:
                aim = {"tokens": str(tokens), "channels": count, "positions": found, "expect": EXPECTED}
                await flocks.order("aim", running_edge.port, **aim)
                named = _channels(count)
                arguments = (running_edge, history, nats, storm.connections, named)
                lines += [line async for line in recoveries(flocks, *arguments)]
            lines.append(await filtered(nats, found, storm.filtered_reads))
    return lines


def _started(place: Path, stack: ExitStack) -> NatsServer:
    return stack.enter_context(streams(place))


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.history.storm", description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--channels", type=int, nargs="*", default=[1, 1_000])
    parser.add_argument("--processes", type=int, default=2, help="of connections, at least")
    parser.add_argument("--filtered-reads", type=int, default=10_000, help="reads by JetStream beside it")
    parser.add_argument("--cpus", default="0,1", help="processors of the edge and of the load; empty: any")
    parser.add_argument("--nice", type=int, default=0, help="niceness of all; below 0 needs root")
    options = parser.parse_args()
    cpus = [int(number) for number in options.cpus.split(",")] if options.cpus else [None, None]
    storm = Storm(options.connections, options.channels, options.processes, options.filtered_reads)
    with tempfile.TemporaryDirectory() as folder, niceness(options.nice):
        print(table(asyncio.run(measure(storm, Path(folder), cpus)), HEAD))


if __name__ == "__main__":
    main()
