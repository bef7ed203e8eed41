"""Which channels have subscribers anywhere in the mesh, and which changes of that are to be told. Pure.

A change is told when it has held for SETTLE, so that the last subscriber's way from one edge to another is none.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final, NamedTuple

from tidewire.kernel.presence_wire import LEASE
from tidewire.presence.peers import Rank

SETTLE: Final = 1.0
MOST_UNSETTLED: Final = 1_000_000
"""Changes that may wait to be told; further ones are not told."""
LOOKED_AT: Final = 4
"""Changes that are looked at for one that may be told: the others wait for another replica to tell them."""


class Turn(NamedTuple):
    """A channel that is to be called occupied, or vacated."""

    partition: int
    channel: str
    occupied: bool


class _Unsettled(NamedTuple):
    """What was told last (or was so before there was anybody to tell), and when the change is to be told."""

    before: bool
    due: float


class Occupancy:
    """The channels of all partitions, each with the number of edges that have subscribers of it."""

    def __init__(self) -> None:
        self.edges: dict[str, int] = {}
        self.untold = 0
        """Changes beyond MOST_UNSETTLED."""
        self._unsettled: dict[tuple[int, str], _Unsettled] = {}

    def change(self, partition: int, channel: str, step: int, now: float, *, tell: bool) -> None:
        """One edge more (1) or fewer (-1) has subscribers of a channel."""
        count = self.edges.get(channel, 0)
        after = count + step
        if after > 0:
            self.edges[channel] = after
        else:
            self.edges.pop(channel, None)
        if not tell or (count > 0) == (after > 0) or (partition, channel) in self._unsettled:
            return
        if len(self._unsettled) >= MOST_UNSETTLED:
            self.untold += 1
            return
        self._unsettled[partition, channel] = _Unsettled(count > 0, now + SETTLE)

    def told(self, turn: Turn) -> None:
        """Another replica has told a change."""
        waiting = self._unsettled.get((turn.partition, turn.channel))
        if waiting is not None and turn.occupied != waiting.before:
            del self._unsettled[turn.partition, turn.channel]
            if turn.occupied != (turn.channel in self.edges):
                self._unsettled[turn.partition, turn.channel] = _Unsettled(turn.occupied, waiting.due)

    def publish(self, now: float, rank: Rank, most: int, send: Callable[[Turn], bool]) -> int:
        """Send up to `most` changes whose turn it is, until `send` says False; return how many were sent."""
        sent = 0
        for (partition, channel), (before, due) in list(islice(self._unsettled.items(), LOOKED_AT * most)):
            if sent >= most or due > now:
                break
            occupied = channel in self.edges
            if occupied != before:
                if due + rank(partition) * LEASE > now:
                    continue
                if not send(Turn(partition, channel, occupied)):
                    break
                sent += 1
            del self._unsettled[partition, channel]
        return sent
