from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fakes.history import KEY, STREAM, FakeHistory, history_config
from tests.fakes.nats import FakeLink
from tidewire.history import followers as following
from tidewire.history.followers import Followers
from tidewire.history.namespaces import Namespaces

HEADER = (
    "NATS/1.0\r\nNats-Stream: {stream}\r\nNats-Subject: {key}\r\nNats-Sequence: {sequence}\r\n"
    "Nats-Time-Stamp: 2026-01-01T00:00:00Z\r\n{last}\r\n"
)
GOOD: dict[str, Any] = {
    "stream": STREAM,
    "key": KEY.format("a"),
    "sequence": 1,
    "last": "Nats-Last-Sequence: 0\r\n",
    "subject": "tw.out.0.chat.a",
}


async def heard(**changes: Any) -> FakeHistory:
    """A service that was sent one message."""
    history = FakeHistory()
    await history.look()
    said = {**GOOD, **changes}
    history.followers.receive(said.pop("subject").encode(), b"", HEADER.format(**said).encode(), b"x")
    return history


async def test_what_jetstream_published_again_is_heard() -> None:
    """On the subject that belongs to where it was stored."""
    history = await heard()
    assert history.metrics.counts["heard", "default"] == 1
    assert history.follower.feed.heard == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"stream": "TW_other_0"},
        {"key": "tw.in.0.chat.b"},
        {"key": "tw.xx.0.chat.a"},
        {"subject": "tw.out.1.chat.a", "key": "tw.in.1.chat.a"},
        {"last": ""},
        {"sequence": "x"},
    ],
    ids=["another stream", "another subject", "no way in", "another partition", "a direct get", "no number"],
)
async def test_anything_else_is_dropped_and_counted(changes: dict[str, Any]) -> None:
    """Whoever may publish there: nothing of it enters a channel."""
    history = await heard(**changes)
    assert history.metrics.counts["dropped", "forged"] == 1
    assert history.follower.feed.heard == 0


async def test_another_configuration_ends_what_is_not_followed_any_more() -> None:
    """Its channels leave memory, and its partitions are not heard."""
    history, link = FakeHistory(), FakeLink()
    followers: Followers = history.followers
    await history.look()
    history.publish("a")
    followers.subscribe(link)  # type: ignore[arg-type] # the fake's
    assert [subject for subject, *_ in link.subscribed.values()] == [b"tw.out.0.>"]
    followers.subscribe(link)  # type: ignore[arg-type] # again: no second subscription
    assert len(link.subscribed) == 1
    config = history_config()
    followers.configure(Namespaces(config, 2, [1]))
    assert (list(followers.by_stream), len(history.cache)) == (["TW_default_1"], 0)
    followers.subscribe(link)  # type: ignore[arg-type] # the fake's
    assert [subject for subject, *_ in link.subscribed.values()] == [b"tw.out.1.>"]


async def test_a_stream_that_cannot_be_looked_at_is_told_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the reason; a mistake of ours too, which ends nothing."""
    history = FakeHistory()
    history.store.away = True
    for _ in range(3):
        await history.look()
    assert history.log.events == ["history.stream_away"]
    assert str(history.followers.problem).startswith(f"{STREAM}: ")
    history.store.away = False

    async def mistaken(_records: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(history.follower, "look", mistaken)
    await history.look()
    assert history.log.events == ["history.stream_away", "history.look_failed"]
    monkeypatch.undo()
    await history.look()
    assert history.followers.problem is None


async def test_who_waits_for_a_look_gets_the_next_one_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """All who wait get the same one; a look that is under way is not theirs."""
    monkeypatch.setattr(following, "LOOK_SECONDS", 60.0)
    history = FakeHistory()
    del history.followers.looked  # the real one
    looks = 0
    look = history.followers.look

    async def counted() -> None:
        nonlocal looks
        looks += 1
        await look()

    monkeypatch.setattr(history.followers, "look", counted)
    running = asyncio.create_task(history.followers.run())
    await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*(history.followers.looked() for _ in range(5))), 10)
    assert looks == 2
    running.cancel()
