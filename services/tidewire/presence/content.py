"""What one life of an edge has announced in one partition: members of channels, connections of users, occupied channels. Pure.

Most of a replica's memory is here. A connection's id, user and info are there once for all its channels on the edge
(`Person`), the structs are of no concern to the garbage collector, and small maps are tuples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

import msgspec

from tidewire.kernel.presence_wire import (
    Change,
    Connected,
    Disconnected,
    Joined,
    Left,
    Occupied,
    Vacated,
)
from tidewire.presence.compact import EMPTY, Compact, drop, get, keys, put, size, values


class Person(msgspec.Struct, gc=False):
    """A connection. `info` is None until a channel tells it; `uses` counts what refers to it."""

    client: str
    user: str
    info: bytes | None
    uses: int

    @property
    def person(self) -> Person:
        """Itself: a member without info of the channel's is no more than its connection."""
        return self

    @property
    def chan_info(self) -> bytes:
        """None of the channel's own."""
        return b""

    @property
    def told(self) -> None:
        """Whether its leave is told is the namespace's to say."""


class Guest(msgspec.Struct, gc=False, frozen=True):
    """A member with info for one channel."""

    person: Person
    chan_info: bytes

    @property
    def told(self) -> bool | None:
        """As of a Person."""
        return None


class Exempt(Guest, gc=False, frozen=True):
    """A member whose token says whether its leave is told."""

    told: bool


Member = Person | Guest
People = dict[str, Person]
"""The connections of one life of an edge by their ids."""


class Room(msgspec.Struct, gc=False):
    """A channel on an edge: its members by client id, and whether it has any subscriber there at all."""

    members: Compact = EMPTY
    occupied: bool = False


class Notices(Protocol):
    """Hears what others than the edge's own partition are concerned with."""

    def occupied(self, channel: str) -> None:
        """The edge has a subscriber of a channel, and had none."""

    def vacated(self, channel: str) -> None:
        """The edge has none any more."""

    def user_gone(self, user: str, at_ms: int) -> None:
        """One of a user's connections is gone; 0: it is not known when."""


class Silence:
    """Implements `Notices` for what is not in force yet."""

    def occupied(self, channel: str) -> None:
        """See Notices."""

    def vacated(self, channel: str) -> None:
        """See Notices."""

    def user_gone(self, user: str, at_ms: int) -> None:
        """See Notices."""


SILENCE: Final = Silence()


class Content:
    """The entries; each change says what is, so that applying one twice is applying it once."""

    __slots__ = ("channels", "connections", "members", "notices", "people", "rooms", "users")

    def __init__(self, people: People, notices: Notices) -> None:
        self.people = people
        self.notices = notices
        self.rooms: dict[str, Room] = {}
        self.users: dict[str, Compact] = {}
        """Connections of each user: since when, by client id."""
        self.members = self.connections = self.channels = 0
        """How many there are: members, connections of users, occupied channels."""

    def apply(self, changes: Iterable[Change]) -> None:
        """Take changes in their order."""
        for change in changes:
            _APPLY[type(change)](self, change)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Return members, connections of users and occupied channels, as an edge counts them."""
        return self.members, self.connections, self.channels

    def replace(self, old: Content) -> None:
        """Come into force instead of `old`, and tell what differs."""
        self.notices = notices = old.notices
        for channel, room in self.rooms.items():
            if room.occupied and not old.is_occupied(channel):
                notices.occupied(channel)
        for channel, room in old.rooms.items():
            if room.occupied and not self.is_occupied(channel):
                notices.vacated(channel)
        for user, connections in old.users.items():
            gone = set(keys(connections)).difference(keys(self.users.get(user, EMPTY)))
            if gone:
                notices.user_gone(user, 0)
        old.release()

    def release(self) -> None:
        """Let connections go that are used by nobody else; nothing is told."""
        for room in self.rooms.values():
            for member in values(room.members):
                self._leave(member.person)
        for connections in self.users.values():
            for client in keys(connections):
                self._leave(self.people.get(client))

    def end(self) -> None:
        """Tell that all is over; the entries stay, for whoever has something to say about them."""
        for channel, room in self.rooms.items():
            if room.occupied:
                self.notices.vacated(channel)
        for user in self.users:
            self.notices.user_gone(user, 0)

    def is_occupied(self, channel: str) -> bool:
        """Return whether the edge has a subscriber of a channel."""
        room = self.rooms.get(channel)
        return room is not None and room.occupied

    def has(self, channel: str, client: str) -> bool:
        """Return whether a connection is a member of a channel."""
        room = self.rooms.get(channel)
        return room is not None and get(room.members, client) is not None

    def members_of(self, channel: str) -> Compact:
        """Return the members of a channel by client id."""
        room = self.rooms.get(channel)
        return EMPTY if room is None else room.members

    # changes

    def _joined(self, change: Joined) -> None:
        room = self._room(change.channel)
        person = self._come(change.client, change.user, change.conn_info)
        member = _member(person, change)
        before = get(room.members, change.client)
        room.members = put(room.members, person.client, member)
        if before is None:
            self.members += 1
        else:
            self._leave(before.person)

    def _left(self, change: Left) -> None:
        room = self.rooms.get(change.channel)
        member = None if room is None else get(room.members, change.client)
        if room is None or member is None:
            return
        room.members = drop(room.members, change.client)
        self.members -= 1
        self._leave(member.person)
        self._tidy(change.channel, room)

    def _connected(self, change: Connected) -> None:
        known = self.users.get(change.user, EMPTY)
        if get(known, change.client) is not None:
            self.users[change.user] = put(known, change.client, change.since_ms)
            return
        person = self._come(change.client, change.user, None)
        self.users[person.user] = put(known, person.client, change.since_ms)
        self.connections += 1

    def _disconnected(self, change: Disconnected) -> None:
        known = self.users.get(change.user, EMPTY)
        if get(known, change.client) is None:
            return
        left = drop(known, change.client)
        if size(left):
            self.users[change.user] = left
        else:
            del self.users[change.user]
        self.connections -= 1
        self._leave(self.people.get(change.client))
        self.notices.user_gone(change.user, change.at_ms)

    def _occupied(self, change: Occupied) -> None:
        room = self._room(change.channel)
        if not room.occupied:
            room.occupied = True
            self.channels += 1
            self.notices.occupied(change.channel)

    def _vacated(self, change: Vacated) -> None:
        room = self.rooms.get(change.channel)
        if room is not None and room.occupied:
            room.occupied = False
            self.channels -= 1
            self._tidy(change.channel, room)
            self.notices.vacated(change.channel)

    # rooms and people

    def _room(self, channel: str) -> Room:
        room = self.rooms.get(channel)
        if room is None:
            room = self.rooms[channel] = Room()
        return room

    def _tidy(self, channel: str, room: Room) -> None:
        if not room.occupied and not room.members:
            del self.rooms[channel]

    def _come(self, client: str, user: str, info: bytes | None) -> Person:
        """Return the connection with one use more. What is told of it differently in another channel is kept apart."""
        person = self.people.get(client)
        if person is None:
            person = self.people[client] = Person(client, user, info, 0)
        elif person.user != user or (info is not None and person.info not in {None, info}):
            return Person(client, user, info, 1)
        if info is not None:
            person.info = info
        person.uses += 1
        return person

    def _leave(self, person: Person | None) -> None:
        if person is None:
            return
        person.uses -= 1
        if not person.uses and self.people.get(person.client) is person:
            del self.people[person.client]


def _member(person: Person, change: Joined) -> Member:
    if change.told is not None:
        return Exempt(person, change.chan_info, change.told)
    return Guest(person, change.chan_info) if change.chan_info else person


_APPLY: Final[dict[type, Callable[[Content, Change], None]]] = {
    Joined: Content._joined,  # type: ignore[dict-item] # noqa: SLF001 - each takes its own kind of change
    Left: Content._left,  # type: ignore[dict-item] # noqa: SLF001
    Connected: Content._connected,  # type: ignore[dict-item] # noqa: SLF001
    Disconnected: Content._disconnected,  # type: ignore[dict-item] # noqa: SLF001
    Occupied: Content._occupied,  # type: ignore[dict-item] # noqa: SLF001
    Vacated: Content._vacated,  # type: ignore[dict-item] # noqa: SLF001
}
