"""Streams of three copies on a real cluster of three nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.links import started
from tests.support.nats_cluster import NatsCluster, nats_cluster
from tests.support.storage import PARTITIONS, count, migrate, prepared, published, storage_config
from tests.support.wait import eventually
from tidewire.kernel.errors import TidewireError
from tidewire.kernel.streams import META_STREAM, stream_name
from tidewire.platform.jetstream import JetStream

ONE = {"profiles": [{"replicas": 1}]}
THREE = {"profiles": [{"replicas": 3}]}
ELECTION = 60.0
"""Seconds for new leaders on a busy machine."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    """Three nodes."""
    with nats_cluster(tmp_path, PARTITIONS) as running:
        yield running


async def copies(js: JetStream, stream: str) -> int:
    """How many nodes have a stream and are up to date."""
    cluster = (await js.call(f"STREAM.INFO.{stream}"))["cluster"]
    return 1 + sum(replica["current"] for replica in cluster.get("replicas") or ())


async def test_one_copy_becomes_three_and_a_node_may_go(cluster: NatsCluster) -> None:
    """Nothing that was stored is lost, the record has as many copies, and a plan waits for nodes that are away."""
    async with started(*cluster.urls) as (link, _):
        js = JetStream(link, 10.0)
        await migrate(js, storage_config(cluster.urls, {"chat": {}}, storage=ONE))
        acked = [await published(js, "chat:a", b"%d" % number) for number in range(20)]
        stream = acked[0]["stream"]
        config = storage_config(cluster.urls, {"chat": {}}, storage=THREE)
        await migrate(js, config)
        for name in (META_STREAM, *(stream_name("default", number) for number in range(PARTITIONS))):

            async def spread(name: str = name) -> bool:
                return await copies(js, name) == 3

            await eventually(spread, ELECTION)
        assert (await prepared(js, config)).plan.work == ()
        lost = next(
            node for node in cluster.nodes if not link.server_name or node.folder.name != link.server_name
        )
        lost.kill()
        brief = JetStream(link, 2.0)

        async def published_again() -> bool:
            try:
                return "seq" in await published(brief, "chat:a", b"more")
            except TidewireError:
                return False

        await eventually(published_again, ELECTION)
        assert await count(js, stream) >= 21

        async def still_as_wanted() -> bool:
            try:
                return (await prepared(js, config)).plan.work == ()
            except TidewireError:
                return False

        await eventually(still_as_wanted, ELECTION)
        lost.start()


async def test_streams_of_three_copies_are_made_at_once(cluster: NatsCluster) -> None:
    """Each with its leader before the next is begun."""
    async with started(*cluster.urls) as (link, _):
        js = JetStream(link, 10.0)
        config = storage_config(
            cluster.urls, {"chat": {}, "live": {}}, storage=THREE, nats={"partitions": 16}
        )
        await migrate(js, config)
        for number in range(16):
            info = await js.call(f"STREAM.INFO.{stream_name('default', number)}")
            assert info["cluster"]["leader"]
            assert info["config"]["num_replicas"] == 3
        assert (await prepared(js, config)).plan.work == ()


async def test_a_stream_whose_only_node_is_away_is_waited_for_and_not_made_anew(cluster: NatsCluster) -> None:
    """It has publications that a new one would not have."""
    async with started(*cluster.urls) as (link, _):
        js = JetStream(link, 10.0)
        config = storage_config(cluster.urls, {"chat": {}}, storage=ONE)
        await migrate(js, config)
        names = [META_STREAM, *(stream_name("default", number) for number in range(PARTITIONS))]
        leaders = {name: (await js.call(f"STREAM.INFO.{name}"))["cluster"]["leader"] for name in names}
        away = next(node for node in cluster.nodes if node.folder.name == leaders[names[1]])
        away.kill()

        async def told() -> bool:
            try:
                await prepared(JetStream(link, 2.0), config)
            except TidewireError as error:
                return "are all NATS servers up?" in str(error)
            return False

        await eventually(told, ELECTION)
        away.start()

        async def whole() -> bool:
            try:
                return (await prepared(js, config)).plan.work == ()
            except TidewireError:
                return False

        await eventually(whole, ELECTION)
