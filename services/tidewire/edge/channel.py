"""A channel that this edge hears: its members, and what waits to be sent to them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, NamedTuple

from tidewire.edge.conflation import Batch, Conflated
from tidewire.edge.deltas import Basis

if TYPE_CHECKING:
    from tidewire.edge.conflation import Delivery
    from tidewire.edge.connection import Connection
    from tidewire.edge.deltas import Chain
    from tidewire.edge.framing import Framing
    from tidewire.edge.places import Place
    from tidewire.edge.policies.filters import TagsFilter
    from tidewire.edge.ports import Publication
    from tidewire.edge.queries import Key
    from tidewire.edge.stragglers import Missed
    from tidewire.edge.timeline import Timeline

    Collect = Callable[["Channel", Publication], None]
    Pending = list[Publication] | Batch | Conflated


class ChannelState(enum.Enum):
    """JOINING until the broker has confirmed the subscription, then LIVE."""

    JOINING = "joining"
    LIVE = "live"


class Audience(NamedTuple):
    """What members of a channel have in common who are sent the very same bytes."""

    framing: Framing
    compact: bool
    wanted: TagsFilter | None
    basis: Basis | None = None
    """What the next delta may be made of; None for who asked for none."""
    positioned: bool = False
    """Whether they were promised to miss nothing."""


class Pace:
    """What a channel of a batching or conflating namespace has beyond others. Times are monotonic seconds."""

    __slots__ = ("began", "delivery", "free_at", "missed", "queued")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.free_at = 0.0
        """When the next batch may go out."""
        self.began = 0.0
        """When the first publication of the batch came, 0 while none waits."""
        self.queued = False
        """Whether the channel waits for its time."""
        self.missed: dict[Audience, Missed] = {}
        """Of conflating channels: who cannot keep up, and with what."""

    def left(self, audience: Audience, connection: Connection, *, last: bool) -> None:
        """Forget what a member missed, and with the `last` one its audience."""
        missed = self.missed.get(audience)
        if missed is not None:
            missed.forget(connection)
            if last:
                del self.missed[audience]


class Channel:
    """The broker's sink for a channel. Its `id`, never used twice, may stand for its name."""

    __slots__ = (
        "_collect",
        "binary",
        "chain",
        "deltas",
        "handle",
        "held",
        "id",
        "linger_due",
        "members",
        "name",
        "pace",
        "pending",
        "state",
        "waiting",
    )

    def __init__(self, collect: Collect, name: str, number: int, *, binary: bool) -> None:
        self._collect = collect
        self.id = number
        self.name = name
        self.binary = binary
        self.deltas = False
        """Whether its namespace wants deltas of every publication."""
        self.chain: Chain | None = None
        """While there are members that asked for deltas."""
        self.state = ChannelState.JOINING
        self.handle = 0
        self.linger_due = 0
        self.members: dict[Audience, dict[Connection, None]] = {}
        self.waiting: dict[Connection, int | Place] = {}
        """Connections that have joined and not entered yet, with their attempt, or their place where they have a position."""
        self.pending: Pending = []
        self.held = 0
        """Bytes of that, as far as `Batches` has counted them."""
        self.pace: Pace | None = None

    @property
    def idle(self) -> bool:
        """Whether nobody here wants the channel."""
        return not self.members and not self.waiting

    @property
    def conflates(self) -> bool:
        """Whether members may be sent the latest publication of a key only."""
        return self.pace is not None and self.pace.delivery.conflate

    @property
    def size(self) -> int:
        """Bytes that wait for a batch."""
        return (
            0 if isinstance(self.pending, list) and not isinstance(self.pending, Batch) else self.pending.size
        )

    def receive(self, publication: Publication) -> None:
        """Take a publication from the broker; it goes out with the others of this turn, or of this batch."""
        self._collect(self, publication)

    def add(self, audience: Audience, connection: Connection) -> None:
        """Begin a membership."""
        self.members.setdefault(audience, {})[connection] = None

    def remove(self, audience: Audience, connection: Connection) -> None:
        """End a membership, whatever basis it has come to; unknown ones are ignored."""
        group = self.members.get(audience)
        if group is None or connection not in group:
            if audience.basis is Basis.NOTHING:
                self.remove(audience._replace(basis=Basis.LATEST), connection)
            return
        del group[connection]
        if not group:
            del self.members[audience]
            self._end_chain()
        if self.pace is not None:
            self.pace.left(audience, connection, last=not group)

    def move(self, audience: Audience, connections: Collection[Connection], basis: Basis) -> None:
        """Let members of an audience have another basis."""
        for connection in connections:
            self.add(audience._replace(basis=basis), connection)
            self.remove(audience, connection)

    def with_basis(self, basis: Basis | None) -> list[tuple[Audience, dict[Connection, None]]]:
        """Return who has this basis."""
        return [(each, group) for each, group in self.members.items() if each.basis is basis]

    def _end_chain(self) -> None:
        """Keep nothing to make deltas of when nobody wants any."""
        if self.chain is not None and not any(audience.basis for audience in self.members):
            self.chain.keep(None)
            self.chain = None

    def adopt(self, delivery: Delivery | None) -> None:
        """Send as `delivery` says from now on, None: at once, and all. What waits already goes on waiting."""
        if delivery is None:
            self.pace = None
        elif self.pace is None:
            self.pace = Pace(delivery)
        else:
            self.pace.delivery = delivery
        self.pending = self._collection(self.pending)

    def take(self) -> Pending:
        """Return what waits, and wait for more."""
        taken, self.pending = self.pending, [] if self.pace is None else self._collection()
        return taken

    def _collection(self, publications: Iterable[Publication] = ()) -> Pending:
        if self.pace is None:
            return list(publications)
        return Conflated(publications) if self.conflates else Batch(publications)


class StoredChannel(Channel):
    """A channel of a namespace with history."""

    __slots__ = ("reads", "timeline")

    def __init__(self, collect: Collect, name: str, number: int, *, binary: bool) -> None:
        super().__init__(collect, name, number, binary=binary)
        self.timeline: Timeline | None = None
        """Where it stands; None while nobody has wished for a position."""
        self.reads: dict[Key, list[Place]] = {}
        """What history has been asked for, and who waits for that."""
