from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.nats import FakeLink, Published
from tidewire.history.adapters import jetstream_store
from tidewire.history.adapters.jetstream_store import JetStreamStore
from tidewire.history.ports import StoreAway

STREAM = "TW_default_0"
KEY = b"tw.in.0.chat.a"
SAID = (
    b"NATS/1.0\r\nNats-Stream: TW_default_0\r\nNats-Subject: %b\r\nNats-Sequence: %d\r\n"
    b"Nats-Time-Stamp: 2026-01-01T00:00:00Z\r\n\r\n"
)
NONE = b"NATS/1.0 404 Message Not Found\r\n\r\n"
END = b"NATS/1.0 204 EOB\r\nNats-UpTo-Sequence: %d\r\n\r\n"


class Servers:
    """A leader that has all messages, and a replica that has those up to a sequence. It answers at once."""

    def __init__(self, last: int, lagging: int) -> None:
        self.last = last
        self.lagging = lagging
        self.broken = b""
        """What the leader says of every message's time instead."""
        self.asked: list[str] = []
        self.link: Any = FakeLink()
        self.link.request = self._answer
        self.link.on_publish = self._stream
        self.store = JetStreamStore(self.link, "_INBOX_x", 8)

    def _answer(
        self,
        subject: bytes,
        payload: bytes,
        _header: bytes,
        _timeout: float,
        done: Callable[[Any, bytes], None],
    ) -> None:
        request = json.loads(payload or b"{}")
        if subject.startswith(b"$JS.API.DIRECT.GET"):
            self.asked.append("replica")
            found = request["seq"] <= self.lagging
            done(SAID % (KEY, request["seq"]) if found else NONE, b"x")
            return
        self.asked.append("leader")
        sequence = request.get("seq", self.last)
        if sequence > self.last:
            done(b"", json.dumps({"error": {"code": 404, "err_code": 10037, "description": "none"}}).encode())
            return
        time = self.broken.decode() or "2026-01-01T00:00:00Z"
        said = {"seq": sequence, "time": time, "subject": KEY.decode()}
        done(b"", json.dumps({"message": said}).encode())

    def _stream(self, message: Published) -> None:
        request = json.loads(message.payload)
        self.asked.append("replica")
        if "multi_last" in request:
            found = [self.lagging] if self.lagging else []
        else:
            found = list(range(request["seq"], self.lagging + 1))[: request["batch"]]
        for sequence in found:
            self.link.deliver(message.reply, b"x", SAID % (KEY, sequence))
        self.link.deliver(message.reply, b"", END % self.lagging if found else NONE)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that lags is asked again at once."""
    monkeypatch.setattr(jetstream_store, "LAGGING_PAUSE", 0.0)


async def test_a_message_that_a_replica_lacks_is_asked_of_the_leader() -> None:
    """Who alone can say that it is gone."""
    servers = Servers(last=3, lagging=2)
    assert sorted(await servers.store.fetch(STREAM, [1, 3, 4])) == [1, 3]
    assert servers.asked.count("leader") == 2


async def test_the_newest_are_believed_of_a_replica_that_has_come_so_far() -> None:
    """Else the leader is asked for each."""
    for up_to, expected, leader in ((2, 2, 1), (3, 3, 2)):
        servers = Servers(last=3, lagging=2)
        found = await servers.store.newest_of(STREAM, [KEY, b"tw.in.0.chat.b"], up_to)
        newest = found[KEY]
        assert newest is not None
        assert (newest.sequence, servers.asked.count("leader")) == (expected, leader)


async def test_what_is_stored_is_complete_or_not_told() -> None:
    """A replica that ends before its leader does is asked again, and again, and then nobody knows."""
    servers = Servers(last=5, lagging=3)
    assert [each.sequence for each in await servers.store.scan(STREAM, KEY, 0, 3, 10)] == [1, 2, 3]
    with pytest.raises(StoreAway, match="no replica"):
        await servers.store.scan(STREAM, KEY, 0, 5, 10)
    work = asyncio.ensure_future(servers.store.scan(STREAM, KEY, 0, 5, 10))
    await asyncio.sleep(0)
    servers.lagging = 5
    assert [each.sequence for each in await work] == [1, 2, 3, 4, 5]


async def test_a_leaders_message_without_a_time_is_no_message() -> None:
    """It would be of no life of the stream."""
    servers = Servers(last=1, lagging=0)
    servers.broken = b"yesterday"
    with pytest.raises(StoreAway, match="yesterday"):
        await servers.store.oldest(STREAM, KEY)


@pytest.mark.parametrize(
    ("cluster", "believed"),
    [(None, True), ({"leader": "n1"}, True), ({"leader": ""}, False), ({"replicas": []}, False)],
)
async def test_what_a_copy_says_of_a_stream_without_a_leader_is_not_believed(
    cluster: object, believed: bool
) -> None:
    """It may be empty, and the stream is not."""
    state = {"first_seq": 0, "last_seq": 0, "last_ts": "0001-01-01T00:00:00Z"}
    info = {"config": {"name": STREAM}, "created": "2026-01-01T00:00:00Z", "state": state}
    answer = json.dumps(info if cluster is None else {**info, "cluster": cluster}).encode()
    link: Any = FakeLink()
    link.request = lambda _subject, _payload, _header, _timeout, done: done(b"", answer)
    store = JetStreamStore(link, "_INBOX_x", 8)
    for subject in (b"", KEY):
        if believed:
            assert await store.facts(STREAM, subject)
        else:
            with pytest.raises(StoreAway, match="TW_default_0 has no leader"):
                await store.facts(STREAM, subject)
