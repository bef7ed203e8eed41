"""Which edges are asked for snapshots of which partitions, and when. Pure.

Snapshots that are on their way at once are bounded by what edges say they hold, since nats-server ends a connection for
which too much waits. Who does not answer is asked again, after a pause that grows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from tidewire.kernel.presence_wire import Chunk
from tidewire.presence.follower import Losses
from tidewire.presence.life import Life

MOST_ENTRIES: Final = 100_000
"""Entries of snapshots that are on their way; one partition may have more."""
PATIENCE: Final = 2.0
"""Seconds of silence after which a question is given up."""
PAUSE: Final = 1.0
"""Seconds before an edge that did not answer is asked again, doubled each time up to LONGEST_PAUSE."""
LONGEST_PAUSE: Final = 8.0


class Question(NamedTuple):
    """What to ask an edge."""

    edge: str
    number: int
    partitions: tuple[int, ...]
    returned: bool = False
    """Whether the edge was taken for dead."""


class _Flight:
    """A question that is being answered; `open` are the partitions that are not over, each with its weight."""

    __slots__ = ("heard", "life", "open")

    def __init__(self, life: Life, weights: dict[int, int], now: float) -> None:
        self.life = life
        self.open = weights
        self.heard = now


class Asks:
    """All questions; times are monotonic seconds."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._flights: dict[int, _Flight] = {}
        self._number = 0

    @property
    def under_way(self) -> int:
        """How many snapshots are on their way."""
        return sum(len(flight.open) for flight in self._flights.values())

    def find(self, number: int, chunk: Chunk, now: float) -> Life | None:
        """Return the life that a chunk is an answer of; None: nobody asked."""
        flight = self._flights.get(number)
        if flight is None or chunk.partition not in flight.open:
            return None
        if (flight.life.edge, flight.life.incarnation) != (chunk.edge, chunk.incarnation):
            return None
        if flight.life.followers[chunk.partition].ask != number:
            return None
        flight.heard = now
        return flight.life

    def over(self, number: int, partition: int) -> None:
        """A snapshot is complete, or of no use."""
        flight = self._flights[number]
        del flight.open[partition]
        flight.life.pause = 0.0
        if not flight.open:
            del self._flights[number]

    def give_up(self, now: float) -> None:
        """End what is not answered."""
        for number, flight in list(self._flights.items()):
            waiting = [p for p in flight.open if flight.life.followers[p].ask == number]
            silent = now - flight.heard > PATIENCE
            if waiting and not silent:
                continue
            del self._flights[number]
            for partition in waiting:
                flight.life.followers[partition].lack("silence")
            if waiting:
                life = flight.life
                life.pause = min(2 * life.pause or PAUSE, LONGEST_PAUSE)
                life.not_before = now + life.pause

    def forget(self) -> None:
        """NATS was away: no answer is to come."""
        for number, flight in self._flights.items():
            for partition in flight.open:
                follower = flight.life.followers[partition]
                if follower.ask == number:
                    follower.lack("silence")
        self._flights.clear()

    def due(self, lives: Iterable[Life], now: float) -> list[Question]:
        """Return what to ask now; it counts as asked."""
        free = MOST_ENTRIES - sum(sum(flight.open.values()) for flight in self._flights.values())
        questions = []
        for life in lives:
            if free <= 0:
                break
            if life.not_before > now:
                continue
            wanted: dict[int, int] = {}
            for partition, follower in life.followers.items():
                if follower.is_lacking and follower.ask is None and free > 0:
                    wanted[partition] = follower.weight
                    free -= follower.weight
            if wanted:
                questions.append(self._ask(life, wanted, now))
        return questions

    def _ask(self, life: Life, wanted: dict[int, int], now: float) -> Question:
        self._number += 1
        for partition in wanted:
            life.followers[partition].ask = self._number
        self._flights[self._number] = _Flight(life, wanted, now)
        return Question(life.edge, self._number, tuple(wanted), now < life.returned_until)
