"""All edges as a replica knows them: their lives, leases, and what they announced in the partitions that it serves. Pure.

Times are monotonic seconds. A lease is an edge's, not a member's: an edge that was not heard of for LEASE is gone with all
that it announced. When leases do not end, since the replica itself did not hear, is the replica's to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final, Protocol

from tidewire.kernel.presence_wire import LEASE, Bye, Chunk, Delta, Heartbeat
from tidewire.presence.content import Content, People
from tidewire.presence.follower import Follower, Losses
from tidewire.presence.life import Life

MOST_EDGES: Final = 10_000
RETURNING: Final = 60.0
"""Seconds in which an edge that is back has sent its snapshots."""
FULL_AGAIN: Final = 0.9
"""The part of `most_entries` below which a replica that was full takes more again."""


class Listener(Protocol):
    """Hears what becomes of lives, and what their partitions tell."""

    def ended(self, life: Life, cause: str) -> None:
        """A life is over: bye, lease, or successor (a later life of the same edge). It holds what it announced."""

    def returned(self, life: Life) -> None:
        """A life goes on that was taken for over."""

    def occupied(self, partition: int, channel: str) -> None:
        """One more edge has subscribers of a channel."""

    def vacated(self, partition: int, channel: str) -> None:
        """One fewer has."""

    def user_gone(self, user: str, at_ms: int) -> None:
        """A user's connection is gone; 0: it is not known when."""

    def collided(self, edge: str) -> None:
        """Two edges that live have the same name."""


class _Notices:
    """Implements `content.Notices` for a partition."""

    __slots__ = ("_listener", "_partition")

    def __init__(self, listener: Listener, partition: int) -> None:
        self._listener = listener
        self._partition = partition

    def occupied(self, channel: str) -> None:
        self._listener.occupied(self._partition, channel)

    def vacated(self, channel: str) -> None:
        self._listener.vacated(self._partition, channel)

    def user_gone(self, user: str, at_ms: int) -> None:
        self._listener.user_gone(user, at_ms)


class Mesh:
    """Everything that edges announced."""

    def __init__(
        self, partitions: Collection[int], listener: Listener, losses: Losses, most_entries: int
    ) -> None:
        self.partitions = frozenset(partitions)
        self.lives: dict[str, Life] = {}
        """By edge."""
        self.full = False
        self.most_entries = most_entries
        self.entries = 0
        self.unheard = 0
        """Messages of lives that are over, and of edges beyond MOST_EDGES."""
        self._listener = listener
        self._losses = losses
        self._notices = {partition: _Notices(listener, partition) for partition in self.partitions}
        self._over: dict[str, tuple[int, float]] = {}
        """Incarnations that said Bye, and until when what is still on its way of them is passed over; MOST_EDGES at most."""
        self._lapsed: dict[str, int] = {}
        """Incarnations that ended without it, whose members' leaves were told; the oldest go where there are MOST_EDGES."""

    # what is heard

    def delta(self, edge: str, partition: int, delta: Delta, now: float) -> None:
        """Take changes of an edge."""
        life = self._life(edge, delta.incarnation, now)
        if life is not None and partition in self.partitions:
            life.follower(partition).delta(delta.first, delta.changes)

    def heartbeat(self, edge: str, heartbeat: Heartbeat, now: float) -> None:
        """Take a sign of life."""
        life = self._life(edge, heartbeat.incarnation, now)
        if life is not None:
            life.beat(heartbeat, self.partitions.__contains__)

    def disagreed(self, edge: str, incarnation: int, now: float) -> None:
        """Take a sign of life that says nothing of what the edge has."""
        life = self._life(edge, incarnation, now)
        if life is not None:
            life.doubt()

    def bye(self, edge: str, bye: Bye, now: float) -> None:
        """Take the end of a life."""
        life = self.lives.get(edge)
        if life is not None and life.incarnation > bye.incarnation:
            return
        if edge in self._over or len(self._over) < MOST_EDGES:
            self._over[edge] = (bye.incarnation, now + LEASE)
        if life is not None:
            self._end(life, "bye" if life.incarnation == bye.incarnation else "successor")

    def chunk(self, life: Life, chunk: Chunk, now: float) -> bool:
        """Take a part of a snapshot that was asked for; return whether it is over with it."""
        life.heard = now
        return life.followers[chunk.partition].chunk(chunk)

    # time

    def expire(self, now: float, lease: float = LEASE) -> None:
        """End the lives that were not heard of."""
        for life in [life for life in self.lives.values() if now - life.heard > lease]:
            self._end(life, "lease")
        for edge in [edge for edge, (_, until) in self._over.items() if until < now]:
            del self._over[edge]

    def doubt(self) -> None:
        """Something may have been missed of every edge."""
        for life in self.lives.values():
            life.doubt()

    def measure(self) -> None:
        """Count the entries, and say whether there is room for more."""
        self.entries = sum(
            follower.size for life in self.lives.values() for follower in life.followers.values()
        )
        limit = self.most_entries * (FULL_AGAIN if self.full else 1)
        self.full = self.entries >= limit

    def counts(self) -> dict[str, int]:
        """Return how many entries of each kind there are."""
        held = [each.content for life in self.lives.values() for each in life.followers.values()]
        return {
            "members": sum(content.members for content in held),
            "connections": sum(content.connections for content in held),
            "channels": sum(content.channels for content in held),
        }

    # what is known

    def is_whole(self, partition: int) -> bool:
        """Return whether all that living edges announced in a partition is here."""
        for life in self.lives.values():
            if life.doubted:
                return False
            follower = life.followers.get(partition)
            if follower is not None and not follower.synced:
                return False
        return True

    def contents(self, partition: int) -> Iterator[tuple[Life, Content]]:
        """Yield what each life has announced in a partition."""
        for life in self.lives.values():
            follower = life.followers.get(partition)
            if follower is not None:
                yield life, follower.content

    def has(self, edge: str, partition: int, channel: str, client: str) -> bool:
        """Return whether a connection of an edge is a member of a channel. It never is one of another edge's."""
        life = self.lives.get(edge)
        follower = None if life is None else life.followers.get(partition)
        return follower is not None and follower.content.has(channel, client)

    def is_returning(self, edge: str, incarnation: int) -> bool:
        """Return whether a life goes on that was taken for over, and is not whole yet."""
        life = self.lives.get(edge)
        return life is not None and life.incarnation == incarnation and not life.is_whole

    def _life(self, edge: str, incarnation: int, now: float) -> Life | None:
        """Return the life that speaks, which may be news; None where it is over."""
        life = self.lives.get(edge)
        if life is not None and life.incarnation == incarnation:
            life.heard = now
            return life
        newest_over, _ = self._over.get(edge, (-1, 0.0))
        is_old = incarnation <= newest_over or (life is not None and incarnation < life.incarnation)
        if is_old or (life is None and len(self.lives) >= MOST_EDGES):
            self.unheard += 1
            if life is not None and life.has_rival(now):
                self._listener.collided(edge)
            return None
        if life is not None:
            self._end(life, "successor")
        life = self.lives[edge] = Life(edge, incarnation, now, self._follower)
        if incarnation <= self._lapsed.pop(edge, -1):
            life.returned_until = now + RETURNING
            self._listener.returned(life)
        return life

    def _follower(self, people: People, partition: int) -> Follower:
        return Follower(people, self._notices[partition], self, self._losses)

    def _end(self, life: Life, cause: str) -> None:
        del self.lives[life.edge]
        if cause != "bye":
            self._lapsed.pop(life.edge, None)
            self._lapsed[life.edge] = life.incarnation
            if len(self._lapsed) > MOST_EDGES:
                del self._lapsed[next(iter(self._lapsed))]
        for follower in life.followers.values():
            follower.ask = None
            follower.content.end()
        self._listener.ended(life, cause)
