"""One life of an edge process, and what a replica knows of it. Pure."""

from __future__ import annotations

from collections.abc import Callable

from tidewire.kernel.presence_wire import HEARTBEAT, Heartbeat
from tidewire.presence.content import People
from tidewire.presence.follower import Follower


class Life:
    """An incarnation of an edge. `make` makes the follower of a partition."""

    __slots__ = (
        "_make",
        "doubted",
        "edge",
        "followers",
        "heard",
        "incarnation",
        "not_before",
        "pause",
        "people",
        "returned_until",
        "rival_since",
        "swept",
    )

    def __init__(
        self, edge: str, incarnation: int, now: float, make: Callable[[People, int], Follower]
    ) -> None:
        self.edge = edge
        self.incarnation = incarnation
        self.heard = now
        """When it last gave a sign of life."""
        self.doubted = True
        """Whether it may have said something in a partition of which nothing is known: until a heartbeat names them all."""
        self.not_before = 0.0
        self.pause = 0.0
        """When it may be asked for snapshots again, and the pause before that."""
        self.returned_until = 0.0
        """Until when its snapshots are asked for as those of an edge that was taken for dead."""
        self.rival_since: float | None = None
        """When a word of an earlier life was first heard beside it."""
        self.followers: dict[int, Follower] = {}
        self.people: People = {}
        self.swept: set[int] = set()
        """Partitions whose leaves were published by another replica, which took this life for dead."""
        self._make = make

    @property
    def is_whole(self) -> bool:
        """Whether all that it has announced is here."""
        return not self.doubted and all(follower.synced for follower in self.followers.values())

    def follower(self, partition: int) -> Follower:
        """Return the follower of a partition, made where there is none: it has said nothing there yet."""
        found = self.followers.get(partition)
        if found is None:
            found = self.followers[partition] = self._make(self.people, partition)
        return found

    def beat(self, heartbeat: Heartbeat, served: Callable[[int], bool]) -> None:
        """Compare all partitions with what a heartbeat says."""
        said = set()
        for state in heartbeat.partitions:
            if served(state.partition):
                said.add(state.partition)
                self.follower(state.partition).state(state)
        for partition, follower in self.followers.items():
            if partition not in said:
                follower.unsaid()
        self.doubted = False
        self.swept.clear()

    def has_rival(self, now: float) -> bool:
        """Take a word of an earlier life; return whether both live: this one has spoken since, and the other goes on.

        What was still on its way when this life began has come within HEARTBEAT, and who is dead does not speak between two
        words of a new life whose clock was set back.
        """
        if self.rival_since is None:
            self.rival_since = now
        return self.rival_since < self.heard and now - self.rival_since >= HEARTBEAT

    def doubt(self) -> None:
        """The replica may have missed something."""
        self.doubted = True
        for follower in self.followers.values():
            follower.doubt()
