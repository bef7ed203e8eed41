"""The order of one connection's publications on a channel with history: one flight in the air, the rest waits. Pure.

Why: JetStream may store what is sent later, though it never stored what was sent before (its leader died in between), so
with two in the air an acknowledged publication could come behind a later one. What waits goes out together, as an atomic
batch. An error is never taken for an acknowledgement: where a batch is refused, for whatever reason, its publications go
one by one, with the ids that they had, and each is answered for itself.

A flight without an answer is repeated with the same ids while JetStream remembers ids for certain. Its client is told in
time that nobody knows; until it is known, the lane takes nothing more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from tidewire.edge import pending
from tidewire.edge.air import RACE, SHORT_PAUSES, Air
from tidewire.edge.lane import MAX_SETBACKS, Lane, LaneLimits, Run, Settled
from tidewire.edge.pending import ACKNOWLEDGED, Flight, Verdict
from tidewire.edge.room import Room

if TYPE_CHECKING:
    from tidewire.edge.pending import Last, Pending, Place, Result
    from tidewire.edge.ports import StreamMetrics, StreamPort


class Lanes:
    """All lanes of an edge. What is settled is returned; `owner` is never looked into."""

    def __init__(
        self, port: StreamPort, limits: LaneLimits, monotonic: Callable[[], float], metrics: StreamMetrics
    ) -> None:
        self.limits = limits
        self._port = port
        self._monotonic = monotonic
        self._metrics = metrics
        self._lanes: dict[tuple[Hashable, str], Lane] = {}
        self._air = Air(limits.answer_within)
        self.room = Room(limits.publications, limits.size)

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def flying(self) -> int:
        """Flights that wait for their answer, or for another attempt."""
        return len(self._air)

    # From clients.

    def add_all(self, owner: Hashable, runs: Sequence[Run]) -> list[Settled]:
        """Take what came together, on many channels; as `add` would run by run, at less cost."""
        settled: list[Settled] = []
        flights: list[Flight] = []
        for channel, place, publications in runs:
            key, first = (owner, channel), publications[0]
            if len(publications) > 1 or first.demands is not None or key in self._lanes:
                settled += self.add(owner, channel, place, publications)
                continue
            # The ordinary case, in which nothing waits.
            share, size = self.room.shares[place.stream], first.size
            if not self.room.take(share, size):
                settled.append((owner, publications, pending.FULL))
                continue
            lane = self._lanes[key] = Lane(owner, channel, place, share, size=size)
            lane.flight = flight = Flight(lane, publications)
            flights.append(flight)
        return settled + self._fly_all(flights)

    def _fly_all(self, flights: Sequence[Flight]) -> list[Settled]:
        """Send first attempts together; where that cannot be, each by itself is told why."""
        if not flights or not self._port.send_all(flights):
            return [each for flight in flights for each in self._fly(flight)]
        self._air.sent_first(flights, self._monotonic())
        return []

    def add(self, owner: Hashable, channel: str, place: Place, publications: list[Pending]) -> list[Settled]:
        """Take publications in their order; what is settled at once is returned."""
        lane = self._lanes.get((owner, channel))
        if lane is None:
            share = self.room.shares[place.stream]
            lane = self._lanes[owner, channel] = Lane(owner, channel, place, share)
        elif lane.blocked:
            return [(lane.owner, publications, pending.BLOCKED)]
        taken = self._admit(lane, publications)
        settled = self._launch(lane) if lane.flight is None else []
        if taken < len(publications):
            settled.append((lane.owner, publications[taken:], pending.FULL))
        return settled

    def _admit(self, lane: Lane, publications: Sequence[Pending]) -> int:
        """Let publications wait, and return how many there is room for. An idle lane takes one of any size."""
        for index, each in enumerate(publications):
            size = each.size
            queued = lane.size + size
            if (queued > self.limits.queue_size and lane.size) or not self.room.take(lane.share, size):
                return index
            lane.waiting.append(each)
            lane.size = queued
        return len(publications)

    # From JetStream.

    def stored(self, flights: Sequence[Flight]) -> list[Settled]:
        """Take acknowledgements that came together, of flights that are in the air."""
        now = self._monotonic()
        settled: list[Settled] = []
        told: dict[Hashable, list[Pending]] = {}
        sent: list[float] = []
        for flight in flights:
            lane = flight.lane
            if lane.waiting or lane.blocked or len(flight.publications) > 1:
                settled += self._stored(flight)
                continue
            lane.flight = None
            self._air.landed(flight)
            owner = lane.owner
            del self._lanes[owner, lane.channel]
            self.room.give_back(lane.share, 1, lane.size)
            sent.append(flight.sent_at)
            if owner in told:
                told[owner] += flight.publications
            else:
                told[owner] = flight.publications[:]
        settled += [(owner, publications, pending.STORED) for owner, publications in told.items()]
        self._metrics.stored(len(sent))
        for sent_at, count in Counter(sent).items():
            self._metrics.acknowledged(now - sent_at, count)
        return settled

    def answered(self, flight: Flight, verdict: Verdict) -> list[Settled]:
        """Take the answer to what was published."""
        if verdict is ACKNOWLEDGED:
            return self._stored(flight)
        if len(flight.publications) > 1:
            return self._one_by_one(flight)
        if verdict is Verdict.DUPLICATE:
            return self._known(flight)
        return self._not_stored(flight, verdict)

    def found(self, flight: Flight, last: Last | None) -> list[Settled]:
        """Take the answer to what is held on the channel; None: it cannot be told at this moment."""
        if last is None:
            return self._rest(flight)
        first, demands = flight.first, flight.first.demands
        if last.id and last.id == first.id:  # an attempt without an answer has got there
            return self._known(flight)
        if (
            demands is not None
            and demands.version_epoch == last.version_epoch
            and last.version >= demands.version
        ):
            return self._end(flight, pending.DROPPED)
        first.expected = last.sequence
        self._air.landed(flight)
        flight.attempts = 0
        return self._fly(flight)

    def _stored(self, flight: Flight, result: Result = pending.STORED) -> list[Settled]:
        publications = len(flight.publications)
        self._metrics.acknowledged(self._monotonic() - flight.sent_at)
        self._metrics.stored(publications)
        if publications > 1:
            self._metrics.batch_stored()
        return self._end(flight, result)

    def _known(self, flight: Flight) -> list[Settled]:
        """Take that the id of a publication is there already."""
        first = flight.first
        if not (first.keyed or first.doubtful):
            return self._renew(flight)
        return self._stored(flight, pending.DUPLICATE if first.keyed else pending.STORED)

    def _renew(self, flight: Flight) -> list[Settled]:
        """Use another id: this one was made for the publication, and yet somebody else has used it before."""
        self._metrics.id_taken()
        first = flight.first
        first.setbacks += 1
        if first.setbacks > MAX_SETBACKS:
            return self._end(flight, pending.REFUSED)
        first.id = b""
        return self._fly(flight)

    def _not_stored(self, flight: Flight, verdict: Verdict) -> list[Settled]:
        first = flight.first
        if verdict is Verdict.REFUSED and not first.doubtful:
            return self._end(flight, pending.REFUSED)
        if verdict is Verdict.IN_PROCESS:
            first.doubtful = True
        if verdict is Verdict.OUTRUN:
            first.setbacks += 1
            first.expected = None
            if first.setbacks > MAX_SETBACKS:
                return self._end(flight, pending.UNCERTAIN if first.doubtful else pending.CONTENDED)
            return self._rest(flight, RACE)
        return self._rest(flight)

    def _one_by_one(self, flight: Flight) -> list[Settled]:
        """Send the publications of a batch each by itself: whether it is stored, each is told by its own id."""
        self._metrics.split()
        self._land(flight)
        for each in flight.publications:
            each.apart = True
            each.sent_at = flight.first.sent_at
        flight.lane.waiting[:0] = flight.publications
        return self._go_on(flight.lane)

    # In the air.

    def _go_on(self, lane: Lane) -> list[Settled]:
        """Send what waits next, but for what has waited too long."""
        return self._pass_over(lane) + self._launch(lane)

    def _launch(self, lane: Lane) -> list[Settled]:
        """Send what waits next on a lane whose air is free; a lane on which nothing waits is forgotten."""
        settled: list[Settled] = []
        while lane.waiting:
            flight = lane.flight = Flight(lane, lane.next_group(self.limits))
            problem = self._try(flight)
            if problem is None:
                return settled
            if problem is pending.TOO_LARGE and len(flight.publications) > 1:
                return settled + self._one_by_one(flight)
            self._land(flight)
            settled += self._settle(lane, flight.publications, problem)
        del self._lanes[lane.owner, lane.channel]
        return settled

    def _pass_over(self, lane: Lane) -> list[Settled]:
        """Leave out those whose clients could not be answered in time."""
        late = lane.take_late(self._monotonic() - self.limits.answer_within)
        return self._settle(lane, late, pending.LATE) if late else []

    def _try(self, flight: Flight) -> Result | None:
        """Send it. A result says that it is not in the air, and was never stored; one in doubt is tried again instead."""
        first = flight.publications[0]
        if first.demands is not None:
            flight.asks = first.versioned and first.expected is None
        problem = self._port.ask(flight) if flight.asks else self._port.send(flight)
        now = self._monotonic()
        if problem is None:
            flight.heard = False
            self._air.sent(flight, now)
            if not (first.sent_at or flight.asks):
                first.sent_at = now
            return None
        if first.doubtful:
            flight.heard = True
            self._air.rest(flight, now)
            return None
        return problem

    def _fly(self, flight: Flight) -> list[Settled]:
        """Send a flight again, or for the first time after its question was answered."""
        problem = self._try(flight)
        return [] if problem is None else self._end(flight, problem)

    def _rest(self, flight: Flight, pauses: Sequence[float] = SHORT_PAUSES) -> list[Settled]:
        flight.heard = True
        self._air.rest(flight, self._monotonic(), pauses)
        return []

    def _land(self, flight: Flight) -> None:
        flight.lane.flight = None
        self._air.landed(flight)
        self._port.forget(flight)

    # The end of publications.

    def _end(self, flight: Flight, result: Result) -> list[Settled]:
        """End a flight and send what comes next."""
        lane = flight.lane
        self._land(flight)
        settled = self._settle(lane, flight.publications, result)
        if lane.waiting:
            return settled + self._go_on(lane)
        del self._lanes[lane.owner, lane.channel]
        return settled

    def _settle(self, lane: Lane, publications: Sequence[Pending], result: Result) -> list[Settled]:
        """Let go of publications, and have those clients told that wait to hear it."""
        idle = lane.flight is None and not lane.waiting
        size = lane.size if idle else sum(each.size for each in publications)
        lane.size -= size
        self.room.give_back(lane.share, len(publications), size)
        late = sum(each.told for each in publications) if lane.blocked else 0
        if late:
            self._metrics.ended_late(result.outcome, late)
            publications = [each for each in publications if not each.told]
        return [(lane.owner, publications, result)] if publications else []

    # From the clock.

    def tick(self) -> list[Settled]:
        """Answer clients whose time is over, and repeat what is due."""
        now = self._monotonic()
        over = now - self._air.patience
        return [each for flight in self._air.restless(now) for each in self._look_after(flight, now, over)]

    def _look_after(self, flight: Flight, now: float, over: float) -> list[Settled]:
        first = flight.first
        if not first.told and first.started <= over:
            if not flight.doubtful:
                return self._end(flight, pending.UNREAD if flight.asks else pending.NOBODY)
            return self._block(flight)
        if first.sent_at and now >= first.sent_at + flight.lane.place.retry_for:
            return self._give_up(flight)
        return self._repeat(flight) if now >= flight.due else []

    def _block(self, flight: Flight) -> list[Settled]:
        """Tell the client that nobody knows; behind that, nothing may be sent before it is known."""
        lane = flight.lane
        unsent = lane.block()
        unknown = [*flight.publications, *lane.waiting]
        settled = [(lane.owner, unknown, pending.UNCERTAIN), *self._settle(lane, unsent, pending.BLOCKED)]
        for each in unknown:
            each.told = True
        return settled

    def _give_up(self, flight: Flight) -> list[Settled]:
        """Try no more, since JetStream may soon have forgotten the ids; its clients have been told. All of a batch is over."""
        lane = flight.lane
        self._land(flight)
        settled = self._settle(lane, [*flight.publications, *lane.waiting], pending.UNCERTAIN)
        lane.waiting.clear()
        return settled + self._go_on(lane)

    def _repeat(self, flight: Flight) -> list[Settled]:
        """Try again. What had no answer may have been stored, and may be stored yet."""
        if not (flight.heard or flight.asks):
            for each in flight.publications:
                each.doubtful = True
        self._metrics.repeated()
        if len(flight.publications) > 1:
            return self._one_by_one(flight)
        return self._fly(flight)
