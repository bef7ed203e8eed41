"""How nats-server and the history service bear many channels: one publication in each, in files, one replica.

`python -m bench.history.subjects` fills streams with 10 thousand, 100 thousand and a million channels, each time anew in a folder
of its own, and prints a table: nats-server's memory and disk, how long it takes from its start to the answer of the last
stream, after an orderly stop and after kill -9; how long the history service takes until it is ready, and its memory then
and after it has read some of the channels from the streams. Memory is RSS.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench.history.fill import channels, fill
from bench.history.mesh import service_config, streams
from bench.load.machine import cpu_seconds, niceness, wait_settled
from bench.load.report import table
from bench.load.servers import PREFIX
from tests.support.edges import PARTITIONS
from tests.support.history import HistoryClient, HistoryProcess, client_of
from tests.support.links import started
from tests.support.nats_server import NatsServer
from tidewire.kernel.streams import stream_name
from tidewire.platform.jetstream import JetStream

PAYLOAD: Final = b'{"n":1,"to":"x"}'
AT_ONCE: Final = 64
MIB: Final = 1 << 20
READY_TIMEOUT: Final = 300.0
HEAD = (
    "channels",
    "filled, a second",
    "on disk, MiB",
    "NATS, MiB",
    "NATS ready after stop, s",
    "after kill -9, s",
    "NATS then, MiB",
    "history ready, s",
    "history, MiB",
    "reads of channels",
    "took, s",
    "history's CPU each, us",
    "NATS's, us",
    "history then, MiB",
)


def rss(pid: int) -> int:
    """Return a process's resident memory in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 // MIB


def disk(folder: Path) -> int:
    """Return what a folder takes on disk, in MiB."""
    return sum(each.stat().st_blocks * 512 for each in folder.rglob("*") if each.is_file()) // MIB


async def answering(url: str) -> None:
    """Wait until every stream answers."""
    async with started(url) as (link, _):
        js = JetStream(link, timeout=READY_TIMEOUT)
        for partition in range(PARTITIONS):
            await js.call(f"STREAM.INFO.{stream_name('default', partition)}")


async def restarted(nats: NatsServer, end: Callable[[], None]) -> float:
    """End the server and start it; return the seconds from its start until every stream answers."""
    await asyncio.to_thread(end)
    began = time.monotonic()
    await asyncio.to_thread(nats.start)
    await answering(nats.url)
    return time.monotonic() - began


async def read(client: HistoryClient, total: int, count: int) -> None:
    """Read some channels, each once."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with room:
            reply = await client.read(f"{PREFIX}{number}")
        if len(reply.publications) != 1:
            raise RuntimeError(f"{PREFIX}{number} has {len(reply.publications)} publications")

    await asyncio.gather(*map(one, random.sample(range(total), count)))


async def line(nats: NatsServer, folder: Path, count: int, reads: int) -> list[str]:
    """Return a line of the table."""
    began = time.monotonic()
    await fill(nats.url, channels(count), PAYLOAD)
    found: list[Any] = [f"{count:,}", f"{count / (time.monotonic() - began):,.0f}"]
    await asyncio.to_thread(wait_settled, [nats.pid])
    found += [disk(nats.store), rss(nats.pid)]
    found += [f"{await restarted(nats, end):.2f}" for end in (nats.stop, nats.kill)]
    found.append(rss(nats.pid))
    history = HistoryProcess(folder, service_config(nats))
    began = time.monotonic()
    with await asyncio.to_thread(history.start):
        found += [f"{time.monotonic() - began:.2f}", rss(history.pid), f"{reads:,}"]
        pids, began = (history.pid, nats.pid), time.monotonic()
        before = [*map(cpu_seconds, pids)]
        async with client_of(history, timeout="30s") as client:
            await read(client, count, reads)
        found.append(f"{time.monotonic() - began:.1f}")
        used = [after - earlier for after, earlier in zip(map(cpu_seconds, pids), before, strict=True)]
        found += [f"{each / reads * 1e6:.0f}" for each in used]
        found.append(rss(history.pid))
    return [str(each) for each in found]


def main() -> None:
    """Measure each number of channels, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.history.subjects", description=__doc__)
    parser.add_argument("--channels", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--reads", type=int, default=10_000, help="channels that are read")
    parser.add_argument("--nice", type=int, default=0, help="niceness of all; below 0 needs root")
    options = parser.parse_args()
    lines = []
    for count in options.channels:
        with tempfile.TemporaryDirectory() as name, niceness(options.nice), streams(Path(name)) as nats:
            lines.append(asyncio.run(line(nats, Path(name), count, min(options.reads, count))))
    print(table(lines, HEAD))


if __name__ == "__main__":
    main()
