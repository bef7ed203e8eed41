"""Joins and leaves: this edge's own go out to all edges, and all edges' go to those subscribers here who want them.

A channel's are heard from NATS while somebody here wants them, and for a linger after that. They are encoded once for each
format. What one client does within a batch and undoes is never told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from tidewire.edge.announcer import BATCH
from tidewire.edge.debounce import Debounce
from tidewire.edge.presence_command import client_info
from tidewire.edge.wire.replies import Attendee, Push, Reply
from tidewire.kernel.presence_wire import LEASE
from tidewire.kernel.wheel import Wheel

if TYPE_CHECKING:
    from tidewire.edge.connection import Connection
    from tidewire.edge.framing import Framing
    from tidewire.edge.pacer import Later
    from tidewire.edge.presence_ports import PresenceMetrics, PresenceWire
    from tidewire.edge.wire.codec import Codec
    from tidewire.kernel.clock import Clock
    from tidewire.kernel.presence_wire import Event

MAX_PENDING: Final = 4096
"""Joins and leaves of this edge that wait for the end of their batch; with more they are told at once."""
MAX_REMEMBERED: Final = 10_000
"""Leaves that are remembered, since those of an edge that dies may come more than once."""
REPEATED_WITHIN: Final = 2 * LEASE
"""Seconds for which they are: the next replica tells them a lease later. A client whose join is not heard leaves anew."""
MAX_HELD: Final = 100_000
"""Leaves that are held back, over all channels; with more they are told at once."""
LINGER_TICKS: Final = 100
"""Ticks that a channel is heard without a listener."""
MAX_LINGERING: Final = 10_000


class Room:
    """A channel whose joins and leaves are heard here."""

    __slots__ = ("debounce", "handle", "linger_due", "members", "name", "pending")

    def __init__(self, name: str) -> None:
        self.name = name
        self.handle = 0
        self.linger_due = 0
        self.members: dict[Framing, dict[Connection, None]] = {}
        self.pending: list[Event] = []
        """What is written at the end of this turn."""
        self.debounce: Debounce | None = None


class Lobby:
    """All rooms of an edge, and what it tells itself.

    `hold` says how many seconds leaves of a channel are held back; `is_here` whether a client of a user is in a channel on this edge.
    `slow` hears which connections could not keep up.
    """

    def __init__(
        self,
        wire: PresenceWire,
        hold: Callable[[str], float],
        is_here: Callable[[str, str, str], bool],
        slow: Callable[[Connection], None],
        clock: Clock,
        later: Later,
        metrics: PresenceMetrics,
    ) -> None:
        self.rooms: dict[str, Room] = {}
        self._wire = wire
        self._hold = hold
        self._is_here = is_here
        self._slow = slow
        self._clock = clock
        self._later = later
        self._metrics = metrics
        self._lingering: Wheel[Room] = Wheel()
        self._own: dict[tuple[str, str], Event] = {}
        self._flush_is_due = False
        self._dirty: dict[Room, None] = {}
        self._gone = _Remembered()
        """Leaves that were heard."""
        self._said = _Remembered()
        """Leaves that this edge has told, and not heard itself yet."""
        self._held = 0
        self._holding: dict[Room, None] = {}

    # What happens here.

    def tell(self, channel: str, event: Event) -> None:
        """Tell all edges of a join or leave here, unless its opposite waits to be told: then neither is."""
        key = channel, event.client
        if self._own.pop(key, None) is not None:
            self._metrics.event_told("undone")
            return
        self._own[key] = event
        if len(self._own) >= MAX_PENDING:
            self.flush_own()
        elif not self._flush_is_due:
            self._flush_is_due = True
            self._later(BATCH, self._flush_when_due)

    def _flush_when_due(self) -> None:
        self._flush_is_due = False
        self.flush_own()

    def flush_own(self) -> None:
        """Tell what waits."""
        own, self._own = self._own, {}
        for key, event in own.items():
            taken = self._wire.tell(key[0], event)
            if taken and event.change == "leave" and key[0] in self.rooms:
                self._said.add(key, self._clock.monotonic())
            self._metrics.event_told(event.change if taken else "lost")

    def hear(self, connection: Connection, name: str) -> None:
        """Let a subscriber know of a channel's joins and leaves from now on."""
        room = self.rooms.get(name)
        if room is None:
            room = self.rooms[name] = Room(name)
            room.handle = self._wire.hear(name, lambda event: self._take(room, event))
        elif room.linger_due:
            self._lingering.discard(room, room.linger_due)
            room.linger_due = 0
        room.members.setdefault(connection.transport.framing, {})[connection] = None

    def unhear(self, connection: Connection, name: str) -> None:
        """Let it know of them no more."""
        room = self.rooms[name]
        group = room.members[connection.transport.framing]
        del group[connection]
        if group:
            return
        del room.members[connection.transport.framing]
        if room.members:
            return
        if len(self._lingering) >= MAX_LINGERING:
            self._close(room)
        else:
            room.linger_due = self._lingering.add(room, LINGER_TICKS)

    def _close(self, room: Room) -> None:
        del self.rooms[room.name]
        self._holding.pop(room, None)
        self._wire.unhear(room.handle)

    def forget(self) -> None:
        """NATS was away: joins may have gone by, so that leaves are news again."""
        self._gone.clear()
        self._said.clear()

    def tick(self) -> None:
        """Let `timers.TICK` seconds pass."""
        for room in self._lingering.advance():
            self._close(room)
        if self._holding:
            now = self._clock.monotonic()
            for room in list(self._holding):
                self._add(room, room.debounce.overdue(now) if room.debounce is not None else ())
                if room.debounce is None or not room.debounce.kept:
                    room.debounce = None
                    del self._holding[room]
            self._held = sum(room.debounce.kept for room in self._holding if room.debounce is not None)
            self.flush()

    # What is heard.

    def _take(self, room: Room, event: Event) -> None:
        heard, said = (room, event.client), (room.name, event.client)
        if event.change == "join":
            self._gone.pop(heard)
            self._add(room, (event,) if room.debounce is None else room.debounce.join(event))
            return
        now = self._clock.monotonic()
        own = self._said.has(said, now)
        self._said.pop(said)
        if self._gone.has(heard, now):
            self._metrics.event_heard("repeated")
        elif self._is_here(room.name, event.user, event.client):
            self._metrics.event_heard("wrong")
            if not own:  # this edge was taken for dead: those who have heard the leave hear that it is not
                self._wire.tell(room.name, msgspec.structs.replace(event, change="join"))
        else:
            self._gone.add(heard, now)
            self._add(room, self._leave(room, event))

    def _leave(self, room: Room, event: Event) -> Iterable[Event]:
        seconds = self._hold(room.name)
        if room.debounce is None:
            if not seconds:
                return (event,)
            room.debounce = Debounce()
            self._holding[room] = None
        if not seconds or self._held >= MAX_HELD:
            return room.debounce.leave(event, 0.0)
        self._held += 1
        return room.debounce.leave(event, self._clock.monotonic() + seconds)

    @property
    def held(self) -> int:
        """Leaves that are held back, or are owed with another one; as of the last tick, and all since."""
        return self._held

    def _add(self, room: Room, events: Iterable[Event]) -> None:
        room.pending += events
        if room.pending:
            self._dirty[room] = None

    def flush(self) -> None:
        """Write what has come."""
        if not self._dirty:
            return
        dirty, self._dirty = self._dirty, {}
        for room in dirty:
            events, room.pending = room.pending, []
            self._write(room, events)

    def _write(self, room: Room, events: list[Event]) -> None:
        replies = [_push(room.name, event) for event in events]
        encoded: dict[Codec, list[bytes]] = {}
        slow: list[Connection] = []
        deliveries = 0
        for framing, group in room.members.items():
            if framing.codec not in encoded:
                encoded[framing.codec] = [framing.codec.encode((reply,)) for reply in replies]
            frames = framing.joined(encoded[framing.codec])
            for connection in group:
                deliveries += len(events)
                if not all(connection.transport.send(frame) for frame in frames):
                    slow.append(connection)
        self._metrics.events_delivered(deliveries)
        for connection in slow:
            self._slow(connection)


_Key = tuple[Room, str] | tuple[str, str]


class _Remembered:
    """Leaves, by where and whose: for REPEATED_WITHIN, and MAX_REMEMBERED at most."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since: dict[_Key, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def add(self, key: _Key, now: float) -> None:
        self._since[key] = now
        if len(self._since) > MAX_REMEMBERED:
            self.pop(next(iter(self._since)))

    def has(self, key: _Key, now: float) -> bool:
        since = self._since.get(key)
        return since is not None and now - since < REPEATED_WITHIN

    def pop(self, key: _Key) -> None:
        self._since.pop(key, None)

    def clear(self) -> None:
        self._since.clear()


def _push(channel: str, event: Event) -> Reply:
    who = Attendee(info=client_info(event.client, event.user, event.conn_info, event.chan_info))
    if event.change == "join":
        return Reply(push=Push(channel=channel, join=who))
    return Reply(push=Push(channel=channel, leave=who))
