"""Members come and go all the time while replicas are killed and frozen and NATS begins anew: counts are exact afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from pathlib import Path

import pytest

from tests.integration.presence.test_faults import clients_of, replicas
from tests.support.nats_server import NatsServer
from tests.support.presence import PresenceClient
from tests.support.presence_edge import ScriptedEdge, scripted_edge
from tests.support.wait import eventually
from tidewire.kernel.call_errors import CallError
from tidewire.platform.tasks import ended

CHANNELS = [f"room:{number}" for number in range(20)]
PHASE = 3.0
"""Seconds that each fault lasts."""


class Churn:
    """Connections of one edge that join and leave channels for as long as it runs."""

    def __init__(self, edge: ScriptedEdge, seed: int) -> None:
        self.edge = edge
        self.changes = 0
        self._choice = random.Random(seed)
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            channel, client = self._choice.choice(CHANNELS), f"{self.edge.name}-{self._choice.randrange(200)}"
            change = self.edge.join if self._choice.random() < 0.6 else self.edge.leave
            with contextlib.suppress(Exception):  # NATS may be away: the edge knows what it has, all the same
                await asyncio.wait_for(change(channel, client), 1)
            self.changes += 1
            await asyncio.sleep(0.005)

    async def end(self) -> None:
        """Let nobody come or go any more."""
        await ended([self._task])


def truth(edges: list[ScriptedEdge]) -> dict[str, set[str]]:
    """Who is where."""
    found: dict[str, set[str]] = {channel: set() for channel in CHANNELS}
    for edge in edges:
        for each in edge.truth.values():
            for channel, client in each.members:
                found[channel].add(client)
    return found


async def answers(client: PresenceClient) -> dict[str, set[str]] | None:
    """The same, as a replica has it; None: it does not answer."""
    try:
        found = await client.members(*CHANNELS)
    except CallError:
        return None
    if any(each.problem for each in found):
        return None
    return {
        channel: {member.client for member in each.members}
        for channel, each in zip(CHANNELS, found, strict=True)
    }


@pytest.mark.timeout(240)
async def test_counts_are_exact_whatever_befell(
    server: NatsServer, edge: ScriptedEdge, tmp_path: Path
) -> None:
    """At every replica, and nobody who lives was told to have left."""
    async with (
        replicas(server, tmp_path, 3, "2500ms") as processes,
        scripted_edge(server.url, "edge-2") as second,
    ):
        edges = [edge, second]
        churns = [Churn(each, seed) for seed, each in enumerate(edges)]
        await asyncio.sleep(PHASE)
        processes[0].kill()
        await asyncio.sleep(PHASE)
        await asyncio.to_thread(processes[0].start)
        processes[1].send_signal(signal.SIGSTOP)
        await asyncio.sleep(PHASE)
        processes[1].send_signal(signal.SIGCONT)
        server.kill()
        await asyncio.sleep(PHASE)
        server.start()
        await eventually(lambda: all(each.client.is_connected for each in edges))
        for each in edges:
            each.losing = True
        await asyncio.sleep(PHASE / 3)
        for each in edges:
            each.losing = False
        await asyncio.sleep(PHASE)
        for churn in churns:
            await churn.end()
        began = time.monotonic()
        async with clients_of(processes) as clients:

            async def are_exact() -> bool:
                return all([await answers(client) == truth(edges) for client in clients])

            await eventually(are_exact, 60)
        took = time.monotonic() - began
        members = sum(map(len, truth(edges).values()))
        print(
            f"{sum(churn.changes for churn in churns)} changes, {members} members, exact {took:.1f} s after the last"
        )
        assert members > 100
        for process in processes:
            metrics = await process.metrics()
            assert metrics.value("tidewire_presence_leaves_total") == 0
