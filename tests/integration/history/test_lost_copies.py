"""A stream in memory loses its copies: one at a time nothing is lost; two of three at once, it waits for the third."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from tests.support.edges import OPEN, PATIENT, EdgeProcess, edge_config, token
from tests.support.history import FEW, HistoryProcess, history_config, migrated, publish, publisher
from tests.support.nats_cluster import NatsCluster, nats_cluster
from tests.support.protocol import protocol
from tests.support.raw_client import RawClient, joined
from tests.support.streams import IN_TIME
from tests.support.wait import SLACK, eventually
from tidewire.kernel.streams import stream_name
from tidewire.kernel.subjects import encode_channel, partition_of
from tidewire.storage.cluster import StorageError

KEPT = {**OPEN, "history_size": 100, "history_ttl": "1h", "allow_history_for_client": True}
CONFIG: dict[str, Any] = {
    "storage": {"profiles": [{"replicas": 3}, {"name": "memory", "storage": "memory", "replicas": 3}]},
    "channel": {
        "namespaces": [{"name": "disk", **KEPT}, {"name": "ram", **KEPT, "storage_profile": "memory"}]
    },
}
FILES = [stream_name("default", number) for number in range(FEW)]
MEMORIES = [stream_name("memory", number) for number in range(FEW)]
DISK, RAM = "disk:a", "ram:a"
RAM_STREAM = MEMORIES[partition_of(encode_channel(RAM), FEW)]
SOME = 10
FILLER = next(
    each
    for each in map("ram:{}".format, range(100))
    if MEMORIES[partition_of(encode_channel(each), FEW)] == RAM_STREAM
)
MANY, LARGE = 300, Random(1).randbytes(100_000)
"""What the sockets between two servers do not hold, nor their compression makes small."""
ELECTION = 60.0
ANYBODY_ANSWERS = 15.0
"""Seconds after which a server says how a stream without a leader is, from its own copy: it waits for 10 after its start."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    """Three nodes."""
    with nats_cluster(tmp_path, FEW) as running:
        yield running


class Ledger(msgspec.Struct):
    """A client that publishes numbers to channels, and what it was told of them."""

    client: RawClient
    service: HistoryProcess
    acknowledged: dict[str, list[int]] = msgspec.field(default_factory=lambda: {DISK: [], RAM: []})
    unknown: set[int] = set()
    last: int = 0

    async def publish(self, channel: str) -> bool:
        """Publish the next number; whether it was acknowledged. No answer takes longer than SDKs wait."""
        self.last += 1
        began = time.monotonic()
        reply = await self.client.command(publish={"channel": channel, "data": self.last})
        assert time.monotonic() - began < IN_TIME + SLACK
        if "publish" in reply:
            self.acknowledged[channel].append(self.last)
            return True
        assert (reply["error"]["code"], reply["error"]["temporary"]) == (100, True)
        if "may still be stored" in reply["error"]["message"]:
            self.unknown.add(self.last)
        return False

    async def goes_on(self, channel: str) -> None:
        """Wait until publications are acknowledged again."""
        await eventually(lambda: self.publish(channel), ELECTION, f"an acknowledgement in {channel}")

    async def page(self, channel: str) -> tuple[str, list[int]] | None:
        """The epoch and all numbers of a channel; None where there is no answer for now."""
        reply = await self.client.command(history={"channel": channel, "limit": -1})
        if "error" in reply:
            assert (reply["error"]["code"], reply["error"]["temporary"]) == (100, True)
            return None
        page = reply["history"]
        return page["epoch"], [each["data"] for each in page["publications"]]

    async def whole(self, channel: str) -> str | None:
        """The channel's epoch, unless there is no answer; an answer has all that was acknowledged, once and in order."""
        found = await self.page(channel)
        if found is None:
            return None
        epoch, numbers = found
        assert [each for each in numbers if each not in self.unknown] == self.acknowledged[channel]
        return epoch


@asynccontextmanager
async def mesh(cluster: NatsCluster, folder: Path) -> AsyncIterator[Ledger]:
    """A history service and an edge that know all nodes, and some publications that every copy has."""
    await cluster.settled()
    known = {"urls": cluster.urls}
    history = history_config("", {**CONFIG, "nats": known})
    await migrated(history)
    async with AsyncExitStack() as stack:
        service = stack.enter_context(HistoryProcess(folder, history))
        target = {"target": f"ipv4:127.0.0.1:{service.port}"}
        settings = {**CONFIG, "nats": {**known, "partitions": FEW}, "history": target, "client": PATIENT}
        edge = stack.enter_context(EdgeProcess(folder / "edge", edge_config("", settings)))
        client = await joined(edge.ws_url, token())
        stack.push_async_callback(client.close)
        ledger = Ledger(client, service)
        for channel in (DISK, RAM) * SOME:
            assert await ledger.publish(channel)
        await cluster.settled([*FILES, *MEMORIES])
        yield ledger


@pytest.mark.timeout(240)
async def test_a_server_may_be_lost_once_the_one_before_has_caught_up(
    cluster: NatsCluster, tmp_path: Path
) -> None:
    """Though nobody publishes meanwhile, so that a leader does not see that the copy is a new one: /healthz does."""
    async with mesh(cluster, tmp_path) as ledger:
        epoch = await eventually(lambda: ledger.whole(RAM), ELECTION)
        for _ in ("to lead nothing any more", "to have nothing in memory"):
            await asyncio.to_thread(cluster.nodes[-1].restart)
            await cluster.settled([*FILES, *MEMORIES])
        (await cluster.leader(RAM_STREAM)).kill()
        await cluster.led([*FILES, *MEMORIES])
        for channel in (RAM, DISK):
            await ledger.goes_on(channel)
        assert await eventually(lambda: ledger.whole(RAM), ELECTION) == epoch
        assert await eventually(lambda: ledger.whole(DISK), ELECTION)


@pytest.mark.timeout(240)
@protocol("error.100")
async def test_two_lost_copies_cost_answers_until_the_third_server_is_back_and_nothing_else(
    cluster: NatsCluster, tmp_path: Path
) -> None:
    """One of two lost servers is back, with nothing in memory: its vote makes no leader, so nobody is promised anything."""
    async with mesh(cluster, tmp_path) as ledger:
        epoch = await eventually(lambda: ledger.whole(RAM), ELECTION)
        second = await cluster.leader(RAM_STREAM)
        first = next(node for node in cluster.nodes if node is not second)
        first.kill()
        for channel in (DISK, RAM):
            await ledger.goes_on(channel)
        second.kill()
        await asyncio.to_thread(first.start)
        await ledger.goes_on(DISK)
        assert await eventually(lambda: ledger.whole(DISK), ELECTION)
        end = time.monotonic() + ANYBODY_ANSWERS
        while time.monotonic() < end:
            assert not await ledger.publish(RAM)
            assert await ledger.whole(RAM) in (epoch, None)
        assert not await cluster.healthy()

        async def only_files_are_current() -> bool:
            metrics = await ledger.service.metrics()
            current = [
                metrics.value("tidewire_history_current", stream=each) for each in (*FILES, RAM_STREAM)
            ]
            return current == [1, 1, 0]

        await eventually(only_files_are_current)
        with pytest.raises(StorageError, match="has no leader"):
            await migrated(history_config(first.url, CONFIG))
        await asyncio.to_thread(second.start)
        await ledger.goes_on(RAM)
        assert await eventually(lambda: ledger.whole(RAM), ELECTION) == epoch
        await cluster.settled([*FILES, *MEMORIES])


@pytest.mark.timeout(300)
async def test_what_only_the_two_lost_copies_had_is_gone_with_its_epoch(
    cluster: NatsCluster, tmp_path: Path
) -> None:
    """The third stood still, with more on its way than sockets hold: nobody who has read what it lacks is told that its page goes on from there."""
    async with mesh(cluster, tmp_path) as ledger:
        epoch = await eventually(lambda: ledger.whole(RAM), ELECTION)
        lost = [await cluster.leader(RAM_STREAM)]
        third, *others = [node for node in cluster.nodes if node not in lost]
        lost += others
        third.pause()
        async with publisher(lost[0]) as client:
            for _ in range(MANY):
                await publish(client, FILLER, LARGE)
        for _ in range(SOME):
            await ledger.goes_on(RAM)
        assert await eventually(lambda: ledger.whole(RAM), ELECTION) == epoch
        heard = ledger.acknowledged[RAM].copy()
        for node in lost:
            node.kill()
        third.resume()
        for node in lost:
            await asyncio.to_thread(node.start)
        await ledger.goes_on(RAM)

        answers: list[tuple[str, list[int]]] = []

        async def renewed() -> bool:
            found = await ledger.page(RAM)
            answers.extend([found] if found else [])
            return bool(answers) and answers[-1][0] != epoch

        await eventually(renewed, ELECTION, "another epoch")
        assert all(numbers[: len(heard)] == heard for _, numbers in answers[:-1])
        _, numbers = answers[-1]
        assert numbers[:SOME] == heard[:SOME]
        assert not set(heard[SOME:]) & set(numbers)
        await cluster.settled([*FILES, *MEMORIES])
