"""The presence service as a process, with NATS and gRPC: rebuilding all after a start, and asking for large channels.

The edges are a process of their own (`python -m bench.presence.outside URL CROWD`), which answers with what it has prepared.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import uvloop
from nats.aio.msg import Msg

from bench.load.machine import cpu_seconds, private_bytes
from bench.presence.crowd import EDGES, PARTITIONS, Crowd, Said, said
from tests.support.nats_client import connected
from tests.support.nats_server import NatsServer
from tests.support.presence import PresenceClient, PresenceProcess, client_of, presence_config
from tests.support.wait import eventually
from tidewire.kernel.presence_wire import HEARTBEAT, Ask, Heartbeat, PartitionState, encode, reader

LISTENING = 0.5
"""Seconds for which the service listens at its start, which count."""
LARGE = 10_000
"""Members of a large channel."""


class Rebuild(msgspec.Struct, frozen=True):
    """Seconds from when it listens to all is there and answered, CPU-seconds of the service, and its private bytes afterwards."""

    seconds: float
    cpu: float
    bytes: int


class Asked(msgspec.Struct, frozen=True):
    """Milliseconds of one question: half and 99 of 100 within, and questions a CPU-second of the service."""

    median: float
    p99: float
    rate: float


async def play(url: str, crowd: Crowd) -> None:
    """Be all edges: give signs of life, and answer questions."""
    edges = [said(crowd, edge) for edge in range(EDGES)]
    async with connected(url, pending_size=64 << 20) as nats:

        async def beat(edge: int) -> None:
            states = tuple(
                PartitionState(partition, each.last, each.members, each.users, each.channels)
                for partition, each in edges[edge].items()
            )
            await nats.publish(f"tw.pres.h.edge-{edge}", encode(Heartbeat(1, 1, states)))

        async def answer(message: Msg) -> None:
            edge = int(message.subject.rpartition("-")[2])
            for partition in reader(Ask).decode(message.data).partitions:
                for chunk in edges[edge].get(partition, Said()).chunks:
                    await nats.publish(message.reply, chunk)

        async def hello(_message: Msg) -> None:
            for edge in range(EDGES):
                await beat(edge)

        for edge in range(EDGES):
            await nats.subscribe(f"tw.pres.s.edge-{edge}", cb=answer)
        await nats.subscribe("tw.pres.s.all", cb=hello)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            for edge in range(EDGES):
                await beat(edge)
            await asyncio.sleep(HEARTBEAT)


@contextlib.contextmanager
def players(url: str, crowd: Crowd) -> Iterator[None]:
    """Run the edges, until they have prepared everything and then for the whole block."""
    command = [sys.executable, "-m", "bench.presence.outside", url, msgspec.json.encode(crowd).decode()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        try:
            if child.stdout is None or not child.stdout.readline():
                raise AssertionError("the edges ended")
            yield
        finally:
            child.kill()


def service_config(url: str) -> dict[str, Any]:
    """Return the configuration of the service."""
    own = {"listening_time": f"{LISTENING * 1000:.0f}ms"}
    return presence_config(url, {"nats": {"partitions": PARTITIONS}, "presence_service": own})


async def rebuild(folder: Path, crowd: Crowd) -> Rebuild:
    """Let a service find all that there is."""
    with (
        NatsServer(folder / "nats") as nats,
        players(nats.url, crowd),
        PresenceProcess(folder, service_config(nats.url)) as process,
    ):
        began = time.perf_counter()
        await eventually(lambda: _has(process, crowd.members), 300)
        seconds = time.perf_counter() - began
        return Rebuild(seconds, cpu_seconds(process.pid), private_bytes(process.pid))


async def ask(folder: Path, count: int) -> dict[str, Asked]:
    """Ask for a channel of LARGE members, for its counts, and for one user, one question after the other."""
    with (
        NatsServer(folder / "nats") as nats,
        players(nats.url, Crowd(LARGE, size=LARGE, users=True)),
        PresenceProcess(folder, service_config(nats.url)) as process,
    ):
        await eventually(lambda: _has(process, LARGE), 60)
        async with client_of(process) as client:
            return await _questions(process, client, count)


async def _has(process: PresenceProcess, members: int) -> bool:
    """Whether it holds so many and answers."""
    held = (await process.metrics()).value("tidewire_presence_entries", kind="members")
    return held == members and await process.is_ready()


async def _questions(process: PresenceProcess, client: PresenceClient, count: int) -> dict[str, Asked]:
    return {
        f"members of a channel with {LARGE:,}": await _asked(process, client, "members", count),
        f"counts of a channel with {LARGE:,}": await _asked(process, client, "stats", count),
        "one user": await _asked(process, client, "users", count),
    }


async def _asked(process: PresenceProcess, client: PresenceClient, what: str, count: int) -> Asked:
    name = "user-1" if what == "users" else "room:0"
    before, took = cpu_seconds(process.pid), []
    for _ in range(count):
        began = time.perf_counter()
        (found,) = await getattr(client, what)(name)
        took.append(1000 * (time.perf_counter() - began))
        if what == "members" and len(found.members) != LARGE:
            raise AssertionError("somebody is missing")
    took.sort()
    return Asked(median(took), took[int(0.99 * count)], count / (cpu_seconds(process.pid) - before + 1e-9))


if __name__ == "__main__":
    uvloop.run(play(sys.argv[1], msgspec.json.decode(sys.argv[2], type=Crowd)))
