"""Members of conflating channels whose sockets are full: instead of everything they get the latest of what they missed.

An item without a key, or for which there is no room, is written to them as to everybody, and so waits in their outbox. The
others are kept once for all members of an audience that are behind, by key. When a socket takes bytes again, its outbox goes
out first and then what it missed, so of one key never an older item comes after a newer one; between keys, and between items
with and without one, no order is promised to who was behind.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from tidewire.edge.framing import MAX_JOINED, runs

if TYPE_CHECKING:
    from tidewire.edge.conflation import Key
    from tidewire.edge.connection import Connection
    from tidewire.edge.framing import Framing

    Keyed = tuple[Key | None, bytes]

MAX_KEPT = 64 * 1024 * 1024
"""Bytes that an edge keeps for all who are behind; what finds no room goes the ordinary way."""
MAX_OWED = 20_000
"""Keys that one connection may be owed when it took only a part of what it had missed; with more it is closed (3008)."""
ITEM_COST = 320
"""Bytes that an item takes besides its content and its key."""


class Written:
    """What a fan-out came to: deliveries, bytes over all connections, those with too much waiting, and what was kept."""

    __slots__ = ("deliveries", "size", "slow", "unkept", "withheld")

    def __init__(self) -> None:
        self.deliveries = 0
        self.size = 0
        self.slow: list[Connection] = []
        self.withheld = 0
        """Deliveries that were not made, since the member is behind."""
        self.unkept = 0
        """Items with a key that found no room."""

    def send(self, framing: Framing, group: Collection[Connection], items: Sequence[bytes]) -> None:
        """Write items to each of a group."""
        for frame in framing.joined(items) if items else ():
            self.slow += [connection for connection in group if not connection.transport.send(frame)]
            self.size += len(frame) * len(group)
        self.deliveries += len(items) * len(group)


class Straggler:
    """A member that is behind: it missed the items that are kept and numbered from `since` on, and is owed those of `owed`."""

    __slots__ = ("owed", "since")

    def __init__(self, since: int) -> None:
        self.since = since
        self.owed: dict[Key, None] = {}


class Stragglers:
    """All connections of an edge that are behind somewhere, with where that is."""

    __slots__ = ("_behind", "kept", "limit")

    def __init__(self, limit: int = MAX_KEPT) -> None:
        self.limit = limit
        self.kept = 0
        """Bytes that are kept."""
        self._behind: dict[Connection, dict[Missed, None]] = {}

    def __len__(self) -> int:
        """Return how many connections are behind."""
        return len(self._behind)

    def add(self, connection: Connection, missed: Missed) -> None:
        """Note that a connection is behind there."""
        self._behind.setdefault(connection, {})[missed] = None

    def discard(self, connection: Connection, missed: Missed) -> None:
        """Note that a connection is not behind there any more."""
        places = self._behind[connection]
        del places[missed]
        if not places:
            del self._behind[connection]

    def catch_up(self, connection: Connection) -> Written | None:
        """Write what a connection missed, as much as its socket takes; None where nothing is missed.

        Of several channels the one that was not finished comes last the next time.
        """
        if connection not in self._behind:
            return None
        written = Written()
        while (places := self._behind.get(connection)) and not connection.transport.congested:
            missed = next(iter(places))
            missed.catch_up(connection, written)
            if missed in places:
                places[missed] = places.pop(missed)
        if places and sum(missed.owed(connection) for missed in places) > MAX_OWED:
            written.slow.append(connection)
        return written


class Missed:
    """What members of one audience of a channel have missed who are behind."""

    __slots__ = ("_everywhere", "_framing", "_latest", "_max_keys", "_members", "_next", "_size")

    def __init__(self, framing: Framing, max_keys: int, everywhere: Stragglers) -> None:
        self._framing = framing
        self._max_keys = max_keys
        self._everywhere = everywhere
        self._members: dict[Connection, Straggler] = {}
        self._latest: dict[Key, tuple[int, bytes]] = {}
        """The latest item of each key with its number, oldest first; empty while nobody is behind."""
        self._size = 0
        self._next = 1

    def __contains__(self, connection: object) -> bool:
        """Return whether a connection is behind."""
        return connection in self._members

    def owed(self, connection: Connection) -> int:
        """Return how many keys a connection is owed that took a part already."""
        return len(self._members[connection].owed)

    def write(self, group: Collection[Connection], items: Sequence[Keyed], written: Written) -> None:
        """Write items to all of the audience who can take them, and keep them for the others."""
        framing = self._framing
        for run in runs([item for _, item in items]):
            written.send(framing, self._ready(group), [item for _, item in items[run]])
            if self._members:
                rest = [item for key, item in items[run] if key is None or not self._keep(key, item, written)]
                written.send(framing, self._members, rest)

    def catch_up(self, connection: Connection, written: Written, *, whole: bool = False) -> None:
        """Write what a connection missed, as much as its socket takes, or `whole`: what it does not take waits in its outbox."""
        straggler = self._members[connection]
        self._collect(straggler)
        while straggler.owed and (whole or not connection.transport.congested):
            written.send(self._framing, (connection,), self._next_run(straggler.owed))
        if not straggler.owed:
            self.forget(connection)

    def release(self, written: Written) -> None:
        """Write to everybody what they missed, since from now on nothing is kept."""
        for connection in list(self._members):
            self.catch_up(connection, written, whole=True)

    def forget(self, connection: Connection) -> None:
        """Let a connection be behind no more; one that is not is ignored."""
        if self._members.pop(connection, None) is None:
            return
        self._everywhere.discard(connection, self)
        if not self._members:
            self._latest.clear()
            self._everywhere.kept -= self._size
            self._size = 0

    def _ready(self, group: Collection[Connection]) -> Collection[Connection]:
        """Return who of a group can take more; from now on the others are behind."""
        for connection in [each for each in group if each.transport.congested]:
            if connection not in self._members:
                self._members[connection] = Straggler(self._next)
                self._everywhere.add(connection, self)
        return [each for each in group if each not in self._members] if self._members else group

    def _keep(self, key: Key, item: bytes, written: Written) -> bool:
        """Keep an item instead of the older one of its key; False, and neither is kept, where there is no room."""
        _, older = self._latest.pop(key, (0, None))
        if older is not None:
            self._count(-_cost(key, older))
        cost = _cost(key, item)
        if len(self._latest) >= self._max_keys or self._everywhere.kept + cost > self._everywhere.limit:
            written.unkept += 1
            return False
        self._count(cost)
        self._latest[key] = (self._next, item)
        self._next += 1
        written.withheld += len(self._members)
        return True

    def _count(self, size: int) -> None:
        self._size += size
        self._everywhere.kept += size

    def _collect(self, straggler: Straggler) -> None:
        """Let a straggler be owed all that it missed, oldest first, behind what it is owed already."""
        fresh: list[Key] = []
        for key, (number, _) in reversed(self._latest.items()):
            if number < straggler.since:
                break
            fresh.append(key)
        straggler.owed.update(dict.fromkeys(reversed(fresh)))
        straggler.since = self._next

    def _next_run(self, owed: dict[Key, None]) -> list[bytes]:
        """Take the items of a frame from what is owed. What was not kept is owed no more: a newer one went out."""
        items: list[bytes] = []
        size = 0
        taken: list[Key] = []
        for key in owed:
            _, item = self._latest.get(key, (0, b""))
            if items and size + len(item) > MAX_JOINED:
                break
            taken.append(key)
            if item:
                items.append(item)
                size += len(item) + 1
        for key in taken:
            del owed[key]
        return items


def _cost(key: Key, item: bytes) -> int:
    return ITEM_COST + len(key[0]) + len(key[1]) + len(item)
