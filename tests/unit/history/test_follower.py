from __future__ import annotations

import asyncio

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.history import KEY, STREAM, FakeHistory, FakeNotebook, FakeStream
from tidewire.history import follower as following
from tidewire.history.answers import Outcome
from tidewire.history.follower import CONFIRM_SECONDS, ELECTION_SECONDS
from tidewire.history.records import notes_of
from tidewire.history.stream_notes import NOTE_SECONDS
from tidewire.history.timeline import Timeline
from tidewire.kernel.call_errors import UNAVAILABLE, CallError

A = KEY.format("a").encode()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is on its way in these tests."""
    monkeypatch.setattr(following, "ON_ITS_WAY", 0.0)


async def begun(count: int = 3) -> FakeHistory:
    """A service that has heard and noted some publications."""
    history = FakeHistory()
    await history.look()
    for _ in range(count):
        history.publish("a")
    history.clock.advance(NOTE_SECONDS)
    await history.look()
    return history


def gone_back(history: FakeHistory) -> FakeStream:
    """Another stream in place of it, of the same name and birth, that counts anew."""
    history.stream = history.store.stream = FakeStream(history.clock)
    return history.stream


async def test_a_stream_that_counts_anew_has_another_epoch() -> None:
    """Once it has looked so for some seconds, in which nothing is served; then every replica has the same one."""
    history = await begun()
    epoch = history.follower.feed.epoch
    other = FakeHistory(history.stream, history.notebook)
    await other.look()
    stream = gone_back(history)
    other.store.stream = stream
    await history.look()
    with pytest.raises(CallError) as caught:
        await history.recover("a", 1)
    assert caught.value.reason is UNAVAILABLE
    assert history.follower.feed.epoch == epoch
    history.clock.advance(ELECTION_SECONDS)
    await history.look()
    await history.look()
    await other.look()
    assert history.log.events == ["history.stream_went_back", "history.epoch_changed"]
    assert "history.stream_went_back" not in other.log.events
    assert history.follower.feed.epoch == other.follower.feed.epoch != epoch
    assert (await history.recover("a", 1, epoch)).outcome is Outcome.OTHER_EPOCH
    assert (await history.recover("a", 0, history.follower.feed.epoch)).outcome is Outcome.COMPLETE


async def test_a_publication_of_another_life_ends_what_was_certain_at_once() -> None:
    """Before anybody has looked: who recovers then would be told that nothing is missing."""
    history = await begun()
    assert history.follower.feed.is_current(history.clock.monotonic())
    history.clock.advance(1)
    history.follower.hear(gone_back(history).publish(A))
    assert not history.follower.feed.is_current(history.clock.monotonic())


async def test_a_leader_that_was_just_elected() -> None:
    """It may not know its own end for a moment: that changes no epoch."""
    history = await begun()
    epoch, stream = history.follower.feed.epoch, history.stream
    gone_back(history)
    for _ in range(5):
        await history.look()
        assert history.follower.problem == "the stream went back: it ends at 0, and 3 was heard"
        history.clock.advance(CONFIRM_SECONDS - 0.1)
    history.store.stream = stream
    await history.look()
    assert history.follower.feed.epoch == epoch
    assert (await history.recover("a", 1)).outcome is Outcome.COMPLETE


async def test_a_stream_that_ends_too_early_with_something_newer() -> None:
    """That is no leader's mistake."""
    history = await begun()
    epoch = history.follower.feed.epoch
    stream = gone_back(history)
    history.clock.advance(1.0)
    stream.publish(A)
    await history.look()
    history.clock.advance(CONFIRM_SECONDS)
    await history.look()
    await history.look()
    assert history.follower.feed.epoch != epoch


async def test_a_restored_stream_that_grew_while_nobody_looked() -> None:
    """Another time at a noted sequence."""
    notebook = (await begun()).notebook
    clock = ManualClock(1_900_000_000.0)
    stream = FakeStream(clock)
    for _ in range(9):
        stream.publish(A)
    history = FakeHistory(stream, notebook)
    await history.look()
    epoch = history.follower.feed.epoch
    assert "another publication" in history.follower.problem
    clock.advance(CONFIRM_SECONDS)
    await history.look()
    await history.look()
    assert history.follower.feed.epoch != epoch
    assert history.follower.problem == ""


@pytest.mark.parametrize("seen", ["link", "message"])
async def test_a_restored_stream_that_grew_past_what_was_heard(seen: str) -> None:
    """Since the last note, which the copy holds: what was heard last is another publication now, and goes on being that."""
    history = await begun()
    history.publish("a")
    await history.look()
    feed = history.follower.feed
    epoch, before = feed.epoch, history.stream
    stream = gone_back(history)
    stream.last, stream.stored = 3, {number: before.stored[number] for number in (1, 2, 3)}
    history.clock.advance(1.0)
    if seen == "link":
        history.follower.doubt()
    for _ in range(3):
        history.follower.hear(stream.publish(A))
    assert (feed.heard, feed.is_current(history.clock.monotonic())) == (6, False)
    for _ in range(3):
        await history.look()
        assert history.follower.problem == "the stream went back: another publication is at 4"
        history.clock.advance(CONFIRM_SECONDS / 2)
    await history.look()
    assert feed.epoch != epoch


async def test_a_stream_in_memory_that_was_never_noted_and_regrew_at_once() -> None:
    """Before anybody could see that it had ended at less."""
    history = FakeHistory()
    history.publish("a")
    await history.look()
    history.publish("a")
    epoch = history.follower.feed.epoch
    stream = gone_back(history)
    history.clock.advance(1.0)
    history.follower.doubt()
    for _ in range(5):
        history.follower.hear(stream.publish(A))
    await history.look()
    history.clock.advance(CONFIRM_SECONDS)
    await history.look()
    await history.look()
    assert history.follower.feed.epoch != epoch


async def test_the_alarm_is_sticky() -> None:
    """Nothing but a new generation clears it, and a replica of the bucket that lags brings no old life back."""
    history = await begun()
    before = dict(history.notebook.records)
    first = history.follower.feed.epoch
    gone_back(history)
    for _ in range(3):
        history.clock.advance(ELECTION_SECONDS)
        await history.look()
    epoch = history.follower.feed.epoch
    assert epoch != first
    history.notebook.lagging = before
    await history.look()
    assert history.follower.feed.epoch == epoch
    history.notebook.lagging = None
    assert FakeHistory(history.stream, history.notebook).follower.feed.epoch == ""
    again = FakeHistory(history.stream, history.notebook)
    await again.look()
    assert again.follower.feed.epoch == epoch
    del history.notebook.records[f"nonce.{STREAM}"]
    history.stream.generation = 1
    await history.look()
    assert history.follower.feed.epoch not in {first, epoch}
    assert history.follower.problem == ""


async def test_notes_are_made_now_and_then() -> None:
    """Only where there is something new, and never lower."""
    history = await begun()
    record = history.notebook.records[f"notes.{STREAM}"]
    assert [sequence for sequence, _ in notes_of(record, history.follower.feed.epoch)] == [3]
    history.publish("a")
    await history.look()
    assert history.notebook.records[f"notes.{STREAM}"] is record
    history.clock.advance(NOTE_SECONDS)
    await history.look()
    noted = notes_of(history.notebook.records[f"notes.{STREAM}"], history.follower.feed.epoch)
    assert [sequence for sequence, _ in noted] == [3, 4]


async def test_the_first_publication_is_noted_at_once() -> None:
    """However long the stream was empty: until then nothing tells a life in memory from the next one."""
    history = FakeHistory()
    await history.look()
    history.publish("a")
    await history.look()
    noted = notes_of(history.notebook.records[f"notes.{STREAM}"], history.follower.feed.epoch)
    assert [sequence for sequence, _ in noted] == [1]


async def test_too_much_was_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream is followed from its end, and memory begins anew."""
    monkeypatch.setattr(following, "MOST_MISSING", 5)
    history = await begun()
    for _ in range(6):
        history.stream.publish(A)
    await history.look()
    assert history.metrics.counts["repaired", "too_many"] == 6
    assert (len(history.cache), history.follower.feed.heard) == (0, 9)
    assert len((await history.recover("a", 3)).publications) == 6


async def test_what_was_missed_and_is_gone() -> None:
    """Of which channel it was, nobody knows: of none is anything before it proven by memory."""
    history = await begun()
    history.stream.publish(KEY.format("b").encode())
    history.stream.expire(4)
    await history.look()
    assert history.metrics.counts["repaired", "gone"] == 1
    assert (await history.recover("a", 1)).outcome is Outcome.TRIMMED
    assert (await history.recover("a", 4)).outcome is Outcome.COMPLETE


async def test_what_is_gone_is_known_to_all_channels_before_the_stream_is_current(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many there are: they are told together, in pieces, and not once more for each publication that is gone."""
    monkeypatch.setattr(following, "AT_A_TIME", 2)
    history = await begun(1)
    for number in range(6):
        history.publish(f"{number}")
    told: list[int] = []
    real = Timeline.uncertain_through

    def counted(timeline: Timeline, sequence: int) -> None:
        told.append(sequence)
        real(timeline, sequence)

    monkeypatch.setattr(Timeline, "uncertain_through", counted)
    for _ in range(5):
        history.stream.publish(A)
    history.stream.expire(12)
    looking, most, feed = asyncio.ensure_future(history.look()), 0, history.follower.feed
    while not looking.done():
        before = len(told)
        await asyncio.sleep(0)
        most = max(most, len(told) - before)
        assert not (told and feed.is_current(history.clock.monotonic())) or len(told) == 7
    await history.look()
    assert (told, most) == ([12] * 7, 2)
    assert feed.is_current(history.clock.monotonic())


async def test_what_is_gone_is_not_forgotten_where_a_look_fails() -> None:
    """The stream went away when half of what was missed had been asked for: the next look goes on behind that."""
    history = await begun(1)
    for _ in range(following.REPAIR_AT_ONCE + 1):
        history.stream.publish(A)
    history.stream.expire(2 * following.REPAIR_AT_ONCE)
    history.publish("b")

    def fail() -> None:
        history.store.away = True

    history.store.meanwhile = [lambda: None, lambda: None, fail]
    await history.look()
    assert history.follower.problem == "the test says so"
    history.store.away = False
    await history.look()
    assert history.follower.problem == ""
    assert (await history.recover("a", 1)).outcome is Outcome.TRIMMED


async def test_no_stream() -> None:
    """Says what to do; what is known of it is not served."""
    history = await begun()
    history.store.missing = True
    await history.look()
    assert "tidewire migrate" in str(history.followers.problem)
    history.clock.advance(6)
    with pytest.raises(CallError, match="tidewire migrate"):
        await history.read("a")


async def test_a_purge_elsewhere() -> None:
    """Is found by the next look; with too many to be listed, memory begins anew."""
    history = await begun()
    other = FakeHistory(history.stream, history.notebook)
    await other.look()
    await other.reader.purge("chat:a")
    await history.look()
    assert (await history.read("a")).publications == []
    history.publish("a")
    for _ in range(70):
        await other.reader.purge("chat:b")
    await history.look()
    assert len(history.cache) == 0
    assert [each.offset for each in (await history.read("a")).publications] == [4]


async def test_a_notebook_that_is_away() -> None:
    """Nothing is current without it: it may say that the stream went back."""
    history = FakeHistory(notebook=FakeNotebook())
    history.notebook.away = True
    await history.look()
    assert history.followers.problem is not None
    assert history.log.events == ["history.stream_away"]
    with pytest.raises(CallError):
        await history.read("a")


async def test_what_was_purged_before_it_was_heard() -> None:
    """Is gone, though it comes."""
    history = await begun()
    late = history.stream.publish(A)
    await history.reader.purge("chat:a")
    history.hear(late)
    assert (await history.read("a")).publications == []
    assert (await history.recover("a", 3)).outcome is Outcome.TRIMMED
