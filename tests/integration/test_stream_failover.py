"""The leader of a stream of three copies dies under load: what was acknowledged is there, once and in order."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.checker import Checker, payload, record
from tests.support.edges import OPEN, EdgeProcess, edge_config, token
from tests.support.nats_cluster import NODES, NatsCluster, nats_cluster
from tests.support.protocol import protocol
from tests.support.raw_client import RawClient, joined
from tests.support.streams import IN_TIME, create_streams, stored
from tests.support.wait import SLACK, eventually
from tidewire.kernel.streams import stream_name

PARTITIONS = 2
STREAMS = [stream_name("default", partition) for partition in range(PARTITIONS)]
CHANNELS = ("kept:a", "kept:b", "kept:c")
CLIENTS = 4
BURST = 6
BEFORE, AFTER = 100, 300
"""Acknowledgements before and after the kill."""
RACES = 20
TIME_LIMIT = 60.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    """Three nodes."""
    with nats_cluster(tmp_path, PARTITIONS) as running:
        yield running


class Load:
    """Clients that publish in bursts on every channel, and note how each publication ended."""

    def __init__(self) -> None:
        self.checker = Checker()
        self.acknowledged = self.unknown = self.failed = 0
        self.slowest = 0.0
        self.over = False

    async def run(self, edge: EdgeProcess, number: int) -> None:
        """Publish until it is over."""
        client = await joined(edge.ws_url, token(f"user{number}"))
        count = itertools.count(1)
        while not self.over:
            began = time.monotonic()
            sent = [
                (channel, payload(f"{number}", next(count))) for channel in CHANNELS for _ in range(BURST)
            ]
            numbers = [client.begin(publish={"channel": channel, "data": data}) for channel, data in sent]
            for (channel, data), command in zip(sent, numbers, strict=True):
                await self._note(client, command, channel, data)
            self.slowest = max(self.slowest, time.monotonic() - began)
        await client.close()

    async def _note(self, client: RawClient, command: int, channel: str, data: dict[str, object]) -> None:
        reply = await client.reply(command)
        entry = record(channel, data)
        if "publish" in reply:
            self.acknowledged += 1
            self.checker.acknowledged(entry)
        elif "may still be stored" in reply["error"]["message"]:
            self.unknown += 1
            self.checker.unknown(entry)
        else:
            assert "not stored" in reply["error"]["message"]
            self.failed += 1
            self.checker.failed(entry)

    async def until(self, acknowledged: int) -> None:
        """Wait for so many more acknowledgements."""
        goal, end = self.acknowledged + acknowledged, time.monotonic() + TIME_LIMIT
        while self.acknowledged < goal:
            assert time.monotonic() < end, f"only {self.acknowledged} of {goal} acknowledged"
            await asyncio.sleep(0.02)


def durable_config(cluster: NatsCluster, nodes: int = NODES) -> dict[str, Any]:
    """An edge's that knows some of the nodes."""
    kept = {"name": "kept", **OPEN, "history_size": 100_000, "history_ttl": "1h"}
    return edge_config(
        "",
        {
            "nats": {"urls": cluster.urls[:nodes], "partitions": PARTITIONS},
            "channel": {"namespaces": [kept, {"name": "live", **OPEN}]},
            "client": {"command_rate_limit": 0},
            "storage": {"profiles": [{"replicas": 3, "max_messages": 100_000}]},
        },
    )


@pytest.mark.timeout(240)
@protocol("error.100")
async def test_a_jetstream_that_answers_nothing_costs_only_what_needs_it(
    cluster: NatsCluster, tmp_path: Path
) -> None:
    """Two of three nodes stand still: publications with history get 100 in time, the others go on, and so does all when they do."""
    config = durable_config(cluster, 1)
    await cluster.settled()
    await create_streams(cluster.urls[0], config)
    with EdgeProcess(tmp_path / "edge", config) as edge:
        client = await joined(edge.ws_url, token())
        assert "publish" in await client.command(publish={"channel": "kept:a", "data": 1})
        for node in cluster.nodes[1:]:
            node.pause()
        began = time.monotonic()
        mute = client.begin(publish={"channel": "kept:a", "data": 2})
        assert "publish" in await client.command(publish={"channel": "live:a", "data": 1})
        error = (await client.reply(mute))["error"]
        assert (error["code"], error["temporary"]) == (100, True)
        assert time.monotonic() - began < IN_TIME + SLACK
        assert (await edge.ready()).status == 200
        for node in cluster.nodes[1:]:
            node.resume()

        async def stored_again() -> bool:
            return "publish" in await client.command(publish={"channel": "kept:a", "data": 3})

        await eventually(stored_again, 60)
        await client.close()


@pytest.mark.timeout(240)
async def test_acknowledged_publications_survive_their_streams_leader(
    cluster: NatsCluster, tmp_path: Path
) -> None:
    """Nothing that was said not to be stored is there, and every answer came in time."""
    config = durable_config(cluster)
    await cluster.settled()
    await create_streams(cluster.urls[0], config)
    load = Load()
    with EdgeProcess(tmp_path / "edge", config) as edge:
        tasks = [asyncio.create_task(load.run(edge, number)) for number in range(CLIENTS)]
        await load.until(BEFORE)
        node = await cluster.leader(STREAMS[0])
        node.kill()
        await load.until(AFTER)
        await asyncio.to_thread(node.start)
        await load.until(AFTER)
        load.over = True
        await asyncio.gather(*tasks)
        metrics = await edge.metrics()
    print(
        f"{load.acknowledged} acknowledged, {load.unknown} unknown, {load.failed} not stored, "
        f"slowest burst {load.slowest:.2f} s, retries {metrics.value('tidewire_stream_retries_total'):g}"
    )
    load.checker.subscribed("stream", CHANNELS)
    await cluster.settled(STREAMS)
    for stream in STREAMS:
        for subject, _, data in await stored(cluster.urls[0], stream):
            channel = subject.decode().split(".", 3)[3].replace(".", ":")
            load.checker.received("stream", record(channel, json.loads(data)))
    load.checker.check()
    assert load.slowest < IN_TIME + SLACK


async def test_versions_race_on_a_stream_of_three(cluster: NatsCluster, tmp_path: Path) -> None:
    """JetStream says in other words there that somebody was faster: that is compared anew as well, and no refusal."""
    config = durable_config(cluster)
    await cluster.settled()
    await create_streams(cluster.urls[0], config)
    with EdgeProcess(tmp_path / "edge", config) as edge:
        clients = [await joined(edge.ws_url, token(f"user{number}")) for number in range(CLIENTS)]
        outcomes = []
        for round_ in range(RACES):
            racing = [
                (client, client.begin(rpc=_version(round_ * CLIENTS + number + 1)))
                for number, client in enumerate(clients)
            ]
            outcomes += [await client.reply(number) for client, number in racing]
        for client in clients:
            await client.close()
        metrics = await edge.metrics()
    assert metrics.value("tidewire_stream_refusals_total", verdict="refused") == 0
    assert all("rpc" in each or each["error"]["code"] == 100 for each in outcomes)
    versions = [
        json.loads(data) for stream in STREAMS for _, _, data in await stored(cluster.urls[0], stream)
    ]
    assert versions == sorted(set(versions))
    assert len(versions) >= RACES


def _version(number: int) -> dict[str, object]:
    return {"method": "tw.publish", "data": {"channel": CHANNELS[0], "data": number, "version": number}}
