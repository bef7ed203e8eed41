"""What a replica needs of the world, and what it is told about itself. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol

from tidewire.kernel.presence_wire import ReplicaBeat
from tidewire.presence.asks import Question
from tidewire.presence.follower import Losses
from tidewire.presence.leaves import Leave
from tidewire.presence.occupancy import Turn


class Voice(Protocol):
    """What a replica says. False: it cannot be said now."""

    def hello(self) -> bool:
        """Ask all edges for a sign of life."""

    def ask(self, question: Question) -> bool:
        """Ask an edge for snapshots."""

    def leave(self, leave: Leave) -> bool:
        """Publish a leave."""

    def occupancy(self, turn: Turn) -> bool:
        """Publish that a channel is occupied, or vacated."""

    def beat(self, beat: ReplicaBeat) -> bool:
        """Tell the other replicas that this one lives."""


class Metrics(Losses, Protocol):
    """Hears what happens."""

    def ended(self, cause: str) -> None:
        """The life of an edge is over: bye, lease or successor."""

    def collided(self, edge: str) -> None:
        """Two edges that live have the same name; told of every word of the one that is not heard."""

    def asked(self, snapshots: int) -> None:
        """So many snapshots were asked for."""

    def left(self, count: int) -> None:
        """So many leaves were published."""

    def turned(self, count: int) -> None:
        """So many changes of occupancy were published."""

    def leaves_lost(self, count: int) -> None:
        """For so many members no leaves are published: too many wait."""

    def whole(self, seconds: float) -> None:
        """It holds all again, so many seconds after it began, or began anew."""


class Settings(NamedTuple):
    """What a replica is told about itself."""

    own: str
    """Its name among replicas, of which the lowest speaks first."""
    partitions: Collection[int]
    share: Collection[int]
    """The same as its peers are told: none is all."""
    most_entries: int
    most_seen: int
    listening: float
    """Seconds before the first answer."""
