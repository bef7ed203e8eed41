"""A stream of three copies of which one lags: what a history service calls complete is."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.edges import merged
from tests.support.history import (
    FEW,
    HistoryClient,
    HistoryProcess,
    client_of,
    history_config,
    migrated,
    offsets,
    outcome,
    publish,
)
from tests.support.nats_client import connected
from tests.support.nats_cluster import NatsCluster, nats_cluster
from tests.support.nats_server import NatsServer
from tidewire.kernel.call_errors import UNAVAILABLE, CallError
from tidewire.kernel.streams import stream_name

ROUNDS = 3
EACH = 8
"""Publications of a round on each channel."""
DATA = b"x" * 20_000
"""So much that memory keeps little of it."""
SECONDS = 2.0
"""Of reading, from when the copy that stood still goes on."""
CHANNELS = [f"long:{number}" for number in range(6)]
STREAMS = [stream_name("default", partition) for partition in range(FEW)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    """Three nodes."""
    with nats_cluster(tmp_path, FEW) as running:
        yield running


class Truth:
    """All that was acknowledged, and what the answers said of it."""

    def __init__(self) -> None:
        self.sent: dict[str, list[int]] = {channel: [] for channel in CHANNELS}
        self.outcomes: Counter[str] = Counter()
        self.epochs: dict[str, str] = {}

    async def read(self, client: HistoryClient, channel: str, back: int) -> None:
        """Recover from some publications back, knowing of the newest."""
        sent = list(self.sent[channel])
        since = sent[-back]
        try:
            reply = await client.read(channel, (since, self.epochs[channel]), recover=True, at_least=sent[-1])
        except CallError as error:
            assert error.reason is UNAVAILABLE  # noqa: PT017 - it is one of the outcomes
            self.outcomes["unavailable"] += 1
            return
        self.outcomes[outcome(reply)] += 1
        assert outcome(reply) == "COMPLETE"
        assert offsets(reply) == [each for each in self.sent[channel] if since < each <= reply.top.offset]
        assert reply.top.offset >= sent[-1]

    async def read_for(self, client: HistoryClient, seconds: float) -> None:
        """Read all channels, from everywhere."""
        end = time.monotonic() + seconds
        back = 1
        while time.monotonic() < end:
            await asyncio.gather(*(self.read(client, channel, back) for channel in CHANNELS))
            back = back % min(map(len, self.sent.values())) + 1


@pytest.mark.timeout(240)
async def test_a_copy_that_lags_makes_no_answer_complete_that_is_not(
    cluster: NatsCluster, tmp_path: Path
) -> None:
    """It stands still while others are published to, and answers as soon as it goes on; memory holds little here."""
    config = history_config(
        cluster.urls[0],
        {
            "storage": {"profiles": [{"name": "default", "max_messages": 1000, "replicas": 3}]},
            "channel": {"namespaces": [{"name": "long", "history_size": 1000, "history_ttl": "1h"}]},
            "history_service": {"cache_size": 1 << 20},
        },
    )
    await migrated(config)
    await cluster.settled(STREAMS)
    truth = Truth()
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for node in range(3):
            process = stack.enter_context(_history(tmp_path, config, cluster, node))
            clients.append(await stack.enter_async_context(client_of(process)))
        await _publish(cluster, truth, 0)
        for channel in CHANNELS:
            truth.epochs[channel] = (await clients[0].read(channel)).top.epoch
        for _ in range(ROUNDS):
            lagging, node = await _follower(cluster)
            lagging.pause()
            await _publish(cluster, truth, node)
            lagging.resume()
            await asyncio.gather(*(truth.read_for(client, SECONDS) for client in clients))
            await cluster.settled(STREAMS)
    print(f"a copy that lags: {dict(truth.outcomes)}")
    assert truth.outcomes["COMPLETE"] > 100


def _history(folder: Path, config: dict[str, Any], cluster: NatsCluster, node: int) -> HistoryProcess:
    """One that is connected to one node."""
    return HistoryProcess(folder, merged(config, {"nats": {"urls": [cluster.urls[node]]}}), f"at{node}")


async def _follower(cluster: NatsCluster) -> tuple[NatsServer, int]:
    """A node that leads no stream, and the number of another one."""
    leaders = [await cluster.leader(stream) for stream in STREAMS]
    lagging = next(node for node in reversed(cluster.nodes) if node not in leaders)
    return lagging, next(number for number, node in enumerate(cluster.nodes) if node is not lagging)


async def _publish(cluster: NatsCluster, truth: Truth, node: int) -> None:
    async with connected(cluster.urls[node]) as nats:
        for _ in range(EACH):
            for channel in CHANNELS:
                truth.sent[channel].append(await publish(nats, channel, DATA))
