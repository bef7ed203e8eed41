from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fakes.history import KEY, STREAM, FakeHistory, history_config
from tests.fakes.nats import FakeLink
from tidewire.history import follower as one
from tidewire.history import followers as following
from tidewire.history.answers import Outcome, Since
from tidewire.history.config import HistoryConfig
from tidewire.history.followers import Followers
from tidewire.history.namespaces import Namespaces
from tidewire.kernel.config import decode

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


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is on its way in these tests."""
    monkeypatch.setattr(one, "ON_ITS_WAY", 0.0)


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

    for part, name in ((history.follower, "look"), (history.notebook, "read_all")):
        history.clock.advance(61)
        monkeypatch.setattr(part, name, mistaken)
        await history.look()
        assert history.log.events[-1] == "history.look_failed"
        assert history.followers.problem == f"{STREAM}: ZeroDivisionError"
        monkeypatch.undo()
        await history.look()
        assert history.followers.problem is None
    assert history.log.events == ["history.stream_away", "history.look_failed", "history.look_failed"]


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


def kept(**profiles: str) -> Namespaces:
    """Namespaces with a history, and their profiles."""
    named = [
        {"name": name, "history_size": 8, "history_ttl": "1h", "storage_profile": profile}
        for name, profile in profiles.items()
    ]
    storage = {"profiles": [{"name": "default"}, {"name": "second"}]}
    settings = {"nats": {"partitions": 1}, "storage": storage, "channel": {"namespaces": named}}
    return Namespaces(decode(HistoryConfig, settings), 1, [0])


async def begun(namespaces: Namespaces) -> FakeHistory:
    """A service that follows these."""
    history = FakeHistory()
    history.followers.configure(namespaces)
    await history.look()
    return history


async def test_what_comes_while_a_namespace_has_no_history_here_is_not_taken_for_nothing() -> None:
    """A configuration without it was loaded, and the right one again: memory, which passed it over, proves nothing of then."""
    history = await begun(kept(chat="default", other="default"))
    sent = [history.publish("a").sequence for _ in range(3)]
    history.publish("b")
    history.followers.configure(kept(other="default"))
    sent += [history.publish("a").sequence for _ in range(2)]
    history.followers.configure(kept(chat="default", other="default"))
    answer = await history.recover("a", sent[2])
    assert (answer.outcome, [each.offset for each in answer.publications]) == (Outcome.COMPLETE, sent[3:])
    here = Since(sent[2], history.follower.feed.epoch)
    assert await history.positions.of(["chat:a"], [here]) == [(sent[-1], here.epoch)]


async def test_what_came_before_a_namespace_had_a_history_here_can_be_read() -> None:
    """It was stored from the migration on, and this process is told later."""
    history = await begun(kept(other="default"))
    sent = [history.publish("a").sequence for _ in range(2)]
    history.followers.configure(kept(chat="default", other="default"))
    assert [each.offset for each in (await history.read("a")).publications] == sent
    assert (await history.read("b")).publications == []


async def test_a_namespace_that_comes_back_in_another_profile_has_nothing_of_the_first() -> None:
    """Its channels have the same subjects, and another stream's sequences."""
    history = await begun(kept(chat="default", other="default"))
    history.publish("a")
    key = KEY.format("a").encode()
    assert history.cache.get(key) is not None
    history.followers.configure(kept(other="default"))
    history.followers.configure(kept(chat="second", other="default"))
    assert history.cache.get(key) is None


async def test_what_stays_is_kept() -> None:
    """Neither another size nor another namespace costs a channel its memory."""
    history = await begun(kept(chat="default"))
    sent = [history.publish("a").sequence for _ in range(3)]
    history.store.calls.clear()
    history.followers.configure(kept(chat="default", other="default", more="second"))
    assert len((await history.recover("a", sent[0])).publications) == 2
    assert not history.store.calls


@pytest.mark.parametrize("moment", ["before", "during"])
async def test_a_configuration_may_come_while_streams_are_looked_at(
    moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not followed any more is passed over, and enters nothing; the others are looked at."""
    history = await begun(kept(chat="default", other="second"))
    ended = history.follower
    history.stream.publish(KEY.format("a").encode())
    others = kept(other="second")
    read_all, fetch = history.notebook.read_all, history.store.fetch

    async def before(streams: Any) -> Any:
        if moment == "before":
            history.followers.configure(others)
        return await read_all(streams)

    async def during(stream: str, sequences: Any) -> Any:
        found = await fetch(stream, sequences)
        history.followers.configure(others)
        return found

    monkeypatch.setattr(history.notebook, "read_all", before)
    monkeypatch.setattr(history.store, "fetch", during)
    await history.look()
    assert [*history.followers.by_stream] == ["TW_second_0"]
    assert len(history.cache) == 0
    assert (ended.feed.heard == 1) is (moment == "during")
