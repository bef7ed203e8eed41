"""The history service by itself: reads by gRPC, from memory and from the stream, and the memory of many channels."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

import msgspec

from bench.history.fill import channels, fill
from bench.history.mesh import service_config, streams
from bench.load.machine import bind, cpu_seconds, private_bytes, wait_settled
from bench.load.measure import Plan, alternated
from bench.load.report import thousands
from bench.load.servers import PREFIX
from tests.support.history import HistoryClient, HistoryProcess, client_of
from tests.support.nats_server import NatsServer
from tests.support.wait import eventually

PAYLOAD = b'"' + b"x" * 132 + b'"'
"""134 bytes."""
AT_ONCE = 64
PIECE = 5_000
"""Channels that are filled before it is waited for until the service has heard that: it is not to fall behind."""
SMALLEST_CACHE = 1 << 20
"""Far less than what is read, so that every publication comes from the stream again."""
READS_HEAD = (
    "reads of 50 publications",
    "count",
    "a CPU-second of the service",
    "spread",
    "a second",
    "NATS's CPU",
    "from memory",
)
MEMORY_HEAD = ("memory of the service", "channels", "publications each", "bytes a channel", "of which data")


class Sizes(msgspec.Struct, frozen=True):
    """How much is read and filled. `slope` are the numbers of channels between which memory is measured."""

    read_channels: int = 1_000
    reads: int = 5_000
    stream_reads: int = 1_000
    slope: tuple[int, int] = (10_000, 100_000)


class Reads(msgspec.Struct, frozen=True):
    """One run."""

    count: int
    seconds: float
    cpu: float
    broker_cpu: float
    from_memory: float


async def read(history: HistoryProcess, nats: NatsServer, among: int, count: int) -> Reads:
    """Read so often 50 publications, of one channel after the other."""
    async with client_of(history, timeout="30s") as client:
        numbers = iter(range(count))

        async def reader() -> None:
            for number in numbers:
                await _one(client, number % among)

        before = (await history.metrics()).value("tidewire_history_reads_total", source="memory")
        used, began = (cpu_seconds(history.pid), cpu_seconds(nats.pid)), time.monotonic()
        await asyncio.gather(*(reader() for _ in range(AT_ONCE)))
        seconds = time.monotonic() - began
        cpu, broker = cpu_seconds(history.pid) - used[0], cpu_seconds(nats.pid) - used[1]
        memory = (await history.metrics()).value("tidewire_history_reads_total", source="memory") - before
    return Reads(count, seconds, cpu, broker, memory / count)


async def _one(client: HistoryClient, number: int) -> None:
    reply = await client.read(f"{PREFIX}{number}", limit=50, reverse=True)
    if len(reply.publications) != 50:
        raise RuntimeError(f"{PREFIX}{number} has {len(reply.publications)} publications")


def measure_reads(plan: Plan, sizes: Sizes) -> dict[str, list[Reads]]:
    """Return the runs of a service whose memory has all that is read, and of one whose memory has not, alternated."""
    folder = plan.tools.folder / "reads"
    folder.mkdir()
    with ExitStack() as stack:
        nats = stack.enter_context(streams(folder))
        asyncio.run(fill(nats.url, channels(sizes.read_channels, 50), PAYLOAD))
        config = service_config(nats, cache_size=SMALLEST_CACHE)
        services = {
            "from memory": HistoryProcess(folder, service_config(nats), "memory"),
            "from the stream": HistoryProcess(folder, config, "stream"),
        }
        counts = {"from memory": sizes.reads, "from the stream": sizes.stream_reads}
        for service in services.values():
            stack.enter_context(service)
            bind(service.pid, plan.server_cpu)
        asyncio.run(read(services["from memory"], nats, sizes.read_channels, sizes.read_channels))
        found: dict[str, list[Reads]] = {name: [] for name in services}
        for name in alternated(services, plan.runs):
            wait_settled([service.pid for service in services.values()])
            found[name].append(asyncio.run(read(services[name], nats, sizes.read_channels, counts[name])))
    return found


def reads_lines(found: dict[str, list[Reads]]) -> list[list[str]]:
    """Return the table's lines."""
    lines = []
    for name, runs in found.items():
        rates = [run.count / run.cpu for run in runs]
        lines.append(
            [
                name,
                str(runs[0].count),
                thousands(median(rates)),
                f"{thousands(min(rates))} to {thousands(max(rates))}",
                thousands(median(run.count / run.seconds for run in runs)),
                f"{median(run.broker_cpu / run.cpu for run in runs):.0%}",
                f"{median(run.from_memory for run in runs):.0%}",
            ]
        )
    return lines


async def _grown(history: HistoryProcess, nats: NatsServer, sizes: Sizes, times: int) -> float:
    """Publish live to more and more channels; return the bytes of private memory that each has cost."""
    memory, filled = [], 0
    for count in sizes.slope:
        while filled < count:
            more = range(filled, min(filled + PIECE, count))
            await fill(nats.url, [f"{PREFIX}{number}" for _ in range(times) for number in more], PAYLOAD)
            filled = more.stop
            await eventually(partial(heard, history, filled * times), 120)
        await asyncio.to_thread(wait_settled, [history.pid])
        memory.append(private_bytes(history.pid))
    return (memory[1] - memory[0]) / (sizes.slope[1] - sizes.slope[0])


async def heard(history: HistoryProcess, publications: int) -> bool:
    """Return whether the service has heard as many publications as there are."""
    return (await history.metrics()).value("tidewire_history_publications_total") == publications


def measure_memory(plan: Plan, sizes: Sizes) -> list[list[str]]:
    """Return the table's lines: one publication of a channel, which is all that it has, and ten of them."""
    lines = []
    for times in (1, 10):
        folder = Path(plan.tools.folder / f"memory-{times}")
        folder.mkdir()
        with streams(folder) as nats:
            config = service_config(nats, cache_size=1 << 34)
            with HistoryProcess(folder, config) as history:
                each = asyncio.run(_grown(history, nats, sizes, times))
        lines.append(
            ["private, slope", f"{sizes.slope[1]:,}", str(times), f"{each:.0f}", f"{len(PAYLOAD) * times}"]
        )
    return lines
