"""What presence on an edge asks of the world: the service that knows, the way on which all is told, and who counts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from tidewire.kernel.errors import ReplyError
    from tidewire.kernel.presence_wire import Change, Chunk, Event, PartitionState


USER_STATUS: Final = "tw.user_status"
"""The edge's own RPC method that asks for users."""


class MembersQuery(msgspec.Struct, frozen=True):
    """Who is in a channel? At most `limit` of them."""

    channel: str
    limit: int


class StatsQuery(msgspec.Struct, frozen=True):
    """How many are in a channel?"""

    channel: str


class UsersQuery(msgspec.Struct, frozen=True):
    """Are these users connected?"""

    users: tuple[str, ...]


PresenceQuery = MembersQuery | StatsQuery | UsersQuery


class Member(msgspec.Struct, frozen=True, gc=False):
    """One subscription of one connection; infos are JSON, b"" = none."""

    client: str
    user: str
    conn_info: bytes = b""
    chan_info: bytes = b""


class Members(msgspec.Struct, frozen=True):
    """Members of a channel, and how many `clients` it has: more than there are here where the limit cut them off."""

    members: Sequence[Member]
    clients: int


class Stats(msgspec.Struct, frozen=True, gc=False):
    """How many clients a channel has, and how many users those are."""

    clients: int
    users: int


class UserConnection(msgspec.Struct, frozen=True, gc=False):
    """A connection of a user; `since_ms` in Unix milliseconds."""

    client: str
    edge: str
    since_ms: int


class UserStatus(msgspec.Struct, frozen=True):
    """Where a user is connected (not all, where `online` says more), and when the last connection ended.

    Times are Unix milliseconds: `last_seen_ms` 0 is not since `known_since_ms`, or not known.
    """

    connections: Sequence[UserConnection]
    online: int
    last_seen_ms: int
    known_since_ms: int


PresenceAnswer = Members | Stats | Sequence[UserStatus]
"""What answers a query, in the order of the three; of users in the order asked."""


class PresenceService(Protocol):
    """Who is in channels, and which users are connected, over all edges."""

    def ask(self, query: PresenceQuery, done: Callable[[PresenceAnswer | ReplyError], None]) -> None:
        """Ask; `done` comes exactly once, never from inside this call, within a timeout."""


class PresenceMetrics(Protocol):
    """What happens with presence on an edge, for whoever counts. Outcomes and kinds are short constants."""

    def presence_changed(self, kind: str) -> None:
        """Something is to be announced."""

    def presence_announced(self, outcome: str, changes: int) -> None:
        """Changes went out, or were lost."""

    def snapshot_asked(self, outcome: str) -> None:
        """A replica wants the snapshot of a partition."""

    def chunk_sent(self, replicas: int, entries: int) -> None:
        """A part of a snapshot went out, to 0 replicas where NATS did not take it."""

    def event_told(self, outcome: str) -> None:
        """A join or leave of this edge was told, was lost, or was undone before."""

    def event_heard(self, outcome: str) -> None:
        """A join or leave came that nobody is told of."""

    def events_delivered(self, deliveries: int) -> None:
        """Joins and leaves of one channel were written to its subscribers."""

    def presence_unread(self, why: str) -> None:
        """A message came that cannot be understood, or is not as it must be; `why` repeats nothing of it."""

    def others_asked(self, outcome: str) -> None:
        """It was asked whether a user is connected elsewhere."""


class PresenceWire(Protocol):
    """What an edge tells others about who is there. Calls return at once; False: NATS did not take it, and it is gone."""

    def delta(self, partition: int, incarnation: int, first: int, changes: Sequence[Change]) -> bool:
        """Announce changes with the numbers from `first` on."""

    def heartbeat(self, incarnation: int, states: Sequence[PartitionState]) -> bool:
        """Say that this edge lives, and where it stands."""

    def bye(self, incarnation: int) -> bool:
        """Say that it is gone for good."""

    def chunk(self, to: Collection[bytes], chunk: Chunk) -> bool:
        """Send a part of a snapshot to the subjects on which replicas wait for it."""

    @property
    def congested(self) -> bool:
        """Whether so much waits for NATS that a snapshot should wait, too."""

    def tell(self, channel: str, event: Event) -> bool:
        """Tell all edges of a join or a leave."""

    def hear(self, channel: str, take: Callable[[Event], None]) -> int:
        """Begin to hear a channel's joins and leaves, and return a handle."""

    def unhear(self, handle: int) -> None:
        """Stop hearing them."""

    def settle(self, done: Callable[[], None]) -> None:
        """Call `done` when NATS has taken what was announced so far, or does not say so for a second."""
