"""`tidewire migrate` as people run it: again, at the same time, cut short, and while everybody publishes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.links import started
from tests.support.nats_server import NatsServer
from tests.support.storage import (
    HISTORY,
    PARTITIONS,
    bucket,
    count,
    epoch,
    headers,
    killed_migration,
    migrate,
    migrated,
    migrated_at_once,
    prepared,
    published,
    storage_config,
    written,
)
from tidewire.kernel.meta import Meta, MetaError
from tidewire.kernel.streams import GENERATION, META_STREAM, stream_name
from tidewire.platform.jetstream import JetStream, JetStreamError
from tidewire.platform.meta import read_meta
from tidewire.storage.cluster import StorageError, read_leader

CHANNELS = [f"chat:{number}" for number in range(20)]
NONE = dict.fromkeys(HISTORY, 0)
READS = 6
"""A migration asks at least so many questions before it changes anything."""


async def total(js: JetStream, profile: str) -> int:
    """The messages of all streams of a profile."""
    return sum([await count(js, stream_name(profile, number)) for number in range(PARTITIONS)])


def test_the_first_migration_and_the_next(server: NatsServer, tmp_path: Path) -> None:
    """Plan, deed, and nothing left to do; each with its exit code."""
    config = storage_config(server.url, {"chat": {}})
    code, out, _ = migrated(tmp_path, config, "--dry-run")
    assert code == 3
    assert "create  TW_default_0 to 1" in out
    assert migrated(tmp_path, config, "--dry-run")[0] == 3
    code, again, _ = migrated(tmp_path, config)
    assert (code, again) == (0, out + "done\n")
    code, out, _ = migrated(tmp_path, config)
    assert code == 0
    assert out.endswith("nothing to do\n")
    assert migrated(tmp_path, config, "--dry-run")[0] == 0


def test_without_jetstream(nats_server: NatsServer, tmp_path: Path) -> None:
    """Who has no history needs none."""
    assert migrated(tmp_path, storage_config(nats_server.url, {"chat": NONE})) == (0, "nothing to do\n", "")
    code, out, errors = migrated(tmp_path, storage_config(nats_server.url, {"chat": {}}))
    assert (code, out) == (69, "")
    assert errors == (
        "Error: STREAM.NAMES: JetStream is not there for this user: "
        "turn it on in nats-server's configuration (jetstream)\n"
    )


def test_without_history_nothing_is_touched(server: NatsServer, tmp_path: Path) -> None:
    """Not even the record of what all agree on."""
    assert migrated(tmp_path, storage_config(server.url, {"chat": NONE})) == (0, "nothing to do\n", "")


def test_what_cannot_be_had_is_one_line(server: NatsServer, tmp_path: Path) -> None:
    """The server's own words, the stream's name, and an exit code for scripts."""
    config = storage_config(server.url, {"chat": {}}, storage={"profiles": [{"replicas": 3}]})
    code, _, errors = migrated(tmp_path, config)
    assert code == 69
    assert errors == f"Error: {META_STREAM}: replicas > 1 not supported in non-clustered mode (500, 10074)\n"
    server.kill()
    code, _, errors = migrated(tmp_path, {**config, "nats": {**config["nats"], "connect_timeout": "100ms"}})
    assert code == 69
    assert errors.startswith("Error: nothing answers at ")
    code, _, errors = migrated(tmp_path, storage_config(server.url, {"chat": {"storage_profile": "none"}}))
    assert code == 78
    assert "storage_profile: there is no profile 'none'" in errors


async def test_refusals_change_nothing(server: NatsServer, js: JetStream, tmp_path: Path) -> None:
    """And are lines on standard error, with what would do it."""
    await migrate(js, storage_config(server.url, {"chat": {}}))
    await published(js, "chat:a")
    smaller = storage_config(server.url, {"chat": {}}, storage={"profiles": [{"max_age": "1h"}]})
    code, _, errors = migrated(tmp_path, smaller)
    assert code == 1
    assert errors.startswith("refused profile default: max_age 86400s -> 3600s")
    assert (await prepared(js, storage_config(server.url, {"chat": {}}))).plan.work == ()
    assert migrated(tmp_path, smaller, "--force")[0] == 0
    assert (await prepared(js, smaller)).plan.work == ()
    code, _, errors = migrated(
        tmp_path, storage_config(server.url, {"chat": {}}, nats={"partitions": 4}), "--force"
    )
    assert code == 1
    assert errors == "refused nats.partitions is 4, and the cluster has 2 for its whole life\n"


async def test_a_namespace_is_added_while_everybody_publishes(server: NatsServer, js: JetStream) -> None:
    """Nobody gets an error, and nothing is lost or stored twice."""
    await migrate(js, storage_config(server.url, {"chat": {}}))
    stop = asyncio.Event()
    acked = 0

    async def publish() -> None:
        nonlocal acked
        while not stop.is_set():
            for channel in CHANNELS:
                answer = await published(js, channel)
                assert "error" not in answer
                acked += "seq" in answer

    publisher = asyncio.create_task(publish())
    for names in (["live"], ["live", "news"], ["live", "news", "more"]):
        await migrate(js, storage_config(server.url, {"chat": {}, **{name: {} for name in names}}))
        assert "seq" in await published(js, f"{names[-1]}:a", header=headers(Nats_Msg_Id=names[-1]))
    stop.set()
    await publisher
    assert acked > 0
    assert await total(js, "default") == acked + 3


async def test_two_people_at_once_end_in_one_state(server: NatsServer, js: JetStream, tmp_path: Path) -> None:
    """Who comes second is told to run it again, or finds nothing to do."""
    config = storage_config(server.url, {"chat": {}, "live": {"storage_profile": "fast"}})
    for code, errors in migrated_at_once(tmp_path, config, 2):
        assert code == 0 or (code == 69 and ("somebody else" in errors or "already in use" in errors))
    await migrate(js, config)
    assert (await prepared(js, config)).plan.work == ()


async def test_a_plan_is_given_up_when_somebody_else_has_written_the_record(
    server: NatsServer, js: JetStream
) -> None:
    """Before its next step: what it was made from is not there any more."""
    config = storage_config(server.url, {"chat": {}, "live": {}})
    await migrate(js, storage_config(server.url, {"chat": {}}))
    late = await prepared(js, config)
    await migrate(js, storage_config(server.url, {"chat": {}, "news": {}}))
    with pytest.raises(MetaError, match="was written by somebody else meanwhile"):
        await late.carry_out(js, lambda _step: None)
    taken = (await js.call("STREAM.INFO.TW_default_0"))["config"]["subjects"]
    assert taken == ["tw.in.0.chat.>", "tw.in.0.news.>"]


async def moved(js: JetStream, config: dict[str, Any]) -> None:
    """See that chat is in `fast` alone, works there, and nothing is left to do."""
    held = await read_leader(js)
    assert held is not None
    assert held.meta.namespaces == {"chat": "fast", "live": "default"}
    assert held.meta.moving == ()
    assert (await prepared(js, config)).plan.work == ()
    for number in range(PARTITIONS):
        with pytest.raises(JetStreamError, match="no message found"):
            await js.call(f"STREAM.MSG.GET.TW_default_{number}", {"last_by_subj": f"tw.in.{number}.chat.>"})
    before = await total(js, "fast")
    assert (await published(js, "chat:0"))["stream"].startswith("TW_fast_")
    assert await total(js, "fast") == before + 1


async def test_a_namespace_moves(server: NatsServer, js: JetStream, tmp_path: Path) -> None:
    """When that is asked for; the other one in its streams notices nothing."""
    await migrate(js, storage_config(server.url, {"chat": {}, "live": {}}))
    for channel in [*CHANNELS, "live:a"]:
        await published(js, channel)
    epochs = [await epoch(js, stream_name("default", number)) for number in range(PARTITIONS)]
    config = storage_config(server.url, {"chat": {"storage_profile": "fast"}, "live": {}})
    code, _, errors = migrated(tmp_path, config)
    assert code == 1
    assert "--move chat moves it" in errors
    code, out, _ = migrated(tmp_path, config, "--move", "chat", "--settle", "0.1")
    assert code == 0
    assert "waiting 0.1 s" in out
    await moved(js, config)
    assert await total(js, "default") == 1
    assert [await epoch(js, stream_name("default", number)) for number in range(PARTITIONS)] == epochs


async def test_edges_hear_of_a_move_before_it_begins(server: NatsServer, js: JetStream) -> None:
    """And as long as it is marked nothing of it has gone."""
    await migrate(js, storage_config(server.url, {"chat": {}, "live": {}}))
    await published(js, "chat:a")
    config = storage_config(server.url, {"chat": {"storage_profile": "fast"}, "live": {}})
    migration = await prepared(js, config, moves=["chat"], settle=3600.0)
    task = asyncio.create_task(migration.carry_out(js, lambda _step: None))

    async def marked() -> Meta:
        while True:
            meta = await read_meta(js)
            if meta is not None and meta.moving:
                return meta
            await asyncio.sleep(0.01)

    assert (await marked()).moving == ("chat",)
    assert await total(js, "default") == 1
    task.cancel()
    await asyncio.wait({task})
    await migrate(js, config)
    await moved(js, config)


@pytest.mark.parametrize("first", range(READS, READS + 4))
async def test_a_move_that_is_killed_anywhere_is_finished_by_the_next_run(
    server: NatsServer, js: JetStream, tmp_path: Path, first: int
) -> None:
    """After each fourth question that it asks, until one run is not killed any more; what is stored of `live` stays."""
    here = storage_config(server.url, {"chat": {}, "live": {}})
    there = storage_config(server.url, {"chat": {"storage_profile": "fast"}, "live": {}})
    await migrate(js, here)
    await published(js, "live:a")
    epochs = set()
    for question in range(first, 200, 4):
        await published(js, "chat:a")
        if not killed_migration(tmp_path, there, question, "--move", "chat", "--settle", "0"):
            break
        await migrate(js, there, moves=["chat"])
        await moved(js, there)
        epochs.add((await epoch(js, "TW_fast_0"), await epoch(js, "TW_fast_1")))
        await migrate(js, here, moves=["chat"])
    else:
        pytest.fail("it asks too much")
    assert len(epochs) == (question - first) // 4 > 1
    await moved(js, there)
    assert await total(js, "default") == 1


async def test_a_namespace_that_comes_back_has_another_epoch(server: NatsServer, js: JetStream) -> None:
    """A client that holds a position of before must not be told that nothing was published meanwhile."""
    here = storage_config(server.url, {"chat": {}, "live": {}})
    there = storage_config(server.url, {"chat": {"storage_profile": "fast"}, "live": {}})
    await migrate(js, here)
    seen = set()
    for _ in range(3):
        seen.add(await epoch(js, "TW_default_0"))
        await migrate(js, there, moves=["chat"])
        await migrate(js, here, moves=["chat"])
    assert len(seen) == 3


async def test_a_new_generation_changes_each_epoch_and_clears_what_was_noted(
    server: NatsServer, js: JetStream, tmp_path: Path
) -> None:
    """Of the profiles that are named, or of all."""
    config = storage_config(server.url, {"chat": {}, "live": {"storage_profile": "fast"}})
    await migrate(js, config)
    streams = [
        stream_name(profile, number) for profile in ("default", "fast") for number in range(PARTITIONS)
    ]
    for key in ("notes", "nonce"):
        for stream in streams:
            await written(js, f"{key}.{stream}", b"[]")
    before = {stream: await epoch(js, stream) for stream in streams}
    assert migrated(tmp_path, config, "--new-generation", "--profile", "fast")[0] == 0
    after = {stream: await epoch(js, stream) for stream in streams}
    assert {stream for stream in streams if before[stream] != after[stream]} == {"TW_fast_0", "TW_fast_1"}
    keys = (await js.call(f"STREAM.INFO.{META_STREAM}", {"subjects_filter": "$KV.TW_META.*.>"}))["state"][
        "subjects"
    ]
    assert sorted(keys) == sorted(
        f"$KV.TW_META.{key}.TW_default_{number}" for key in ("notes", "nonce") for number in (0, 1)
    )
    assert migrated(tmp_path, config, "--new-generation")[0] == 0
    for stream in streams:
        assert await epoch(js, stream) not in (before[stream], after[stream])
    code, _, errors = migrated(tmp_path, config, "--profile", "fast")
    assert code == 2
    assert "--profile goes with --new-generation" in errors
    assert migrated(tmp_path, config, "--new-generation", "--profile", "x")[0] == 2


async def test_a_restored_copy_never_has_an_epoch_again(
    server: NatsServer, js: JetStream, tmp_path: Path
) -> None:
    """Its creation and its generation are those of the copy: only the time of `--new-generation` tells lives apart."""
    config = storage_config(server.url, {"chat": {}})
    await migrate(js, config)
    await published(js, "chat:a")
    copy = (await js.call("STREAM.INFO.TW_default_0"))["config"]["metadata"]
    seen = [await epoch(js, "TW_default_0")]
    for _ in range(2):
        info = (await js.call("STREAM.INFO.TW_default_0"))["config"]
        await js.call("STREAM.UPDATE.TW_default_0", {**info, "metadata": copy})
        assert await epoch(js, "TW_default_0") == seen[0]
        await migrate(js, config, renewed=["default"])
        seen.append(await epoch(js, "TW_default_0"))
    assert len(set(seen)) == 3
    assert GENERATION not in copy


async def test_streams_of_others_are_left_alone(server: NatsServer, js: JetStream) -> None:
    """An application may have its own in the account, and one that takes our subjects is told of."""
    await js.call("STREAM.CREATE.APP", {"name": "APP", "subjects": ["app.>"]})
    await js.call("STREAM.CREATE.TW_mine", {"name": "TW_mine", "subjects": ["mine"]})
    config = storage_config(server.url, {"chat": {}})
    await migrate(js, config)
    await js.call("STREAM.CREATE.THIEF", {"name": "THIEF", "subjects": ["tw.in.*.live.>"]})
    migration = await prepared(js, storage_config(server.url, {"chat": {}, "live": {}}))
    with pytest.raises(
        StorageError, match=r"TW_default_0: subjects overlap with an existing stream \(400, 10065\)"
    ):
        await migration.carry_out(js, lambda _step: None)
    await migrate(js, config)


async def test_a_bucket_without_a_record_and_a_record_of_another_release(
    server: NatsServer, js: JetStream
) -> None:
    """The one is filled, the other is not guessed at."""
    config = storage_config(server.url, {"chat": {}})
    await bucket(js)
    await migrate(js, config)
    await written(js, "layout", b'{"version":2}')
    with pytest.raises(MetaError, match="of version 2"):
        await prepared(js, config)


async def test_many_streams_are_read_where_messages_must_be_short(tmp_path: Path) -> None:
    """A list of them all would be longer than this server's max_payload, and end the connection."""
    with NatsServer(tmp_path / "nats", config="max_payload: 65536\n", jetstream=True) as short:
        async with started(short.url) as (link, _):
            js = JetStream(link, 10.0)
            config = storage_config(short.url, {"chat": {}}, nats={"partitions": 300})
            migration = await migrate(js, config)
            assert len(migration.plan.work) == 303
            assert (await prepared(js, config)).plan.work == ()
            assert link.stats.reconnects == 0
