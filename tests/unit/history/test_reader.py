from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.fakes.history import KEY, STREAM, FakeHistory
from tests.support.wait import eventually
from tidewire.history import follower as following
from tidewire.history import positions as standing
from tidewire.history import reader as reading
from tidewire.history import supply as supplying
from tidewire.history.answers import Answer, Outcome, Publication, Since
from tidewire.history.feed import Life
from tidewire.history.messages import Message
from tidewire.history.ports import StoreAway
from tidewire.history.records import Purges
from tidewire.history.turns import Asker, asker
from tidewire.kernel.call_errors import BUSY, ELSEWHERE, UNAVAILABLE, CallError
from tidewire.rpc.history.v1 import history_pb2 as pb

NAMES = st.sampled_from("abc")
SIZE = 5


def data_of(publication: Publication) -> bytes:
    """What it carries, as a client of the service reads it."""
    (found,) = pb.ReadReply.FromString(publication.body).publications
    return found.data


def offsets(answer: Answer) -> list[int]:
    """The sequences of the publications."""
    return [publication.offset for publication in answer.publications]


class History(RuleBasedStateMachine):
    """Anything may befall a stream and what is heard of it: what is answered is true, and is not less than can be known."""

    @initialize(
        budget=st.sampled_from([1_500, 3_000, 1 << 20]),
        limit=st.sampled_from([3, 6, 100]),
        before=st.lists(NAMES, max_size=5),
    )
    def begin(self, budget: int, limit: int, before: list[str]) -> None:
        """Publications may come before the service does."""
        self.loop = asyncio.new_event_loop()
        self.history = FakeHistory(size=SIZE, budget=budget, limit=limit)
        self.purged: set[int] = set()
        self.through: dict[str, int] = {}
        """Up to where a channel was purged, whether anything was there or not."""
        self.lost: list[Message] = []
        for name in before:
            self.history.stream.publish(KEY.format(name).encode())
        self.run(self.history.look())

    def teardown(self) -> None:
        """The loop is this test's."""
        if hasattr(self, "loop"):
            self.loop.close()

    # what happens to the stream, and to what is heard
    @rule(name=NAMES)
    def publish(self, name: str) -> None:
        """A publication, heard at once."""
        self.history.publish(name)

    @rule(name=NAMES)
    def lose(self, name: str) -> None:
        """A publication that is not heard, or only later."""
        self.lost.append(self.history.stream.publish(KEY.format(name).encode()))

    @precondition(lambda self: self.lost)
    @rule(data=st.data())
    def hear_late(self, data: st.DataObject) -> None:
        """Out of order, or once more."""
        self.history.hear(data.draw(st.sampled_from(self.lost)))

    @rule(count=st.integers(1, 3))
    def expire(self, count: int) -> None:
        """The oldest of the stream go."""
        self.history.stream.expire(count)

    @rule(name=NAMES)
    def purge(self, name: str) -> None:
        """A channel is purged."""
        with contextlib.suppress(CallError):
            self.run(self.history.reader.purge(f"chat:{name}"))
            record = self.history.notebook.records[f"purges.{STREAM}"]
            _, through = msgspec.json.decode(record.value, type=Purges).recent[-1]
            self.purged |= {each.sequence for each in self.ever(name) if each.sequence <= through}
            self.through[name] = through

    @rule()
    def look(self) -> None:
        """The regular look."""
        self.run(self.history.look())

    @rule(name=NAMES, back=st.integers(0, 12))
    def position(self, name: str, back: int) -> None:
        """A sweep: who is told that nothing was stored behind where it stands has missed nothing that could be heard."""
        since, feed = max(0, self.history.stream.last - back), self.history.follower.feed
        ever = [each.sequence for each in self.ever(name)]
        [told] = self.run(self.history.positions.of([f"chat:{name}"], [Since(since, feed.epoch)]))  # type: ignore[misc]
        if told == (since, feed.epoch) and since not in ever:
            assert all(sequence <= since or sequence > feed.heard for sequence in ever)

    @rule()
    def forget(self) -> None:
        """All memory is needed for others."""
        cache = self.history.cache
        budget, cache.budget = cache.budget, 0
        cache._evict()
        cache.budget = budget

    @rule(name=NAMES)
    def forget_bodies(self, name: str) -> None:
        """The index stays, and the stream is asked for what was in it."""
        key = KEY.format(name).encode()
        timeline = self.history.cache.get(key)
        if timeline is not None:
            timeline.drop_bodies()
            self.history.cache.used(key, timeline)

    @rule()
    def doubt(self) -> None:
        """NATS was away."""
        self.history.followers.doubt()

    @rule(names=st.lists(NAMES, max_size=3))
    def meanwhile(self, names: list[str]) -> None:
        """During the next calls to the stream, publications come."""
        self.history.store.meanwhile += [lambda name=name: self.history.publish(name) for name in names]

    @rule(names=st.lists(NAMES, max_size=2))
    def meanwhile_unheard(self, names: list[str]) -> None:
        """During the next calls to the stream, publications come and others go."""
        stream = self.history.stream
        self.history.store.meanwhile += [
            lambda name=name: (stream.publish(KEY.format(name).encode()), stream.expire(1)) for name in names
        ]

    # what is answered
    @rule(name=NAMES, back=st.integers(0, 12))
    def recover(self, name: str, back: int) -> None:
        """All that ever was behind a position, or an honest no; and a yes where the stream has it all."""
        stream = self.history.stream
        since = max(0, stream.last - back)
        certain = self.provable(name, since) and not self.history.store.meanwhile
        ended = self.history.follower.feed.heard  # what is not heard is found by the next look
        try:
            answer = self.run(self.history.recover(name, since))
        except CallError as error:
            if certain or error.reason is not UNAVAILABLE:
                raise
            return
        if answer.outcome is Outcome.COMPLETE:
            ever = [each.sequence for each in self.ever(name) if each.sequence > since]
            assert offsets(answer) == ever[: len(answer.publications)]
            assert all(sequence > ended for sequence in ever[len(answer.publications) :])
            assert not self.purged & set(offsets(answer))
            assert all(data_of(each) == b"%d" % each.offset for each in answer.publications)
            assert {sequence for sequence in ever if sequence <= answer.offset} <= {*offsets(answer)}
        else:
            assert answer.outcome in {Outcome.TRIMMED, Outcome.OTHER_EPOCH}
            assert not certain

    @rule(name=NAMES, limit=st.integers(1, 7), reverse=st.booleans())
    def page(self, name: str, limit: int, reverse: bool) -> None:
        """What is stored and can be read, in order; nothing that was purged."""
        quiet = not self.history.store.meanwhile
        stored = [each.sequence for each in self.history.stream.of(KEY.format(name).encode())]
        stored = [sequence for sequence in stored if sequence <= self.history.follower.feed.heard]
        try:
            answer = self.run(self.history.read(name, limit=limit, reverse=reverse))
        except CallError:
            return
        found = offsets(answer)
        assert found == sorted(found, reverse=reverse)
        assert not self.purged & set(found)
        assert set(found) <= {each.sequence for each in self.ever(name)}
        if quiet:  # and but for what was not heard yet
            visible = stored[-SIZE:]
            wanted = visible[::-1][:limit] if reverse else visible[:limit]
            assert set(wanted) <= set(found) or len(found) == limit

    @invariant()
    def memory_is_accounted(self) -> None:
        """Sums are what they should be, and within the budget unless it is less than one channel."""
        if not hasattr(self, "history"):
            return
        cache = self.history.cache
        full, bare = ([line.charged for line in lines.values()] for lines in (cache._full, cache._bare))
        assert not cache._full.keys() & cache._bare.keys()
        assert (cache.bytes, cache._bare_bytes) == (sum(full) + sum(bare), sum(bare))
        assert cache.bytes <= cache.budget or not len(cache)

    def ever(self, name: str) -> list[Message]:
        """All publications of a channel."""
        key = KEY.format(name).encode()
        return [each for each in self.history.stream.ever if each.key == key]

    def provable(self, name: str, since: int) -> bool:
        """Whether the stream proves by itself that it has all behind a position, and the namespace lets it be read."""
        stream, key = self.history.stream, KEY.format(name).encode()
        behind = [each.sequence for each in self.ever(name) if each.sequence > since]
        if len(behind) > SIZE or not set(behind) <= set(stream.stored) or self.purged & {*behind}:
            return False
        if any(each.sequence <= since for each in stream.of(key)):
            return True
        return (
            self.through.get(name, 0) <= since
            and stream.first <= since + 1
            and len(stream.of(key)) < stream.limit
        )

    def run(self, work: object) -> object:
        """Do it now."""
        return self.loop.run_until_complete(work)  # type: ignore[arg-type]


History.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
TestHistory = History.TestCase


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is on its way in these tests."""
    monkeypatch.setattr(following, "ON_ITS_WAY", 0.0)


async def test_memory_answers_where_it_can() -> None:
    """Without asking the stream."""
    history = FakeHistory()
    await history.look()
    sent = [history.publish("a").sequence for _ in range(3)]
    history.store.calls.clear()
    assert offsets(await history.recover("a", sent[0])) == sent[1:]
    assert not history.store.calls
    assert history.metrics.counts["read", "memory", "complete"] == 1


def forget_bodies(history: FakeHistory) -> None:
    """Keep the index of the channel, and none of its publications."""
    timeline = history.cache.get(KEY.format("a").encode())
    assert timeline is not None
    timeline.drop_bodies()


async def test_what_comes_while_the_stream_is_asked_is_not_said_to_be_in_the_answer() -> None:
    """Who is told a position that the publications do not reach takes the next one for a repetition, and never sees it."""
    history = FakeHistory()
    await history.look()
    sent = [history.publish("a").sequence for _ in range(3)]
    forget_bodies(history)
    history.store.meanwhile = [lambda: history.publish("a")]
    answer = await history.recover("a", sent[0])
    assert (answer.outcome, offsets(answer), answer.offset) == (Outcome.COMPLETE, sent[1:], sent[-1])


async def test_a_long_answer_is_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have their turn in between; what comes meanwhile is not in it, and one such answer is written at a time."""
    monkeypatch.setattr(supplying, "AT_A_TIME", 2)
    history = FakeHistory()
    await history.look()
    sent = [history.publish("a").sequence for _ in range(6)]
    history.store.calls.clear()
    first = asyncio.ensure_future(history.recover("a", 0))
    second = asyncio.ensure_future(history.read("a", limit=5))
    turns = 0
    while not first.done():
        await asyncio.sleep(0)
        turns += 1
        history.publish("b")
        if turns == 2:
            sent.append(history.publish("a").sequence)
            assert offsets(await history.read("b", limit=1)) == [7]
    assert turns >= 3
    assert not second.done()
    answer = first.result()
    assert (answer.outcome, offsets(answer), answer.offset) == (Outcome.COMPLETE, sent[:6], sent[5])
    assert offsets(await second) == sent[:5]
    assert not history.store.calls, "all of it is in memory"
    assert {labels[1] for labels in history.metrics.counts if labels[0] == "read"} == {"memory"}


async def test_what_goes_while_a_long_answer_is_written_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what was purged, nor what another life of the stream had."""
    monkeypatch.setattr(supplying, "AT_A_TIME", 2)
    history = FakeHistory()
    await history.look()
    for _ in range(6):
        history.publish("a")
    reading = asyncio.ensure_future(history.recover("a", 1))
    await asyncio.sleep(0)
    history.stream.purge(KEY.format("a").encode(), 6)
    history.follower.lose(KEY.format("a").encode(), 6)
    assert (await reading).outcome is Outcome.TRIMMED
    sent = [history.publish("a").sequence for _ in range(6)]
    history.stream.generation = 1
    facts = await history.store.facts(STREAM)
    assert facts is not None
    reading = asyncio.ensure_future(history.recover("a", sent[0]))
    await asyncio.sleep(0)
    history.follower._begin(Life(facts.created, 1, ""), facts)
    assert (await reading).outcome is Outcome.OTHER_EPOCH


async def test_identical_reads_are_one() -> None:
    """While it is under way; the next one is another."""
    history = FakeHistory()
    sent = [history.stream.publish(KEY.format("a").encode()).sequence for _ in range(3)]
    await history.look()
    answers = await asyncio.gather(*(history.recover("a", sent[0]) for _ in range(50)))
    assert {tuple(offsets(answer)) for answer in answers} == {tuple(sent[1:])}
    assert history.metrics.counts[("joined",)] == 49
    assert history.store.calls["scan"] == 1
    assert history.reader.under_way == 0


async def test_who_leaves_takes_nobody_along() -> None:
    """A caller whose deadline passed does not end the read for the others."""
    history = FakeHistory()
    history.stream.publish(KEY.format("a").encode())
    await history.look()
    first = asyncio.ensure_future(history.recover("a", 0))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(history.recover("a", 0))
    await asyncio.sleep(0)
    first.cancel()
    assert offsets(await second) == [1]


async def test_a_read_that_fails_when_all_have_left_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edges give up before we do: nothing of it is told as a failure of ours."""
    history = FakeHistory()
    await history.look()
    left = asyncio.Event()

    async def failing(*_args: object) -> None:
        await left.wait()
        raise StoreAway("the test says so")

    monkeypatch.setattr(history.store, "newest_of", failing)
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    reading = asyncio.ensure_future(history.read("a"))
    await eventually(lambda: history.reader.under_way)
    reading.cancel()
    await asyncio.wait([reading])
    left.set()
    await eventually(lambda: not history.reader.under_way)
    del reading  # it knows the read
    gc.collect()
    assert told == []


async def test_nothing_is_answered_while_the_stream_is_away() -> None:
    """Not even from memory, once it is not known to be all there is."""
    history = FakeHistory()
    await history.look()
    history.publish("a")
    assert offsets(await history.read("a")) == [1]
    history.store.away = True
    assert offsets(await history.read("a")) == [1]  # known to be current some seconds ago
    history.clock.advance(6)
    for read in (history.read("a"), history.recover("a", 0), history.reader.purge("chat:a")):
        with pytest.raises(CallError) as caught:
            await read
        assert caught.value.reason is UNAVAILABLE
    assert await history.positions.of(["chat:a"]) == ["unavailable"]
    history.store.away = False
    await history.look()
    assert offsets(await history.read("a")) == [1]


async def test_what_the_caller_has_seen_must_be_known() -> None:
    """An answer that lacks it would be stale: the stream is looked at, and what was missed is found."""
    history = FakeHistory()
    await history.look()
    heard = history.publish("a").sequence
    missed = history.stream.publish(KEY.format("a").encode()).sequence
    assert offsets(await history.read("a")) == [heard]  # as it was a second ago
    assert offsets(await history.read("a", at_least=missed)) == [heard, missed]
    with pytest.raises(CallError) as caught:
        await history.read("a", at_least=missed + 1)
    assert caught.value.reason is UNAVAILABLE


async def test_a_read_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is UNAVAILABLE when its time is over."""
    history = FakeHistory()
    await history.look()
    history.reader.timeout = 0.01

    async def never(*_args: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(history.store, "newest_of", never)
    with pytest.raises(CallError, match=r"longer than 0\.01 s"):
        await history.read("a")


async def test_a_channel_that_changes_all_the_time() -> None:
    """Is given up after some tries, not read for ever."""
    history = FakeHistory()
    for _ in range(3):
        history.stream.publish(KEY.format("a").encode())
    await history.look()

    def change() -> None:
        history.cache.drop(history.follower.feed)

    history.store.meanwhile = [change] * 1000
    with pytest.raises(CallError, match="changes too fast"):
        await history.recover("a", 1)


async def test_another_replica_serves_other_partitions() -> None:
    """Which is for the edge to find."""
    history = FakeHistory()
    del history.followers.by_stream[STREAM]
    with pytest.raises(CallError, match="another replica") as caught:
        await history.read("a")
    assert caught.value.reason is ELSEWHERE
    assert await history.positions.of(["chat:a", "live:x"]) == ["elsewhere", "unknown_channel"]


async def test_an_empty_channel_stands_where_the_caller_does() -> None:
    """It has no number of its own: what another replica said, or this one before, is not news in itself."""
    history = FakeHistory()
    await history.look()
    history.publish("b")
    [mine] = await history.positions.of(["chat:a"])
    assert mine == (1, history.follower.feed.epoch)
    history.cache._forget(KEY.format("a").encode(), history.cache.get(KEY.format("a").encode()))  # type: ignore[arg-type]
    later = history.publish("b").sequence
    assert await history.positions.of(["chat:a"]) == [(later, mine[1])]
    here = Since(*mine)  # type: ignore[misc]
    history.store.calls.clear()
    assert await history.positions.of(["chat:a", "chat:b"], [here, here]) == [here, (later, here.epoch)]
    ahead = [Since(later + 1, here.epoch), Since(later, "another")]
    assert await history.positions.of(["chat:a", "chat:a"], ahead) == [(later, here.epoch)] * 2
    assert not history.store.calls
    news = history.publish("a").sequence
    assert await history.positions.of(["chat:a"], [here]) == [(news, here.epoch)]


async def sure_of(history: FakeHistory, since: int) -> tuple[list[bool], int]:
    """Whether another replica, which begins now, is sure of two empty channels, and how often it asked the stream for it."""
    other = FakeHistory(history.stream, history.notebook)
    await other.look()
    here = Since(since, other.follower.feed.epoch)
    asked = (["chat:a", "chat:c"], [here, here])
    await other.positions.of(*asked)
    told = await other.positions.of(*asked)
    return [each == here for each in told], other.store.calls["facts"] - 1


async def test_a_replica_that_has_not_seen_the_time_asks_once_for_all() -> None:
    """Whether anything has gone since; in which nothing is stored, only the stream can tell."""
    history = FakeHistory(limit=4)
    await history.look()
    sent = [history.publish("b").sequence for _ in range(6)]
    assert await sure_of(history, sent[2]) == ([True, True], 1)
    history.stream.expire(3)
    assert (await sure_of(history, history.stream.first - 1))[0] == [True, True]
    assert (await sure_of(history, history.stream.first - 2))[0] == [False, False]


async def test_a_purge_is_no_proof() -> None:
    """Nor is it for those who stood before it."""
    history = FakeHistory()
    await history.look()
    history.publish("a")
    history.publish("b")
    await history.reader.purge("chat:a")
    assert (await sure_of(history, 1))[0] == [False, True]
    assert (await sure_of(history, 2))[0] == [True, True]


async def test_what_is_not_heard_may_have_taken_a_channel_to_its_limit() -> None:
    """So that what pushed out its older publications is itself not known here."""
    history = FakeHistory(limit=3)
    await history.look()
    history.publish("b")
    sure = []
    for unheard in (2, 3):
        other = FakeHistory(history.stream, history.notebook)
        await other.look()
        here = Since(0, other.follower.feed.epoch)
        await other.positions.of(["chat:a"])
        for number in range(unheard):
            history.publish(f"{unheard}{number}")
        sure += [told == here for told in await other.positions.of(["chat:a"], [here])]
    assert sure == [True, False]


async def test_what_came_and_went_unheard_is_news() -> None:
    """In an empty channel it may have been: who stands below has to ask, and is told that it cannot be proven."""
    history = FakeHistory()
    await history.look()
    [told] = await history.positions.of(["chat:a"])
    here = Since(*told)  # type: ignore[misc]
    history.stream.publish(KEY.format("a").encode())
    history.stream.expire(1)
    await history.look()
    assert await history.positions.of(["chat:a"], [here]) == [(1, here.epoch)]
    assert (await history.recover("a", here.offset)).outcome is Outcome.TRIMMED


async def test_what_is_known_to_have_gone_is_not_asked_for_again() -> None:
    """Neither what was purged, nor what the stream could not prove."""
    history = FakeHistory()
    await history.look()
    sent = [history.publish("a").sequence for _ in range(3)]
    await history.reader.purge("chat:a")
    history.store.calls.clear()
    assert (await history.recover("a", sent[0])).outcome is Outcome.TRIMMED
    assert not history.store.calls
    cold = FakeHistory(history.stream, history.notebook)
    await cold.look()
    for _ in range(2):
        assert (await cold.recover("a", sent[0])).outcome is Outcome.TRIMMED
    assert cold.store.calls["oldest"] == 1


async def test_a_channel_at_its_limit_proves_nothing() -> None:
    """One with fewer has lost none, as long as the limit was never lower and it was not purged."""

    async def cold(limit: int, count: int, *, lower: int = 0, purged: bool = False) -> Outcome:
        history = FakeHistory(limit=lower or limit)
        for _ in range(2):  # so that there is room for one that has gone
            history.stream.publish(KEY.format("b").encode())
        if purged or lower:
            await history.look()
        for _ in range(count):
            history.stream.publish(KEY.format("a").encode())
        if purged:
            await history.reader.purge("chat:a")
        history.stream.limit = limit
        other = FakeHistory(history.stream, history.notebook)
        await other.look()
        return (await other.recover("a", 1)).outcome

    assert await cold(4, 3) is Outcome.COMPLETE
    assert await cold(4, 4) is Outcome.TRIMMED
    assert await cold(4, 5) is Outcome.TRIMMED
    assert await cold(9, 5, lower=4) is Outcome.TRIMMED
    assert await cold(4, 3, purged=True) is Outcome.TRIMMED


def held_up(history: FakeHistory, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Have the stream answer what is newest only once the event is set."""
    release = asyncio.Event()
    newest_of = history.store.newest_of

    async def slowly(*args: Any) -> Any:
        await release.wait()
        return await newest_of(*args)

    monkeypatch.setattr(history.store, "newest_of", slowly)
    return release


async def test_reads_that_their_callers_gave_up_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """They go on, so deadlines of a millisecond would heap them up."""
    monkeypatch.setattr(reading, "MOST_UNDER_WAY", 2)
    history = FakeHistory()
    await history.look()
    release = held_up(history, monkeypatch)
    for number, name in enumerate("ab", 1):
        given_up = asyncio.ensure_future(history.read(name))
        await eventually(lambda number=number: history.reader.under_way == number)
        given_up.cancel()
    with pytest.raises(CallError, match="2 reads wait for streams") as caught:
        await history.read("c")
    assert caught.value.reason is BUSY
    same = asyncio.ensure_future(history.read("a"))
    release.set()
    assert offsets(await same) == []
    assert offsets(await history.read("c")) == []
    assert history.reader.under_way == 0


async def test_calls_for_positions_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """One who asks much waits behind itself."""
    monkeypatch.setattr(standing, "LEARNING", 1)
    history = FakeHistory()
    await history.look()
    served: list[str] = []

    async def ask(who: str, number: int) -> None:
        asker.set(Asker(who))
        await history.positions.of([f"chat:{who}{number}"])
        served.append(who)

    await asyncio.gather(*(ask("greedy", number) for number in range(12)), ask("b", 0))
    assert served.index("b") == 2  # behind the one that was served, and the next of who came first


async def test_one_asker_leaves_room_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four parts of five are the most of one, and together they have what there is."""
    monkeypatch.setattr(reading, "MOST_UNDER_WAY", 10)
    history = FakeHistory()
    await history.look()
    release = held_up(history, monkeypatch)

    async def read(who: str, number: int) -> Answer:
        asker.set(Asker(who))
        return await history.read(f"{who}{number}")

    tasks = [asyncio.ensure_future(read(who, number)) for who in ("greedy", "b", "c") for number in range(9)]
    await eventually(lambda: history.reader.under_way == 10)
    release.set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    taken = [sum(isinstance(each, Answer) for each in ended[at : at + 9]) for at in (0, 9, 18)]
    assert taken == [8, 2, 0]
    assert {each.reason for each in ended if isinstance(each, CallError)} == {BUSY}
    assert history.metrics.counts[("refused",)] == 17
    assert not history.reader._of_asker
    assert not history.reader._of_connection


@pytest.mark.parametrize(
    ("names", "other", "taken"),
    [
        (["greedy"], ("proxy", "other"), [77, 3]),
        (["edge"], ("another", ""), [77, 18]),
        ([f"{number}" for number in range(100)], ("edge", ""), [80, 16]),
    ],
)
async def test_names_share_what_their_connection_may_have(
    names: list[str], other: tuple[str, str], taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edge behind a proxy leaves room to others there; and who takes a name for each call has hardly more by it."""
    monkeypatch.setattr(reading, "MOST_UNDER_WAY", 100)
    history = FakeHistory()
    await history.look()
    release = held_up(history, monkeypatch)

    async def read(connection: str, name: str, number: int) -> Answer:
        asker.set(Asker(connection, name))
        return await history.read(f"{connection}{name}-{number}")

    greedy = [read("proxy", names[number % len(names)], number) for number in range(100)]
    tasks = [*map(asyncio.ensure_future, [*greedy, *(read(*other, number) for number in range(100))])]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    release.set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [sum(isinstance(each, Answer) for each in part) for part in (ended[:100], ended[100:])] == taken


async def test_positions_wait_for_a_stream_that_was_out_of_sight() -> None:
    """NATS was away, and edges ask where their channels stand as soon as it is back: what they missed is not to wait for the next time."""
    history = FakeHistory()
    await history.look()
    history.publish("a")
    missed = history.stream.publish(KEY.format("a").encode()).sequence
    history.followers.doubt()
    here = Since(1, history.follower.feed.epoch)
    assert await history.positions.of(["chat:a"], [here]) == [(missed, here.epoch)]


async def test_many_positions_are_looked_up_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have their turn in between."""
    monkeypatch.setattr(standing, "AT_A_TIME", 2)
    history = FakeHistory()
    await history.look()
    sent = [history.publish(f"{number}").sequence for number in range(5)]
    asking = asyncio.ensure_future(history.positions.of([f"chat:{number}" for number in range(5)]))
    turns = 0
    while not asking.done():
        await asyncio.sleep(0)
        turns += 1
    assert [position for position, _ in await asking] == sent
    assert turns >= 5


async def test_positions_of_many_callers_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call may be a thousand requests to streams, and reads have to get through."""
    history = FakeHistory()
    await history.look()
    at_once, most = 0, 0
    newest_of = history.store.newest_of

    async def counted(*args: Any) -> Any:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return await newest_of(*args)

    monkeypatch.setattr(history.store, "newest_of", counted)
    found = await asyncio.gather(*(history.positions.of([f"chat:{n}", "live:x"]) for n in range(20)))
    assert found == [[(0, history.follower.feed.epoch), "unknown_channel"]] * 20
    assert most == standing.LEARNING


async def test_a_long_index_is_made_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one read could not finish in its time, the next one need not do again."""
    monkeypatch.setattr(supplying, "FIRST_SPAN", 2)
    monkeypatch.setattr(supplying, "MANY", 8)
    history = FakeHistory(size=100)
    for _ in range(90):
        history.stream.publish(KEY.format("a").encode())
    await history.look()
    spans: list[int] = []
    scan = history.store.scan

    async def noted(stream: str, subject: bytes, since: int, until: int, most: int) -> Any:
        spans.append(until - since)
        return await scan(stream, subject, since, until, most)

    monkeypatch.setattr(history.store, "scan", noted)
    assert len(offsets(await history.read("a"))) == 90
    assert spans[:2] == [2, 16]
    assert set(spans[2:-1]) == {16}


@pytest.mark.parametrize("budget", range(700, 2_000, 25))
async def test_no_channel_is_forgotten_before_its_first_publication(budget: int) -> None:
    """Where there is no room for another one: what it forgot would be behind no floor, and the next one be all there was."""
    history = FakeHistory(budget=budget)
    await history.look()
    assert offsets(await history.read("a")) == []  # it is held without publications
    sent = [history.stream.publish(KEY.format(name).encode()) for name in "abbcbacc"]
    await history.look()
    assert offsets(await history.recover("c", 0)) == [each.sequence for each in sent if b"c" in each.key[-1:]]
    assert offsets(await history.recover("c", 6)) == [7, 8]
