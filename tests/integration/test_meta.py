"""The record that all processes agree on, in a real bucket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tests.support.links import started
from tests.support.nats_server import NatsServer
from tests.support.storage import bucket, written
from tests.support.wait import eventually
from tidewire.kernel.streams import META_STREAM
from tidewire.platform import meta_watch
from tidewire.platform.jetstream import JetStream, JetStreamError
from tidewire.platform.meta import (
    LAYOUT_SUBJECT,
    Held,
    Meta,
    MetaError,
    read_held,
    read_meta,
    write_meta,
)
from tidewire.platform.meta_watch import MetaWatch
from tidewire.platform.nats_link import NatsLink

META = Meta(partitions=4, namespaces={"chat": "default"}, secret="ab" * 32)
OTHER = msgspec.structs.replace(META, moving=("chat",))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server with JetStream."""
    with NatsServer(tmp_path / "nats", jetstream=True) as running:
        yield running


@pytest.fixture
async def link(server: NatsServer) -> AsyncIterator[NatsLink]:
    """A link to it."""
    async with started(server.url) as (connected, _):
        yield connected


@pytest.fixture
async def js(link: NatsLink) -> JetStream:
    """JetStream with an empty bucket."""
    await bucket(JetStream(link))
    return JetStream(link)


@pytest.mark.parametrize("silent", [2, 3])
async def test_a_copy_that_stands_still_is_not_the_last_to_be_asked(
    js: JetStream, monkeypatch: pytest.MonkeyPatch, silent: int
) -> None:
    """Whichever server has a copy may be the one that is asked; that none answers is an error in the end."""
    await write_meta(js, META, 0)
    ask, asked = js.ask, 0

    async def some_answer(subject: str, request: bytes, header: bytes = b"") -> tuple[bytes, bytes]:
        nonlocal asked
        asked += 1
        if asked <= silent:
            raise JetStreamError(503, 0, "no answer")
        return await ask(subject, request, header)

    monkeypatch.setattr(js, "ask", some_answer)
    if silent < 3:
        assert await read_meta(js) == META
    else:
        with pytest.raises(JetStreamError, match="no answer"):
            await read_meta(js)
    assert asked == 3


async def test_there_is_no_record_before_it_is_written(link: NatsLink, nats_server: NatsServer) -> None:
    """Without the bucket, without JetStream, and with an empty bucket: an edge cannot tell these apart."""
    assert await read_meta(JetStream(link)) is None
    async with started(nats_server.url) as (plain, _):
        assert await read_meta(JetStream(plain)) is None
    await bucket(JetStream(link))
    assert await read_meta(JetStream(link)) is None


async def test_a_record_is_read_as_it_was_written(js: JetStream) -> None:
    """With the sequence to write the next one after."""
    first = await write_meta(js, META, 0)
    assert await read_held(js) == Held(META, first)
    second = await write_meta(js, OTHER, first)
    assert await read_held(js) == Held(OTHER, second)
    assert await read_meta(js) == OTHER


async def test_of_two_writers_one_is_told(js: JetStream) -> None:
    """Nobody's record is lost without a word, the first one's neither."""
    first = await write_meta(js, META, 0)
    with pytest.raises(
        MetaError, match="was written by somebody else meanwhile: run `tidewire migrate` again"
    ):
        await write_meta(js, OTHER, 0)
    results = await asyncio.gather(
        write_meta(js, OTHER, first), write_meta(js, META, first), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["MetaError", "int"]


async def test_without_a_bucket_nothing_is_written(link: NatsLink) -> None:
    """Nor claimed to be."""
    with pytest.raises(
        JetStreamError, match="there is no TW_META that could be written: run `tidewire migrate`"
    ):
        await write_meta(JetStream(link), META, 0)


async def test_a_record_that_is_too_large_is_refused_with_the_servers_words(js: JetStream) -> None:
    """Any other refusal of JetStream's."""
    config = {**await bucket(js), "max_msg_size": 10}
    await js.call(f"STREAM.UPDATE.{META_STREAM}", config)
    with pytest.raises(JetStreamError, match="message size exceeds maximum allowed"):
        await write_meta(js, META, 0)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (b"hello", "holds a record that is none"),
        (b"", "holds a record that is none"),
        (b'{"version":1,"partitions":"x"}', "holds a record that is none"),
        (b'{"version":2}', "holds a record of version 2: run the release of Tidewire that wrote it"),
    ],
)
async def test_what_is_no_record_of_ours_is_not_guessed_at(js: JetStream, record: bytes, words: str) -> None:
    """Neither garbage nor the record of a later release."""
    await written(js, "layout", record)
    with pytest.raises(MetaError, match=words):
        await read_meta(js)


@asynccontextmanager
async def watching(
    link: NatsLink, held: Held | None
) -> AsyncIterator[tuple[list[Meta], list[str], MetaWatch]]:
    """A running watch: what it told, what failed, and itself."""
    told: list[Meta] = []
    failed: list[str] = []
    watch = MetaWatch(link, held, told.append, lambda error: failed.append(str(error)))
    task = asyncio.create_task(watch.run())
    await asyncio.sleep(0)
    try:
        yield told, failed, watch
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_watch_tells_each_newer_record_once(link: NatsLink, js: JetStream) -> None:
    """And not the one that it started with."""
    first = await write_meta(js, META, 0)
    async with watching(link, Held(META, first)) as (told, _, _watch):
        second = await write_meta(js, OTHER, first)
        await eventually(lambda: told == [OTHER])
        await write_meta(js, META, second)
        await eventually(lambda: told == [OTHER, META])


async def test_a_record_that_was_refused_is_not_heard(link: NatsLink, js: JetStream) -> None:
    """Who listens on the subject hears what the bucket has taken."""
    first = await write_meta(js, META, 0)
    heard: list[bytes] = []
    link.subscribe(LAYOUT_SUBJECT.encode(), lambda _subject, _reply, _header, payload: heard.append(payload))
    async with watching(link, Held(META, first)) as (told, _, _watch):
        with pytest.raises(MetaError):
            await write_meta(js, OTHER, 0)
        assert heard == []
        last = msgspec.structs.replace(META, partitions=8)
        await write_meta(js, last, first)
        await eventually(lambda: told == [last])
        assert heard == [msgspec.json.encode(last)]


async def test_a_watch_finds_by_itself_what_nobody_told(
    link: NatsLink, js: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message may be lost while the link is away: it looks from time to time."""
    monkeypatch.setattr(meta_watch, "REFRESH", 0.05)
    monkeypatch.setattr(link, "subscribe", lambda _subject, _callback: 0)
    async with watching(link, None) as (told, _, _watch):
        await write_meta(js, META, 0)
        await eventually(lambda: told == [META])


async def test_a_watch_outlives_a_server_that_is_away(
    server: NatsServer, link: NatsLink, js: JetStream
) -> None:
    """And reads when it is told that the link is back."""
    await write_meta(js, META, 0)
    async with watching(link, None) as (told, _, watch):
        watch.look()
        await eventually(lambda: told == [META])
        server.kill()
        watch.look()
        server.start()

        async def written() -> bool:
            try:
                return bool(await write_meta(js, OTHER, 1))
            except JetStreamError:
                return False

        await eventually(written)
        watch.look()
        await eventually(lambda: told == [META, OTHER])


async def test_a_watch_says_that_it_does_not_understand(link: NatsLink, js: JetStream) -> None:
    """What the process does then is its own affair."""
    async with watching(link, None) as (told, failed, _watch):
        await written(js, "layout", b'{"version":2}')
        await eventually(lambda: failed != [])
        assert told == []
