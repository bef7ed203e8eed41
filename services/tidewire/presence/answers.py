"""What is answered: members, counts and users, put together from all edges' announcements. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from tidewire.kernel.presence_wire import user_partition
from tidewire.kernel.subjects import InvalidChannelError, encode_channel, partition_of
from tidewire.presence.compact import EMPTY, Compact, items, size, values
from tidewire.presence.content import Member, Person
from tidewire.presence.packed import packed

if TYPE_CHECKING:
    from tidewire.presence.replica import Replica

MOST_MEMBERS: Final = 20_000
MOST_BYTES: Final = 2 << 20
"""Of all lists of one reply; beyond, lists are cut off like by their limit."""
MOST_CONNECTIONS: Final = 100
LARGE: Final = 5_000
"""Members from which on a count is kept: it is given again for REST times as long as it took, so that a channel costs one
REST-th of a processor at most. Smaller ones take a millisecond, and are exact each time."""
REST: Final = 10
MOST_KEPT: Final = 1_000
"""Counts that are kept; the oldest go."""

Problem = str
"""The name of the reason why there is no answer."""
_T = TypeVar("_T")


class Members(NamedTuple):
    """Some members of a channel as `packed` writes them, and how many there are."""

    shown: Sequence[bytes]
    clients: int


class Counts(NamedTuple):
    """How many members a channel has, and how many users they are."""

    clients: int
    users: int


class Connection(NamedTuple):
    """One connection of a user."""

    client: str
    edge: str
    since_ms: int


class Status(NamedTuple):
    """Some connections of a user, how many there are, when the last one ended (0: unknown), and since when that is known."""

    connections: Sequence[Connection]
    online: int
    last_seen_ms: int
    known_since_ms: int


class Answers:
    """Answers of one replica. Each problem is per item: `elsewhere`, `unavailable`, `not_synced` or `bad_request`."""

    def __init__(
        self, replica: Replica, partitions: int, now: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._replica = replica
        self._partitions = partitions
        self._now = now
        self._wall = wall
        self._kept: dict[str, tuple[float, Counts]] = {}
        """Counts of large channels, and until when they are given: one client must not keep a replica busy with them."""

    def members(self, channels: Iterable[str], limit: int) -> list[Members | Problem]:
        """Return the members of channels: of each at most `limit`, of all together no more than a reply holds."""
        make, problem = partial(_shown, limit, _Budget()), self._problems()
        return [self._in(channel, problem, make) for channel in channels]

    def counts(self, channels: Iterable[str]) -> list[Counts | Problem]:
        """Return how many members and users channels have."""
        problem = self._problems()
        return [self._in(channel, problem, partial(self._counted, channel)) for channel in channels]

    def _counted(self, channel: str, edges: list[Compact]) -> Counts:
        began = self._now()
        until, kept = self._kept.get(channel, (0.0, Counts(0, 0)))
        if began < until:
            return kept
        found = _counts(edges)
        ended = self._now()
        self._kept.pop(channel, None)
        if found.clients >= LARGE:
            self._keep(channel, ended + REST * (ended - began), found)
        return found

    def _keep(self, channel: str, until: float, found: Counts) -> None:
        while self._kept and (
            len(self._kept) >= MOST_KEPT or next(iter(self._kept.values()))[0] < self._now()
        ):
            del self._kept[next(iter(self._kept))]
        self._kept[channel] = until, found

    def statuses(self, users: Iterable[str]) -> list[Status | Problem]:
        """Return whether users are connected, where and since when."""
        problem = self._problems()
        return [self._status(user, problem) for user in users]

    def _problems(self) -> Callable[[int], Problem | None]:
        """Return what tells a partition's problem now, looking at each partition once for a whole call."""
        return cache(partial(self._replica.problem, now=self._now()))

    def _in(
        self, channel: str, problem: Callable[[int], Problem | None], make: Callable[[list[Compact]], _T]
    ) -> _T | Problem:
        try:
            partition = partition_of(encode_channel(channel), self._partitions)
        except InvalidChannelError:
            return "bad_request"
        if (why := problem(partition)) is not None:
            return why
        found = (content.members_of(channel) for _, content in self._replica.mesh.contents(partition))
        return make([members for members in found if members])

    def _status(self, user: str, problem: Callable[[int], Problem | None]) -> Status | Problem:
        partition = user_partition(user, self._partitions)
        if (why := problem(partition)) is not None:
            return why
        now_ms, seen = int(self._wall() * 1000), self._replica.seen
        found = {
            client: Connection(client, life.edge, since)
            for life, content in self._replica.mesh.contents(partition)
            for client, since in items(content.users.get(user, EMPTY))
        }
        shown = list(found.values())[:MOST_CONNECTIONS]
        return Status(shown, len(found), seen.last(user, now_ms), seen.since(now_ms))


class _Budget:
    """What the lists of one reply may still take."""

    def __init__(self) -> None:
        self.members = MOST_MEMBERS
        self.bytes = MOST_BYTES

    def take(self, members: Iterable[Member]) -> list[bytes]:
        """Return those that go in, written, and count them."""
        taken = []
        for member in islice(members, self.members):
            body = packed(member)
            self.bytes -= len(body)
            if self.bytes < 0:
                break
            taken.append(body)
        self.members -= len(taken)
        return taken


def _together(edges: list[Compact]) -> Compact:
    """Return the members of all edges. A connection is one, also while two edges know it."""
    if len(edges) == 1:
        return edges[0]
    return {client: member for each in edges for client, member in items(each)}


def _all(edges: list[Compact]) -> tuple[Iterable[Member], int]:
    """Return all members and how many they are: not put together where they are more than any list holds."""
    clients = sum(map(size, edges))
    if clients > 2 * MOST_MEMBERS:
        return chain.from_iterable(map(values, edges)), clients
    together = _together(edges)
    return values(together), size(together)


def _shown(limit: int, budget: _Budget, edges: list[Compact]) -> Members:
    members, clients = _all(edges)
    return Members(budget.take(islice(members, limit)), clients)


def _counts(edges: list[Compact]) -> Counts:
    members, clients = _all(edges)
    users = {_user(member) for member in members}
    if "" not in users:
        return Counts(clients, len(users))
    members, _ = _all(edges)
    anonymous = sum(not _user(member) for member in members)
    return Counts(clients, len(users) - 1 + anonymous)


def _user(member: Member) -> str:
    return member.user if isinstance(member, Person) else member.person.user
