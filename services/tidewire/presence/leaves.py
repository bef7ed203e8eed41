"""Leaves of members whose edge is gone without a word, until some replica has published them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from tidewire.kernel.presence_wire import HEARTBEAT, LEASE, Event
from tidewire.presence.compact import values
from tidewire.presence.content import Content, Member
from tidewire.presence.life import Life
from tidewire.presence.peers import Rank, Swept

SUCCESSOR_TIME: Final = HEARTBEAT
"""Seconds that the next life of an edge has to say whom it has, before the members of the last one leave. It has less where the
lease would end before: nobody leaves later because another life has begun."""
MOST_LEAVES: Final = 2_000_000
"""Members that may wait; of edges beyond, no leaves are published."""

Told = Callable[[str], bool]
"""Whether joins and leaves of a channel are told, where a member's token does not say it."""
Back = Callable[[str, int, str, str], bool]
"""Whether an edge (the first argument) lives after all, and its connection (the last) is a member of a channel of a partition."""
Returning = Callable[[str, int], bool]
"""Whether a life of an edge goes on after all, and whom it has is about to be learned."""


class Leave(NamedTuple):
    """One leave to publish."""

    partition: int
    channel: str
    event: Event


class _Sweep:
    """The members of one life in one partition; `rest` is where the publishing stands."""

    __slots__ = ("count", "held", "key", "rest", "since")

    def __init__(self, key: Swept, since: float, count: int, rest: Iterator[Leave]) -> None:
        self.key = key
        self.since = since
        self.count = count
        self.rest = rest
        self.held: Leave | None = None
        """The one that could not be sent."""


class Leaves:
    """All that are to be published, by this replica or another one."""

    def __init__(self, told: Told, back: Back, returning: Returning) -> None:
        self._told = told
        self._back = back
        self._returning = returning
        self._sweeps: dict[Swept, _Sweep] = {}
        self.waiting = 0
        """Members that wait."""

    def add(self, life: Life, now: float, *, has_successor: bool) -> int:
        """Take the members of a life that is over; return how many were too many."""
        since = max(now, min(now + SUCCESSOR_TIME, life.heard + LEASE)) if has_successor else now
        lost = 0
        for partition, follower in life.followers.items():
            content = follower.content
            if not content.members or partition in life.swept:
                continue
            if self.waiting + content.members > MOST_LEAVES:
                lost += content.members
                continue
            key = (life.edge, life.incarnation, partition)
            self._sweeps[key] = _Sweep(
                key, since, content.members, self._leaves(life.edge, partition, content)
            )
            self.waiting += content.members
        return lost

    def swept(self, key: Swept) -> None:
        """Another replica has published them."""
        sweep = self._sweeps.pop(key, None)
        if sweep is not None:
            self.waiting -= sweep.count

    def publish(
        self, now: float, rank: Rank, most: int, send: Callable[[Leave], bool]
    ) -> tuple[int, list[Swept]]:
        """Send up to `most` of those whose turn it is; `send` says False where no more can be sent now.

        Returns how many were sent, and what is done with.
        """
        sent = 0
        done: list[Swept] = []
        for sweep in list(self._sweeps.values()):
            edge, incarnation, partition = sweep.key
            if sweep.since + rank(partition) * LEASE > now or self._returning(edge, incarnation):
                continue
            while sent < most and (leave := sweep.held or next(sweep.rest, None)) is not None:
                if not send(leave):
                    sweep.held = leave
                    return sent, done
                sweep.held = None
                sent += 1
            if sent >= most:
                break
            self.swept(sweep.key)
            done.append(sweep.key)
        return sent, done

    def _leaves(self, edge: str, partition: int, content: Content) -> Iterator[Leave]:
        for channel, room in content.rooms.items():
            told = self._told(channel)
            for member in values(room.members):
                is_told = told if member.told is None else member.told
                if is_told and not self._back(edge, partition, channel, member.person.client):
                    yield Leave(partition, channel, _event(member))


def _event(member: Member) -> Event:
    person = member.person
    return Event(1, "leave", person.client, person.user, person.info or b"", member.chan_info)
