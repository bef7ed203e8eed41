"""Flights that wait for JetStream's answer or for another attempt, and when to look after them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tidewire.edge.pending import Flight

TELLING: Final = 0.0001
"""Seconds in which one client is told, with what others are given meanwhile."""
PAUSES: Final = (0.5, 1.0, 2.0)
"""Seconds before an attempt without an answer is repeated; the last one again and again."""
SHORT_PAUSES: Final = (0.1, 0.2, 0.4, 0.8, 1.0)
"""The same after an answer by which nothing was stored."""
RACE: Final = (0.1,)
"""The same where somebody else published between question and publication."""


class Air:
    """What is in the air. Most flights are answered before anybody looks: those cost one entry each, and no timer."""

    __slots__ = ("_answer_within", "_fresh", "_troubled")

    def __init__(self, answer_within: float) -> None:
        """Clients are answered within so many seconds."""
        self._answer_within = answer_within
        self._fresh: dict[Flight, None] = {}
        """First attempts, in the order in which they were sent."""
        self._troubled: dict[Flight, None] = {}

    def __len__(self) -> int:
        return len(self._fresh) + len(self._troubled)

    @property
    def patience(self) -> float:
        """Seconds that clients wait: the fewer, the more of them would have to be told at once when their time is over."""
        within = self._answer_within
        return max(within / 2, within - TELLING * len(self))

    def sent(self, flight: Flight, now: float) -> None:
        """An attempt is on its way."""
        flight.attempts = attempts = flight.attempts + 1
        flight.sent_at = now
        flight.due = due = now + (_pause(PAUSES, attempts) if attempts > 1 else PAUSES[0])
        soon = due >= flight.publications[0].started + self._answer_within
        if attempts > 1 or soon or flight in self._troubled:
            self._watch(flight)
        else:
            self._fresh[flight] = None

    def sent_first(self, flights: Sequence[Flight], now: float) -> None:
        """First attempts of one publication each are on their way, all at this moment."""
        due = now + PAUSES[0]
        late = due - self._answer_within
        for flight in flights:
            publication = flight.publications[0]
            flight.heard = False
            flight.attempts = 1
            flight.sent_at = publication.sent_at = now
            flight.due = due
            (self._troubled if publication.started <= late else self._fresh)[flight] = None

    def rest(self, flight: Flight, now: float, pauses: Sequence[float] = SHORT_PAUSES) -> None:
        """Nothing is on its way: the next attempt comes after a pause."""
        flight.due = now + _pause(pauses, flight.attempts)
        self._watch(flight)

    def landed(self, flight: Flight) -> None:
        """It needs no looking after."""
        if self._fresh.pop(flight, self) is self:
            self._troubled.pop(flight, None)

    def restless(self, now: float) -> list[Flight]:
        """Return those that need a look: all but the first attempts that are not due."""
        for flight in list(takewhile(lambda each: each.due <= now, self._fresh)):
            self._watch(flight)
        return list(self._troubled)

    def _watch(self, flight: Flight) -> None:
        self._fresh.pop(flight, None)
        self._troubled[flight] = None


def _pause(pauses: Sequence[float], attempts: int) -> float:
    """Return the pause after so many attempts; there is one before the first where that could not go out."""
    return pauses[min(max(attempts, 1), len(pauses)) - 1]
