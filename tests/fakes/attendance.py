"""Stand-ins for what presence on an edge asks of the world, and an edge's core with presence on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from tests.fakes.core import Client, Core, Turns
from tests.fakes.edge import NAMESPACES, OPEN
from tidewire.edge.announcer import Announcer
from tidewire.edge.lobby import Lobby
from tidewire.edge.presence import Presence, is_here
from tidewire.edge.presence_ports import PresenceAnswer, PresenceQuery
from tidewire.edge.snapshots import Snapshots
from tidewire.edge.timers import TICK
from tidewire.kernel.errors import ReplyError
from tidewire.kernel.presence_wire import Change, Chunk, Event, Joined, PartitionState

SEEN = {**OPEN, "presence": True, "allow_presence_for_subscriber": True}
ROOMS: list[dict[str, Any]] = [
    *NAMESPACES,
    {"name": "room", **SEEN, "join_leave": True},
    {"name": "loud", **SEEN, "join_leave": True, "force_push_join_leave": True},
    {"name": "calm", **SEEN, "join_leave": True, "join_leave_debounce": "1s"},
    {"name": "dull", **OPEN, "occupancy": False},
]
PARTITIONS = 4


class FakeWire:
    """Keeps what was announced and told; `away` makes it take nothing."""

    def __init__(self) -> None:
        self.away = False
        self.congested = False
        self.deltas: list[tuple[int, int, tuple[Change, ...]]] = []
        self.beats: list[tuple[PartitionState, ...]] = []
        self.byes: list[int] = []
        self.chunks: list[tuple[tuple[bytes, ...], Chunk]] = []
        self.told: list[tuple[str, Event]] = []
        self.heard: dict[int, tuple[str, Callable[[Event], None]]] = {}
        self.unheard: list[str] = []
        self.settling: list[Callable[[], None]] = []
        self.log: list[str] = []

    def delta(self, partition: int, incarnation: int, first: int, changes: Sequence[Change]) -> bool:
        if not self.away:
            self.deltas.append((partition, first, tuple(changes)))
            self.log.append("delta")
        return not self.away

    def heartbeat(self, incarnation: int, states: Sequence[PartitionState]) -> bool:
        if not self.away:
            self.beats.append(tuple(states))
            self.log.append("beat")
        return not self.away

    def bye(self, incarnation: int) -> bool:
        self.byes.append(incarnation)
        self.log.append("bye")
        return True

    def chunk(self, to: Collection[bytes], chunk: Chunk) -> bool:
        if not self.away:
            self.chunks.append((tuple(to), chunk))
        return not self.away

    def tell(self, channel: str, event: Event) -> bool:
        if not self.away:
            self.told.append((channel, event))
            self.log.append(event.change)
        return not self.away

    def hear(self, channel: str, take: Callable[[Event], None]) -> int:
        self.heard[len(self.heard) + 1] = channel, take
        return len(self.heard)

    def unhear(self, handle: int) -> None:
        self.unheard.append(self.heard[handle][0])

    def settle(self, done: Callable[[], None]) -> None:
        self.settling.append(done)

    @property
    def changes(self) -> list[Change]:
        """All that was announced."""
        return [change for _, _, changes in self.deltas for change in changes]


class FakeService:
    """A presence service whose answers the test gives."""

    def __init__(self) -> None:
        self.asked: list[tuple[PresenceQuery, Callable[[PresenceAnswer | ReplyError], None]]] = []

    def ask(self, query: PresenceQuery, done: Callable[[PresenceAnswer | ReplyError], None]) -> None:
        self.asked.append((query, done))

    def answer(self, answer: PresenceAnswer | ReplyError) -> PresenceQuery:
        """Answer the oldest question."""
        query, done = self.asked.pop(0)
        done(answer)
        return query


class PresentCore(Core):
    """A core with presence; what NATS brings is what was told, when the test says so."""

    def __init__(self, *, service: bool = True, **config: Any) -> None:
        target = {"presence": {"target": "ipv4:127.0.0.1:1"}} if service else {}
        rooms = ROOMS if service else [each | {"presence": False} for each in ROOMS]
        channel = {"namespaces": rooms, "without_namespace": OPEN}
        super().__init__(**{"channel": channel, **target, **config})
        self.wire = FakeWire()
        self.turns = Turns()
        self.service = FakeService()
        self.lobby = Lobby(
            self.wire,
            self.rules.leaves_held,
            lambda *who: is_here(self.dispatcher.users, *who),
            self.dispatcher.slow,
            self.clock,
            self.turns.later,
            self.metrics,
        )
        announcer = None
        if service:
            announcer = Announcer(
                self.wire, PARTITIONS, self.clock, self.turns.later, lambda: 0.5, self.metrics
            )
            self.announcer = announcer
            self.snapshots = Snapshots(
                "e1", PARTITIONS, announcer, self.hub.channels, self.wire, self.turns.later, self.metrics
            )
        self.presence = Presence(
            self.lobby, announcer, self.service if service else None, self.wire, self.metrics
        )
        self.dispatcher.attend_with(self.presence)

    def relay(self) -> None:
        """Let the batches end, and what was told be heard."""
        self.turns.turn()
        told, self.wire.told = self.wire.told, []
        for channel, event in told:
            self.hear_event(channel, event)

    def hear_event(self, channel: str, *events: Event) -> None:
        """Joins and leaves of one read, from wherever."""
        for event in events:
            for name, take in list(self.wire.heard.values()):
                if name == channel and name in self.lobby.rooms:
                    take(event)
        self.lobby.flush()

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            super().run(TICK)
            self.presence.tick()

    def join(self, channel: str, user: str = "alice", **claims: Any) -> Client:
        """A client that is subscribed to a channel, and asked for joins and leaves."""
        return self.let_in(self.client(user, **claims), channel, join_leave=True)

    def let_in(self, client: Client, channel: str, **fields: Any) -> Client:
        """Subscribe a client."""
        client.say({"id": 2, "subscribe": {"channel": channel, **fields}})
        if not client.transport.frames:
            self.broker.confirm(channel)
        assert client.heard() == [{"id": 2, "subscribe": {}}]
        return client


def pushed(client: Client) -> list[tuple[str, str]]:
    """Which joins and leaves a client was pushed since the last look."""
    return [
        (change, push[change]["info"]["client"])
        for push in (each["push"] for each in client.heard())
        for change in ("join", "leave")
        if change in push
    ]


def joined(channel: str, client: str = "c0", user: str = "alice") -> Joined:
    """A member without infos."""
    return Joined(channel, client, user)
