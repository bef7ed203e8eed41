"""Lanes against a stream that does its worst: attempts and answers lost, late, doubled and overtaken, in any order."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.fakes.clock import ManualClock
from tests.fakes.edge import CountingMetrics
from tests.fakes.streams import PLACE, Attempt, ModelPort
from tidewire.edge import pending
from tidewire.edge.lane import LaneLimits, Settled
from tidewire.edge.lanes import Lanes
from tidewire.edge.pending import Demands, Flight, Pending, Verdict
from tidewire.edge.timers import TICK
from tidewire.edge.untraced import NO_SPAN

LIMITS = LaneLimits(answer_within=3.4, publications=30, size=2000, queue_size=400, batch=4, batch_size=150)
WINDOW = 30.0
CERTAINLY_NOT = {
    "nobody",
    "unread",
    "late",
    "refused",
    "blocked",
    "away",
    "full",
    "contended",
    "dropped",
    "too_large",
}
picks = st.integers(0, 1000)


class LanesAgainstTheWorst(RuleBasedStateMachine):
    """Some owners publish on few channels. What the network holds may come to the stream at any time within the window."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.port = ModelPort(self.clock)
        self.metrics: Any = CountingMetrics()
        self.lanes = Lanes(self.port, LIMITS, self.clock.monotonic, self.metrics)
        self.commands = 0
        self.untold: dict[int, Pending] = {}
        self.told: dict[int, str] = {}
        self.asked: dict[tuple[object, str], list[int]] = defaultdict(list)
        self.network: list[Attempt] = []
        self.answers: list[Attempt] = []
        self.acknowledged: list[Flight] = []
        """What was acknowledged within one read from NATS that has not ended."""

    # What happens.

    @rule(
        owner=st.integers(1, 2),
        channel=st.sampled_from("ab"),
        count=st.integers(1, 6),
        size=st.integers(1, 60),
    )
    def publish(self, owner: int, channel: str, count: int, size: int) -> None:
        """Publications of one read."""
        self._add(owner, (channel, [self._pending(b"x" * size) for _ in range(count)]))

    @rule(
        owner=st.integers(1, 2),
        channels=st.lists(st.sampled_from("abcd"), min_size=2, max_size=5),
        sizes=st.tuples(*[st.integers(1, 60)] * 5),
    )
    def publish_on_several(self, owner: int, channels: list[str], sizes: tuple[int, ...]) -> None:
        """Publications of one read, each on a channel of its own or on one that came before; some are too large."""
        data = [self.port.too_large if size == 60 else b"x" * size for size in sizes]
        self._add(
            owner,
            *[(channel, [self._pending(each)]) for channel, each in zip(channels, data, strict=False)],
        )

    @rule(owner=st.integers(1, 2), channel=st.sampled_from("ab"), key=st.sampled_from("kl"))
    def publish_with_key(self, owner: int, channel: str, key: str) -> None:
        """With an application's key, perhaps one that was used before."""
        publication = self._pending(b"x", Demands(idempotency_key=key))
        publication.id = f"{owner}{channel}{key}".encode()
        self._add(owner, (channel, [publication]))

    @rule(owner=st.integers(1, 2), channel=st.sampled_from("ab"), version=st.integers(1, 5))
    def publish_version(self, owner: int, channel: str, version: int) -> None:
        """With a version, perhaps one that is older than what is held."""
        self._add(owner, (channel, [self._pending(b"x", Demands(version=version))]))

    @rule(pick=picks)
    def process(self, pick: int) -> None:
        """An attempt gets to the stream."""
        if self.network:
            attempt = self.network.pop(pick % len(self.network))
            self.port.process(attempt)
            self.answers.append(attempt)

    @rule(pick=picks)
    def process_first(self, pick: int) -> None:
        """The usual case, so that runs get somewhere: the oldest one gets there, and its answer back."""
        if self.network:
            attempt = self.network.pop(0)
            self.port.process(attempt)
            self._answer(attempt)

    @rule(pick=picks)
    def lose(self, pick: int) -> None:
        """An attempt gets nowhere."""
        if self.network:
            self.network.pop(pick % len(self.network))

    @rule(pick=picks, verdict=st.sampled_from([Verdict.NOBODY, Verdict.REFUSED, Verdict.IN_PROCESS]))
    def refuse(self, pick: int, verdict: Verdict) -> None:
        """The stream, or nobody, answers an attempt without storing it."""
        if self.network:
            attempt = self.network.pop(pick % len(self.network))
            attempt.answer = (None,) if attempt.asks else verdict
            self.answers.append(attempt)

    @rule(pick=picks, again=st.booleans())
    def answer(self, pick: int, again: bool) -> None:
        """An answer comes, and perhaps once more later."""
        if self.answers:
            at = pick % len(self.answers)
            attempt = self.answers[at] if again else self.answers.pop(at)
            self._answer(attempt)

    @rule()
    def end_of_read(self) -> None:
        """All that NATS had sent is here."""
        acknowledged, self.acknowledged = self.acknowledged, []
        self._take(self.lanes.stored(acknowledged))

    @rule(pick=picks)
    def lose_answer(self, pick: int) -> None:
        """An answer gets nowhere."""
        if self.answers:
            self.answers.pop(pick % len(self.answers))

    @rule(away=st.booleans())
    def link(self, away: bool) -> None:
        """NATS goes, or comes back."""
        self.port.away = pending.AWAY if away else None

    @rule(ticks=st.integers(1, 15))
    def wait(self, ticks: int) -> None:
        """Time passes."""
        for _ in range(ticks):
            self._tick()
        now = self.clock.monotonic()
        self.network = [each for each in self.network if each.sent_at + WINDOW / 2 > now]

    # What must hold.

    @invariant()
    def everybody_is_answered_in_time(self) -> None:
        """By the first tick after the time is over."""
        late = self.clock.monotonic() - LIMITS.answer_within - TICK - 0.001
        assert [each.command for each in self.untold.values() if each.started < late] == []

    @invariant()
    def what_is_acknowledged_is_stored_once_and_in_order(self) -> None:
        """For each owner and channel; what may or may not be stored is at most stored once, the rest never."""
        for (_, channel), commands in self.asked.items():
            stored = [copy.publication.command for copy in self.port.stored.get(channel, ())]
            mine = [command for command in stored if command in set(commands)]
            assert len(set(mine)) == len(mine), "stored twice"
            acknowledged = [command for command in commands if self.told.get(command) == "stored"]
            assert [command for command in mine if self.told.get(command) == "stored"] == acknowledged
            never = {command for command in commands if self.told.get(command) in CERTAINLY_NOT}
            assert not never & set(mine), "stored though it was said not to be"

    @invariant()
    def versions_only_grow(self) -> None:
        """Where all have one."""
        for channel, copies in self.port.stored.items():
            held = 0
            for copy in copies:
                if copy.version:
                    assert copy.version > held or held == 0, channel
                held = copy.version

    @invariant()
    def bounds_are_kept(self) -> None:
        """And the sums are right."""
        held = list(self.lanes._lanes.values())
        counts = sum(
            len(lane.waiting) + len(lane.flight.publications if lane.flight else ()) for lane in held
        )
        assert self.lanes.room.publications == counts <= LIMITS.publications
        assert self.lanes.room.size == sum(lane.size for lane in held) <= LIMITS.size
        for share in self.lanes.room.shares.values():
            assert (share.publications, share.size) == (self.lanes.room.publications, self.lanes.room.size)
        for lane in held:
            inside = [*lane.waiting, *(lane.flight.publications if lane.flight else ())]
            assert lane.size == sum(each.size for each in inside)
        assert len(held) == self.lanes.flying

    def teardown(self) -> None:
        """With time, nothing is held any more, and everybody has an answer."""
        self.network.clear()
        self.answers.clear()
        for _ in range(200):
            self._tick()
        assert not self.untold
        assert (
            len(self.lanes) == self.lanes.room.publications == self.lanes.room.size == self.lanes.flying == 0
        )

    # How.

    def _pending(self, data: bytes, demands: Demands | None = None) -> Pending:
        self.commands += 1
        return Pending(self.commands, self.clock.monotonic(), "publish", NO_SPAN, data, b"f", demands)

    def _tick(self) -> None:
        self.clock.advance(TICK)
        self.end_of_read()
        self._take(self.lanes.tick())

    def _add(self, owner: int, *runs: tuple[str, list[Pending]]) -> None:
        for channel, publications in runs:
            for each in publications:
                self.untold[each.command] = each
                self.asked[owner, channel].append(each.command)
        self._take(self.lanes.add_all(owner, [(channel, PLACE, each) for channel, each in runs]))

    def _answer(self, attempt: Attempt) -> None:
        if not attempt.expected_by_lanes:
            return
        if attempt.asks:
            self.port.forget(attempt.flight)
            self._take(self.lanes.found(attempt.flight, attempt.answer[0]))
        elif attempt.answer is Verdict.STORED:
            self.port.forget(attempt.flight)
            self.acknowledged.append(attempt.flight)
        else:
            self._take(self.lanes.answered(attempt.flight, attempt.answer))

    def _take(self, settled: list[Settled]) -> None:
        for _, publications, result in settled:
            for each in publications:
                del self.untold[each.command]  # raises where one is told twice
                self.told[each.command] = result.outcome
        self.network += self.port.attempts
        self.port.attempts = []


LanesAgainstTheWorst.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLanes = LanesAgainstTheWorst.TestCase
