"""Backup and restore of streams as docs/operations.md says: stop, copy the folder, put it back, `--new-generation`."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.links import started
from tests.support.nats_cluster import nats_cluster, start_together
from tests.support.nats_server import NatsServer
from tests.support.storage import (
    PARTITIONS,
    count,
    epoch,
    headers,
    migrate,
    migrated,
    prepared,
    published,
    storage_config,
)
from tests.support.wait import eventually
from tidewire.kernel.streams import META_STREAM, stream_name
from tidewire.platform.jetstream import JetStream, JetStreamError
from tidewire.platform.meta import read_meta

STREAMS = [stream_name("default", number) for number in range(PARTITIONS)]


async def lives(js: JetStream) -> dict[str, str]:
    """The epochs of all streams."""
    return {stream: await epoch(js, stream) for stream in STREAMS}


async def test_a_copy_of_the_folder_is_put_back(server: NatsServer, tmp_path: Path) -> None:
    """It holds what it held, with the epochs that it had, although sequences are used again: so each restore renews them."""
    config = storage_config(server.url, {"chat": {}})
    async with started(server.url) as (link, _):
        js = JetStream(link)
        await migrate(js, config)
        for number in range(10):
            await published(js, f"chat:{number}", b"before")
        kept, first = [await count(js, stream) for stream in STREAMS], await lives(js)
        meta = await read_meta(js)
    server.stop()
    copy = tmp_path / "copy"
    shutil.copytree(server.store, copy)
    server.start()
    async with started(server.url) as (link, _):
        js = JetStream(link)
        answers = [await published(js, f"chat:{number}", b"lost") for number in range(10)]
        assert await lives(js) == first
    server.stop()
    shutil.rmtree(server.store)
    shutil.copytree(copy, server.store)
    server.start()
    async with started(server.url) as (link, _):
        js = JetStream(link)
        assert [await count(js, stream) for stream in STREAMS] == kept
        assert await lives(js) == first
        assert await read_meta(js) == meta
        assert await published(js, "chat:0", b"other") == answers[0]
        assert (await prepared(js, config)).plan.work == ()
        assert migrated(tmp_path, config, "--new-generation")[0] == 0
        second = await lives(js)
        assert not set(second.values()) & set(first.values())
        assert await read_meta(js) == meta
        assert sum([await count(js, stream) for stream in STREAMS]) == sum(kept) + 1


async def test_a_second_restore_of_the_same_copy_has_epochs_of_its_own(
    server: NatsServer, tmp_path: Path
) -> None:
    """The generation in the copy is that of before the first restore, which a counter would count up to again."""
    config = storage_config(server.url, {"chat": {}})
    async with started(server.url) as (link, _):
        await migrate(JetStream(link), config)
    server.stop()
    copy = tmp_path / "copy"
    shutil.copytree(server.store, copy)
    seen = []
    for _ in range(2):
        shutil.rmtree(server.store)
        shutil.copytree(copy, server.store)
        server.start()
        async with started(server.url) as (link, _listener):
            await migrate(JetStream(link), config, renewed=["default"])
            seen.append(await lives(JetStream(link)))
        server.stop()
    assert all(seen[0][stream] != seen[1][stream] for stream in STREAMS)


async def test_copies_of_all_nodes_of_a_cluster_are_put_back(tmp_path: Path) -> None:
    """Made while none ran; the streams find their leaders again."""
    with nats_cluster(tmp_path, PARTITIONS) as cluster:
        config = storage_config(cluster.urls, {"chat": {}}, storage={"profiles": [{"replicas": 3}]})
        async with started(*cluster.urls) as (link, _):
            js = JetStream(link, 10.0)
            await migrate(js, config)
            await published(js, "chat:a", b"before")
            first = await lives(js)
        for node in cluster.nodes:
            node.stop()
            shutil.copytree(node.store, tmp_path / f"copy-{node.folder.name}")
        for act in ("lose", "restore"):
            for node in cluster.nodes:
                if act == "restore":
                    node.stop()
                    shutil.rmtree(node.store)
                    shutil.copytree(tmp_path / f"copy-{node.folder.name}", node.store)
            start_together(cluster.nodes)
            async with started(*cluster.urls) as (link, _):
                js = JetStream(link, 2.0)

                async def stored(js: JetStream = js, act: str = act) -> bool:
                    try:
                        answer = await published(js, "chat:a", act.encode(), headers(Nats_Msg_Id=act))
                        return answer.get("seq") == 2
                    except JetStreamError:
                        return False

                await eventually(stored, 60.0)
        await cluster.settled([*STREAMS, META_STREAM])
        code, _, errors = migrated(tmp_path, config, "--new-generation")
        assert (code, errors) == (0, "")
        async with started(*cluster.urls) as (link, _):
            assert not set((await lives(JetStream(link, 10.0))).values()) & set(first.values())
