"""JetStream's API over our own link, on a real nats-server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.links import settled, started
from tests.support.nats_server import NatsServer
from tests.support.wait import eventually
from tidewire.platform.jetstream import STREAM_NOT_FOUND, JetStream, JetStreamError
from tidewire.platform.nats_link import NatsLink

NO_API = 'jetstream { store_dir: "%s" }\nauthorization { users: [ { user: u, password: p, permissions: { publish: x, subscribe: "_INBOX.>" } } ] }'


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


async def test_an_answer_is_plain_data(link: NatsLink) -> None:
    """Of a request with a body, and of one without."""
    js = JetStream(link)
    made = await js.call("STREAM.CREATE.A", {"name": "A", "subjects": ["a"]})
    assert made["config"]["subjects"] == ["a"]
    assert (await js.call("STREAM.INFO.A"))["created"] == made["created"]


async def test_an_error_has_the_servers_numbers_and_words(link: NatsLink) -> None:
    """Callers decide by the number, people read the words."""
    with pytest.raises(JetStreamError, match=rf"stream not found \(404, {STREAM_NOT_FOUND}\)") as error:
        await JetStream(link).call("STREAM.INFO.NONE")
    assert (error.value.code, error.value.err_code) == (404, STREAM_NOT_FOUND)


async def test_where_jetstream_is_off_nobody_answers(nats_server: NatsServer) -> None:
    """At once, not after the timeout."""
    async with started(nats_server.url) as (link, _):
        with pytest.raises(
            JetStreamError, match=r"INFO: JetStream is not there for this user: turn it on"
        ) as error:
            await JetStream(link, timeout=60).call("INFO")
    assert (error.value.code, error.value.err_code) == (503, 0)


async def test_without_the_right_there_is_no_answer(tmp_path: Path) -> None:
    """The server drops such a request, so only time tells."""
    with NatsServer(tmp_path / "nats", config=NO_API % (tmp_path / "js")) as server:
        async with started(server.url, user="u", password="p") as (link, listener):
            with pytest.raises(JetStreamError, match=r"\$JS.API.INFO: no answer within 0.2 s"):
                await JetStream(link, timeout=0.2).call("INFO")
            await eventually(lambda: listener.heard("error:permissions") == 1)


async def test_what_is_no_json_is_an_error_too(link: NatsLink) -> None:
    """Whoever answered, it was not JetStream."""
    js = JetStream(link)
    link.subscribe(b"$JS.API.ODD", lambda _subject, reply, _header, _payload: link.publish(reply, b"hello"))
    with pytest.raises(JetStreamError, match="ODD: not an answer of JetStream"):
        await js.call("ODD")


async def test_a_link_that_is_away_is_an_error_at_once(server: NatsServer, link: NatsLink) -> None:
    """Nothing waits for it to come back."""
    assert await settled(link)
    await link.close()
    with pytest.raises(JetStreamError, match="NATS is away"):
        await JetStream(link).call("INFO")
