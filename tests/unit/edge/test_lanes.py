from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.edge import CountingMetrics
from tests.fakes.streams import PLACE, ModelPort
from tests.support.protocol import protocol
from tidewire.edge import pending
from tidewire.edge.lane import MAX_SETBACKS, LaneLimits, Settled
from tidewire.edge.lanes import Lanes
from tidewire.edge.pending import Demands, Flight, Pending, Place, Verdict
from tidewire.edge.timers import TICK
from tidewire.edge.untraced import NO_SPAN

LIMITS = LaneLimits(answer_within=3.4, publications=100, size=2000, queue_size=300, batch=4, batch_size=100)


class Stage:
    """Lanes on a model of JetStream; `ends` are the outcomes told so far, by command."""

    def __init__(self, limits: LaneLimits = LIMITS, place: Place = PLACE) -> None:
        self.place = place
        self.clock = ManualClock()
        self.port = ModelPort(self.clock)
        self.metrics: Any = CountingMetrics()
        self.lanes = Lanes(self.port, limits, self.clock.monotonic, self.metrics)
        self.commands = 0
        self.ends: dict[int, str] = {}

    def publish(
        self, *data: bytes, owner: int = 1, channel: str = "a", demands: Demands | None = None, key: str = ""
    ) -> list[Pending]:
        """Publications of one read."""
        made = [self._pending(each, demands) for each in data]
        for each in made:
            each.id = key.encode()
        self.take(self.lanes.add_all(owner, [(channel, self.place, made)]))
        return made

    def publish_on(self, **channels: bytes) -> None:
        """Publications of one read, one on each channel."""
        runs = [(channel, self.place, [self._pending(data)]) for channel, data in channels.items()]
        self.take(self.lanes.add_all(1, runs))

    def _pending(self, data: bytes, demands: Demands | None = None) -> Pending:
        self.commands += 1
        return Pending(self.commands, self.clock.monotonic(), "publish", NO_SPAN, data, b"", demands)

    def take(self, settled: list[Settled]) -> None:
        """Note what clients are told."""
        for _, publications, result in settled:
            for each in publications:
                assert each.command not in self.ends
                self.ends[each.command] = result.outcome

    @property
    def flights(self) -> list[Flight]:
        """What was sent, attempt by attempt."""
        return [attempt.flight for attempt in self.port.attempts]

    @property
    def sent(self) -> list[list[bytes]]:
        """The data of each attempt."""
        return [[copy.data for copy in attempt.copies] for attempt in self.port.attempts]

    def process(self, index: int = -1) -> None:
        """Let the stream take an attempt, and bring the answer."""
        attempt = self.port.attempts[index]
        self.port.process(attempt)
        if attempt.asks:
            self.port.forget(attempt.flight)
            self.take(self.lanes.found(attempt.flight, attempt.answer[0]))
        else:
            self.take(self.lanes.answered(attempt.flight, attempt.answer))

    def store(self, index: int = -1) -> None:
        """Let the stream take an attempt whose answer is lost."""
        self.port.process(self.port.attempts[index])

    def answer(self, verdict: Verdict, index: int = -1) -> None:
        """Answer an attempt."""
        self.take(self.lanes.answered(self.port.attempts[index].flight, verdict))

    def run(self, seconds: float) -> None:
        """Let time pass, tick by tick."""
        for _ in range(round(seconds / TICK)):
            self.clock.advance(TICK)
            self.take(self.lanes.tick())

    def stored(self, channel: str = "a") -> list[bytes]:
        """What the stream holds."""
        return [copy.data for copy in self.port.stored.get(channel, ())]


@pytest.fixture
def stage() -> Stage:
    """Nothing published yet."""
    return Stage()


@protocol("publish.stored")
def test_a_publication_is_told_of_once_it_is_stored(stage: Stage) -> None:
    """Not before, and nothing is kept of it then."""
    stage.publish(b"1")
    stage.run(0.3)
    assert (stage.ends, len(stage.lanes), stage.lanes.flying) == ({}, 1, 1)
    stage.process()
    assert stage.ends == {1: "stored"}
    assert (len(stage.lanes), stage.lanes.flying, stage.lanes.room.publications, stage.lanes.room.size) == (
        0,
        0,
        0,
        0,
    )


@protocol("publish.order")
def test_what_comes_together_on_many_channels_goes_together(stage: Stage) -> None:
    """And is acknowledged together: who is told, hears it once, and nothing is left."""
    stage.publish_on(a=b"1", b=b"2", c=b"3")
    stage.clock.advance(0.25)
    for attempt in stage.port.attempts:
        stage.port.process(attempt)
    settled = stage.lanes.stored(stage.flights)
    assert [[each.command for each in publications] for _, publications, _ in settled] == [[1, 2, 3]]
    assert (len(stage.lanes), stage.lanes.room.publications, stage.lanes.room.size, stage.lanes.flying) == (
        0,
        0,
        0,
        0,
    )
    assert stage.metrics.of("acknowledged") == [(pytest.approx(0.25), 3)]
    assert stage.metrics.of("stored") == [(3,)]


def test_what_is_acknowledged_beside_a_batch(stage: Stage) -> None:
    """Each counts what it holds; what waits behind one of them goes next."""
    stage.publish(b"1", b"2", channel="a")
    stage.publish_on(b=b"3", c=b"4")
    stage.publish(b"5", channel="c")
    stage.take(stage.lanes.stored(stage.flights))
    assert stage.ends == dict.fromkeys([1, 2, 3, 4], "stored")
    assert stage.sent[3:] == [[b"5"]]
    assert (len(stage.lanes), stage.lanes.room.publications, stage.lanes.flying) == (1, 1, 1)
    assert stage.metrics.of("batch_stored") == [()]
    assert sum(count for (count,) in stage.metrics.of("stored")) == 4


def test_what_can_not_go_out_with_others_is_told_why_by_itself(stage: Stage) -> None:
    """At once; the others go."""
    stage.publish_on(a=b"1", b=stage.port.too_large, c=b"3")
    assert stage.ends == {2: "too_large"}
    assert stage.sent == [[b"1"], [b"3"]]
    stage.port.away = pending.AWAY
    stage.publish_on(d=b"4", e=b"5")
    assert stage.ends == {2: "too_large", 4: "away", 5: "away"}
    assert (len(stage.lanes), stage.lanes.room.publications, stage.lanes.flying) == (2, 2, 2)


def test_one_that_comes_late_among_others_is_looked_after_in_time(stage: Stage) -> None:
    """As a command that had to wait for its turn."""
    late = stage._pending(b"1")
    stage.clock.advance(LIMITS.answer_within - 0.2)
    stage.take(
        stage.lanes.add_all(1, [("a", stage.place, [late]), ("b", stage.place, [stage._pending(b"2")])])
    )
    stage.run(0.3)
    assert stage.ends == {1: "uncertain"}


def test_one_is_in_flight_and_what_waits_goes_together(stage: Stage) -> None:
    """On one connection and channel; others have lanes of their own."""
    stage.publish(b"1")
    stage.publish(b"2")
    stage.publish(b"3")
    stage.publish(b"x", channel="b")
    stage.publish(b"y", owner=2)
    assert stage.sent == [[b"1"], [b"x"], [b"y"]]
    stage.process(0)
    assert stage.sent[3:] == [[b"2", b"3"]]
    stage.process(3)
    assert stage.ends == {1: "stored", 2: "stored", 3: "stored"}
    assert stage.stored() == [b"1", b"2", b"3"]


def test_publications_of_one_read_are_a_batch_at_once_and_bounded_in_number_and_bytes(stage: Stage) -> None:
    """What asks for something of its own goes alone, in its turn."""
    stage.publish(*[b"x"] * 5)
    stage.process()
    stage.process()
    assert list(map(len, stage.sent)) == [4, 1]
    stage.publish(b"y" * 60, b"y" * 60)
    stage.process()
    stage.process()
    assert list(map(len, stage.sent[2:])) == [1, 1]
    stage.publish(b"1")
    stage.publish(b"2")
    stage.publish(b"3", demands=Demands(idempotency_key="k"), key="alice-k")
    stage.publish(b"4")
    for _ in range(4):
        stage.process()
    assert stage.sent[4:] == [[b"1"], [b"2"], [b"3"], [b"4"]]


def test_a_batch_that_would_not_be_worth_it_is_none() -> None:
    """Where batches are costly, fewer than the place's least go one by one."""
    stage = Stage(place=msgspec.structs.replace(PLACE, least_batch=3))
    stage.publish(b"1", b"2", b"3", b"4", b"5")
    for _ in range(2):
        stage.process()
    assert stage.sent == [[b"1", b"2", b"3", b"4"], [b"5"]]
    stage.publish(b"6", b"7")
    for _ in range(2):
        stage.process()
    assert stage.sent[2:] == [[b"6"], [b"7"]]
    assert len(stage.ends) == 7


def test_whatever_a_batch_is_refused_with_its_publications_go_one_by_one_with_their_ids(stage: Stage) -> None:
    """Too many open batches, or one that holds an id which is stored: each is then answered for itself."""
    stage.publish(b"1", b"2", b"3")
    ids = [copy.id for copy in stage.port.attempts[0].copies]
    stage.answer(Verdict.REFUSED)
    assert stage.sent[1:] == [[b"1"]]
    stage.process()
    stage.process()
    assert stage.ends == {1: "stored", 2: "stored"}
    stage.process()
    assert [attempt.copies[0].id for attempt in stage.port.attempts[1:]] == ids
    assert stage.stored() == [b"1", b"2", b"3"]
    assert len(stage.metrics.of("split")) == 1


def test_a_batch_without_an_answer_that_was_stored_is_found_stored(stage: Stage) -> None:
    """By each publication's own id: an error is never taken for an acknowledgement."""
    stage.publish(b"1", b"2")
    stage.store()
    stage.run(0.6)
    assert stage.ends == {}
    stage.process()
    stage.process()
    assert stage.ends == {1: "stored", 2: "stored"}
    assert stage.stored() == [b"1", b"2"]


def test_an_attempt_without_an_answer_is_repeated_with_the_same_id(stage: Stage) -> None:
    """At growing pauses. A late answer to an earlier attempt counts as well."""
    stage.publish(b"1")
    stage.run(3.0)
    assert len({attempt.copies[0].id for attempt in stage.port.attempts}) == 1
    assert [round(attempt.sent_at - 1000, 1) for attempt in stage.port.attempts] == [0, 0.5, 1.5]
    stage.process(0)
    assert stage.ends == {1: "stored"}


@protocol("publish.uncertain")
def test_the_client_is_told_in_time_that_nobody_knows_and_the_lane_is_blocked(stage: Stage) -> None:
    """What waits was not stored for certain, what comes is refused at once, and trying goes on."""
    stage.publish(b"1")
    stage.publish(b"2")
    stage.run(3.3)
    assert stage.ends == {}
    stage.run(0.1)
    assert stage.ends == {1: "uncertain", 2: "blocked"}
    stage.publish(b"3")
    stage.publish(b"other", channel="b")
    assert stage.ends == {1: "uncertain", 2: "blocked", 3: "blocked"}
    stage.run(2)
    stage.process(-1)
    stage.port.attempts.pop()
    stage.process(0)
    stage.publish(b"4")
    stage.process()
    assert stage.ends[5] == "stored"
    assert stage.stored() == [b"1", b"4"]
    assert stage.metrics.of("ended_late") == [("stored", 1)]


def test_trying_ends_before_the_stream_may_forget_the_id(stage: Stage) -> None:
    """Then the lane takes publications again, and nothing is held."""
    stage.publish(b"1", b"2", b"3")
    stage.run(13.5)
    assert stage.ends == dict.fromkeys((1, 2, 3), "uncertain")
    assert stage.port.attempts[-1].sent_at < 1000 + PLACE.retry_for
    before = len(stage.port.attempts)
    stage.run(5)
    assert (len(stage.lanes), stage.lanes.room.publications, len(stage.port.attempts)) == (0, 0, before)
    assert stage.metrics.of("ended_late") == [("uncertain", 3)]


def test_trying_ends_in_time_for_what_went_out_with_others(stage: Stage) -> None:
    """Counted from the first attempt, not from the first repetition."""
    stage.publish_on(a=b"1", b=b"2")
    stage.run(PLACE.retry_for - 2 * TICK)
    assert len(stage.lanes) == 2
    stage.run(3 * TICK)
    assert (len(stage.lanes), stage.lanes.flying) == (0, 0)
    assert stage.metrics.of("ended_late") == [("uncertain", 1)] * 2


def test_the_time_of_a_batchs_publications_runs_from_when_it_was_sent(stage: Stage) -> None:
    """Not from their own first attempt by themselves: JetStream may have their ids since the batch."""
    stage.publish(b"1", b"2")
    stage.run(13.3)
    stage.process()
    assert stage.port.attempts[-1].copies[0].data == b"2"
    before = len(stage.port.attempts)
    stage.run(0.3)
    assert (len(stage.port.attempts), len(stage.lanes)) == (before, 0)


def test_publications_of_a_batch_in_doubt_stay_in_doubt_together(stage: Stage) -> None:
    """Those behind the one that is tried may be stored, too; what never went out was not."""
    stage.publish(b"1", b"2")
    stage.publish(b"3")
    stage.run(3.4)
    assert stage.ends == {1: "uncertain", 2: "uncertain", 3: "blocked"}


def test_where_no_stream_answers_it_is_tried_until_the_client_must_be_answered(stage: Stage) -> None:
    """Then it is certain that it is not stored, and nothing is blocked."""
    stage.publish(b"1")
    answered = 0
    for _ in range(33):
        if len(stage.sent) > answered:
            stage.answer(Verdict.NOBODY)
            answered += 1
        stage.run(0.1)
    assert stage.ends == {}
    assert 4 < len(stage.sent) < 8
    stage.answer(Verdict.NOBODY)
    stage.run(0.1)
    assert stage.ends == {1: "nobody"}
    assert len(stage.lanes) == 0


def test_a_stream_that_is_back_soon_costs_nobody_an_error(stage: Stage) -> None:
    """As at a step-down of its leader."""
    stage.publish(b"1")
    stage.answer(Verdict.NOBODY)
    stage.run(0.2)
    stage.process()
    assert stage.ends == {1: "stored"}


def test_what_waited_too_long_is_not_sent_any_more(stage: Stage) -> None:
    """Its client would hear nothing of it in time."""
    stage.publish(b"1")
    stage.publish(b"2")
    stage.run(0.2)
    stage.publish(b"3")
    stage.clock.advance(3.25)
    stage.process(0)
    assert stage.ends == {1: "stored", 2: "late"}
    stage.process()
    assert stage.ends[3] == "stored"


def test_a_refusal_is_the_end_unless_an_earlier_attempt_is_in_doubt(stage: Stage) -> None:
    """That one may still be stored, so that the refusal of a later one proves nothing."""
    stage.publish(b"1")
    stage.publish(b"2")
    stage.answer(Verdict.REFUSED)
    assert stage.ends == {1: "refused"}
    stage.process()
    assert stage.ends == {1: "refused", 2: "stored"}
    stage.publish(b"3")
    stage.run(0.6)
    stage.answer(Verdict.REFUSED)
    assert 3 not in stage.ends
    stage.process()
    assert stage.ends[3] == "stored"


def test_an_id_in_process_is_asked_for_again_and_never_an_acknowledgement(stage: Stage) -> None:
    """Err 10158: the message with that id may still fail."""
    stage.publish(b"1", demands=Demands(idempotency_key="k"), key="alice-k")
    stage.answer(Verdict.IN_PROCESS)
    assert stage.ends == {}
    stage.run(0.2)
    stage.process()
    assert stage.ends == {1: "stored"}


@protocol("rpc.tw_publish")
def test_a_key_that_was_used_is_a_duplicate_and_no_failure(stage: Stage) -> None:
    """Its publication is stored once."""
    for _ in range(2):
        stage.publish(b"1", demands=Demands(idempotency_key="k"), key="alice-k")
        stage.process()
    assert stage.ends == {1: "stored", 2: "duplicate"}
    assert stage.stored() == [b"1"]


def test_an_id_of_ours_that_somebody_else_has_used_is_replaced(stage: Stage) -> None:
    """A duplicate at the first attempt is not this publication: it would be lost."""
    (publication,) = stage.publish(b"1")
    stage.port.ids[publication.id] = None
    stage.process()
    assert stage.ends == {}
    stage.process()
    assert stage.ends == {1: "stored"}
    assert stage.stored() == [b"1"]
    assert len(stage.metrics.of("id_taken")) == 1


def test_somebody_who_uses_every_id_is_not_fought_for_ever(stage: Stage) -> None:
    """That would need knowledge of what is random."""
    stage.publish(b"1")
    for _ in range(MAX_SETBACKS):
        stage.answer(Verdict.DUPLICATE)
        assert stage.ends == {}
    stage.answer(Verdict.DUPLICATE)
    assert stage.ends == {1: "refused"}


@protocol("rpc.tw_publish")
def test_a_version_is_stored_only_where_it_is_newer(stage: Stage) -> None:
    """Within one version epoch; another one begins anew."""
    for version, epoch in ((3, ""), (2, ""), (3, ""), (4, ""), (1, "e"), (1, "e"), (2, "e")):
        stage.publish(b"%d" % version, demands=Demands(version=version, version_epoch=epoch))
        stage.process()
        if stage.port.attempts[-1].copies:
            stage.process()
    assert stage.ends == dict(
        zip(
            range(1, 8),
            ["stored", "dropped", "dropped", "stored", "stored", "dropped", "stored"],
            strict=True,
        )
    )
    assert stage.stored() == [b"3", b"4", b"1", b"2"]


def test_a_version_is_compared_anew_when_somebody_else_was_faster(stage: Stage) -> None:
    """A bounded number of times."""
    stage.publish(b"5", demands=Demands(version=5))
    stage.process()
    stage.publish(b"6", owner=2, demands=Demands(version=6))
    stage.process(1 + 1)
    stage.process(1 + 2)
    stage.process(1)
    assert stage.ends == {2: "stored"}
    stage.run(0.2)
    stage.process()
    assert stage.ends == {2: "stored", 1: "dropped"}


def test_a_version_is_not_compared_for_ever(stage: Stage) -> None:
    """Then it is certain that it is not stored."""
    stage.publish(b"5", demands=Demands(version=5))
    for _ in range(MAX_SETBACKS + 1):
        stage.process()
        assert stage.ends == {}
        stage.answer(Verdict.OUTRUN)
        stage.run(0.2)
    assert stage.ends == {1: "contended"}


def test_a_version_in_doubt_is_known_again_by_its_id(stage: Stage) -> None:
    """The server looks at the expected sequence before the id: a repeated attempt is refused though the first is stored."""
    stage.publish(b"5", demands=Demands(version=5))
    stage.process()
    stage.store()
    stage.run(0.6)
    stage.process()
    assert stage.ends == {}
    stage.run(0.5)
    assert stage.port.attempts[-1].asks
    stage.process()
    assert stage.ends == {1: "stored"}
    assert stage.stored() == [b"5"]


def test_what_can_not_be_told_of_the_last_publication_is_asked_again(stage: Stage) -> None:
    """And is no reason to think that something may be stored."""
    stage.publish(b"5", demands=Demands(version=5))
    flight = stage.port.attempts[0].flight
    stage.take(stage.lanes.found(flight, None))
    stage.run(0.3)
    assert len(stage.port.attempts) == 2
    stage.run(3.2)
    assert stage.ends == {1: "unread"}


def test_nothing_is_taken_while_nats_is_away_and_what_flies_is_tried_again(stage: Stage) -> None:
    """What waits is refused for certain when its turn comes."""
    stage.publish(b"1")
    stage.publish(b"2")
    stage.port.away = pending.AWAY
    stage.publish(b"x", channel="b")
    assert stage.ends == {3: "away"}
    stage.run(1.0)
    stage.port.away = None
    stage.run(1.5)
    assert len(stage.port.attempts) > 1
    stage.port.away = pending.AWAY
    stage.process()
    assert stage.ends == {3: "away", 1: "stored", 2: "away"}
    assert len(stage.lanes) == 0


@pytest.mark.parametrize(
    ("limits", "taken"),
    [
        (LaneLimits(queue_size=100), 3),
        (LaneLimits(publications=4), 2),
        (LaneLimits(size=240), 4),
    ],
)
@protocol("error.111")
def test_what_waits_is_bounded(limits: LaneLimits, taken: int) -> None:
    """In bytes of a lane, in number and bytes over all; one publication of any size goes where nothing waits."""
    stage = Stage(limits)
    for _ in range(6):
        stage.publish(b"x" * 30)
    assert stage.ends == dict.fromkeys(range(taken + 1, 7), "full")
    while stage.lanes.room.publications:
        stage.process()
    assert stage.ends.keys() == set(range(1, 7))
    big = Stage(LaneLimits(queue_size=10))
    big.publish(b"x" * 50)
    big.process()
    assert big.ends == {1: "stored"}


def test_a_stream_that_does_not_answer_leaves_room_for_others() -> None:
    """Until it answers again."""
    stage = Stage(LaneLimits(publications=8))
    for owner in range(6):
        stage.publish(b"x", owner=owner)
    assert stage.ends == {5: "full", 6: "full"}
    stage.place = msgspec.structs.replace(PLACE, stream="TW_default_1")
    stage.publish_on(b=b"1", c=b"2")
    assert len(stage.ends) == 2
    stage.publish_on(d=b"3")
    assert stage.ends.keys() == {5, 6, 9}
    stage.process(0)
    stage.process(1)
    stage.publish_on(d=b"3")
    assert stage.ends == {5: "full", 6: "full", 9: "full", 1: "stored", 2: "stored"}


def test_one_that_is_larger_than_nats_takes_costs_no_other_anything(stage: Stage) -> None:
    """A batch that cannot be sent for it goes one by one."""
    stage.publish(b"0")
    stage.publish(b"1")
    stage.publish(b"large")
    stage.publish(b"3")
    stage.port.too_large = b"large"
    for _ in range(3):
        stage.process()
    assert stage.ends == {1: "stored", 2: "stored", 3: "too_large", 4: "stored"}


@pytest.mark.parametrize(
    "limits", [LaneLimits(publications=4), LaneLimits(size=40)], ids=["publications", "bytes"]
)
def test_a_new_lane_is_refused_what_there_is_no_room_for(limits: LaneLimits) -> None:
    """One publication of a new lane, too; when the others are settled there is room again."""
    stage = Stage(limits)
    for owner in (1, 2, 3):
        stage.publish(b"x" * 10, owner=owner)
    assert stage.ends == {3: "full"}
    assert (len(stage.lanes), stage.lanes.flying, stage.lanes.room.publications, stage.lanes.room.size) == (
        2,
        2,
        2,
        20,
    )
    stage.take(stage.lanes.answered(stage.flights[0], Verdict.STORED))
    stage.publish(b"x" * 10, owner=3)
    assert stage.ends == {3: "full", 1: "stored"}
    assert (len(stage.lanes), stage.lanes.room.publications, stage.lanes.room.size) == (2, 2, 20)
