"""What presence costs an edge by itself: memory and CPU with it on against off.

A real edge core, real WebSocket transports on sockets that are none, a real nats-server; no replica listens. Each of the
clients, who have users of their own, subscribes to some channels, which it shares with nine others, and leaves them
again. `off`: there is no presence service. `occupancy`: it learns which channels have subscribers. `presence`: who they
are, too. `join_leave`: and joins and leaves are told, to one client of each channel. Each is measured in a process of its
own, alternated. Prints CPU microseconds of the edge's thread for each subscribe and each unsubscribe, those of the batches
included, memory of a subscription (connections not counted) and CPU while nothing happens, which is what heartbeats
cost; and what a snapshot of all takes. The median, the least and the greatest of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import structlog
import uvloop
from nats.aio.msg import Msg

from bench.publish import Socket, connected, frame
from tests.support.edges import NOBODY, OPEN, mapping, token
from tests.support.edges import edge_config as written_config
from tests.support.nats_client import connected as nats_connected
from tests.support.nats_server import NatsServer
from tidewire.edge.app import Edge
from tidewire.edge.config import EdgeConfig
from tidewire.kernel.config import decode
from tidewire.kernel.presence_wire import Ask, Chunk, encode, reader

CLIENTS = 400
CHANNELS = 20
SHARE = 10
"""Clients of a channel."""
ROUNDS = 3
IDLE = 4.0
SEEN = {"presence": True, "allow_presence_for_subscriber": True}
SETTINGS: dict[str, dict[str, Any] | None] = {
    "off": None,
    "occupancy": {},
    "presence": SEEN,
    "join_leave": {**SEEN, "join_leave": True},
}
ACROSS = 0.2
"""Seconds in which batches and what they bring are over."""


def config_of(setting: str, url: str) -> EdgeConfig:
    """Return an edge's configuration."""
    options = SETTINGS[setting]
    written = written_config(url, {"channel": {"namespaces": [{"name": "room", **OPEN, **(options or {})}]}})
    if options is not None:
        written["presence"] = {"target": NOBODY}
    return decode(EdgeConfig, written)


def resident() -> int:
    """Return the bytes of memory in use."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def channel(client: int, number: int) -> str:
    """Return a channel of a client: SHARE in a row have the same ones."""
    return f"room:{client // SHARE}-{number}"


async def commands(sockets: list[Socket], what: str, answer: bytes) -> float:
    """Have every client give a command for each of its channels, and return the CPU microseconds of each."""
    loop = asyncio.get_running_loop()
    began = time.thread_time()
    for client, socket in enumerate(sockets):
        done, left = loop.create_future(), CHANNELS

        def hear(data: bytes, done: asyncio.Future[None] = done) -> None:
            nonlocal left
            left -= data.count(answer)
            if left <= 0 and not done.done():
                done.set_result(None)

        socket.heard = hear
        for number in range(CHANNELS):
            body: dict[str, Any] = {"channel": channel(client, number)}
            if client % SHARE == 0 and what == "subscribe":
                body["join_leave"] = True
            socket.receive(frame(json.dumps({"id": number + 2, what: body})))
        await done
        socket.heard = lambda _data: None
    await asyncio.sleep(ACROSS)
    return (time.thread_time() - began) * 1e6 / (len(sockets) * CHANNELS)


async def snapshot(edge: Edge, url: str) -> tuple[float, int]:
    """Ask for all, and return the CPU seconds of this thread, which reads it too, and how many entries came."""
    entries, finals = 0, 0
    read = reader(Chunk).decode
    async with nats_connected(url) as client:
        done = asyncio.get_running_loop().create_future()

        async def take(message: Msg) -> None:
            nonlocal entries, finals
            chunk = read(message.data)
            entries += len(chunk.entries)
            finals += chunk.final
            if finals == 16:
                done.set_result(None)

        await client.subscribe("tw.pres.c.bench.1", cb=take)
        await client.flush()
        began = time.thread_time()
        await client.publish(f"tw.pres.s.{edge._node}", encode(Ask(1, "bench")), reply="tw.pres.c.bench.1")  # noqa: SLF001 - the bench knows
        await asyncio.wait_for(done, 30)
        return time.thread_time() - began, entries


async def measured(setting: str, url: str) -> dict[str, float]:
    """Measure one setting in this process."""
    config = config_of(setting, url)
    edge = Edge(config, structlog.get_logger(), lambda: config)
    await edge.start()
    sockets = [await connected(edge, token(f"user-{number}")) for number in range(CLIENTS)]
    await commands(sockets[: 2 * SHARE], "subscribe", b'"subscribe":')  # what is made once
    await commands(sockets[: 2 * SHARE], "unsubscribe", b'"unsubscribe":')
    before = resident()
    found = {"subscribe": await commands(sockets, "subscribe", b'"subscribe":')}
    found["bytes"] = (resident() - before) / (CLIENTS * CHANNELS)
    began = time.thread_time()
    await asyncio.sleep(IDLE)
    found["idle"] = (time.thread_time() - began) / IDLE * 100
    if SETTINGS[setting] is not None:
        found["snapshot"], found["entries"] = await snapshot(edge, url)
    found["unsubscribe"] = await commands(sockets, "unsubscribe", b'"unsubscribe":')
    await edge.stop()
    return found


def shown(values: list[float], form: str = "{:.1f}") -> str:
    """Return the median, the least and the greatest."""
    return (
        f"{form.format(statistics.median(values))} ({form.format(min(values))} to {form.format(max(values))})"
    )


def in_a_process(setting: str, url: str) -> dict[str, float]:
    """Measure one setting in a process of its own."""
    command = [sys.executable, "-m", "bench.attendance", "--setting", setting, "--nats", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.attendance", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--setting", choices=SETTINGS, help=argparse.SUPPRESS)
    parser.add_argument("--nats", help=argparse.SUPPRESS)
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(sys.stderr))
    if options.setting:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(runner.run(measured(options.setting, options.nats))))
        return
    found: dict[str, list[dict[str, float]]] = {setting: [] for setting in SETTINGS}
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder), config=mapping()) as nats:
        for _ in range(options.rounds):
            for setting, results in found.items():
                results.append(in_a_process(setting, nats.url))
    print(
        "| setting | us a subscribe | us an unsubscribe | bytes a subscription | idle, % of a core | snapshot |"
    )
    print("|---|---|---|---|---|---|")
    for setting, results in found.items():
        cells = [
            shown([each["subscribe"] for each in results]),
            shown([each["unsubscribe"] for each in results]),
            shown([each["bytes"] for each in results], "{:.0f}"),
            shown([each["idle"] for each in results], "{:.2f}"),
        ]
        snapshots = [each["snapshot"] * 1e6 / each["entries"] for each in results if "snapshot" in each]
        entries = f"{shown(snapshots)} us an entry, read too" if snapshots else ""
        print(f"| {setting} | {' | '.join(cells)} | {entries} |")


if __name__ == "__main__":
    main()
