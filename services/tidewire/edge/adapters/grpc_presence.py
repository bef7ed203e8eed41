"""The presence port on gRPC. Questions of one loop turn are one call; the same question is asked once at a time.

Who asks what is being asked already waits for the next answer, since the one under way may be older than what he knows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from tidewire.edge.presence_ports import (
    Member,
    Members,
    MembersQuery,
    Stats,
    StatsQuery,
    UserConnection,
    UsersQuery,
    UserStatus,
)
from tidewire.kernel import call_errors, errors
from tidewire.kernel.call_errors import CallError
from tidewire.kernel.errors import ReplyError
from tidewire.kernel.retries import MOST_MOVES
from tidewire.kernel.seldom import Seldom
from tidewire.platform.rpc_client import RpcClient
from tidewire.platform.tasks import ended
from tidewire.rpc.presence.v1 import presence_pb2 as pb

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.edge.presence_ports import PresenceAnswer, PresenceQuery
    from tidewire.kernel.clock import Clock
    from tidewire.platform.rpc_client_options import RpcClientConfig
    from tidewire.platform.rpc_telemetry import RpcClientMetrics
    from tidewire.platform.tracing import Tracer

AWAY: Final = errors.INTERNAL.saying("temporarily not possible: the presence service is away")
BUSY: Final = errors.TOO_MANY_REQUESTS.saying("too many requests: the presence service is busy")
CROWDED: Final = errors.TOO_MANY_REQUESTS.saying(
    "too many requests: too many questions of presence wait on this edge"
)
TOO_LARGE: Final = errors.LIMIT_EXCEEDED.saying(
    "limit exceeded: the list is too large for an answer: use presence_stats"
)
ANOTHER_MAY_KNOW: Final = frozenset(
    reason.name for reason in (call_errors.ELSEWHERE, call_errors.NOT_SYNCED, call_errors.UNAVAILABLE)
)
"""Problems with which a question goes to the next replica."""
_SERVICE: Final = f"/{pb.DESCRIPTOR.services_by_name['Presence'].full_name}"
MEMBERS: Final = f"{_SERVICE}/Members"
STATS: Final = f"{_SERVICE}/Stats"
USER_STATUS: Final = f"{_SERVICE}/UserStatus"
MAX_WAITING: Final = 10_000
"""Askers who wait for one kind of answer."""
MAX_LISTS: Final = 8
"""Lists of members in one call: each may be large."""
MAX_COUNTS: Final = 500
"""Counts, or users, in one call."""
TOLD_AT_ONCE: Final = 32
"""Askers that are told in one turn of the loop: thousands may have asked for the same list, which each gets whole."""

_Key = TypeVar("_Key", bound=Hashable)
_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item", bound="_Problematic")


class _Problematic(Protocol):
    """An item of a reply."""

    problem: str


def client_of(
    config: RpcClientConfig,
    metrics: RpcClientMetrics,
    log: FilteringBoundLogger,
    clock: Clock,
    tracer: Tracer | None,
) -> RpcClient:
    """Return a client of the service, all of whose calls may be repeated."""
    return RpcClient(config, (MEMBERS, STATS, USER_STATUS), metrics, log, clock, tracer)


class _Questions(Generic[_Key, _Answer]):
    """Questions of one kind: those that wait, and those that are asked at this moment."""

    def __init__(
        self,
        call: Callable[[Sequence[_Key]], Coroutine[Any, Any, dict[_Key, _Answer | ReplyError]]],
        begin: Callable[[Coroutine[Any, Any, None]], None],
        most: int,
    ) -> None:
        self._call = call
        self._begin = begin
        self._most = most
        self._waiting: dict[_Key, list[Callable[[_Answer | ReplyError], None]]] = {}
        self._flying: set[_Key] = set()
        self._askers = 0
        self._is_due = False

    def ask(self, key: _Key, done: Callable[[_Answer | ReplyError], None]) -> None:
        """Ask with others of this turn, or as soon as the same question is answered."""
        loop = asyncio.get_running_loop()
        if self._askers >= MAX_WAITING:
            loop.call_soon(done, CROWDED)
            return
        self._askers += 1
        self._waiting.setdefault(key, []).append(done)
        if not self._is_due:
            self._is_due = True
            loop.call_soon(self._send)

    def _send(self) -> None:
        self._is_due = False
        ready = [key for key in self._waiting if key not in self._flying]
        for start in range(0, len(ready), self._most):
            keys = ready[start : start + self._most]
            asked = {key: self._waiting.pop(key) for key in keys}
            self._flying |= asked.keys()
            self._begin(self._fly(asked))

    async def _fly(self, asked: dict[_Key, list[Callable[[_Answer | ReplyError], None]]]) -> None:
        found: dict[_Key, _Answer | ReplyError] = {}
        left = deque((key, done) for key, askers in asked.items() for done in askers)
        try:
            try:
                found = await self._call(list(asked))
            finally:
                self._landed(asked)
            while left:
                for _ in range(min(TOLD_AT_ONCE, len(left))):
                    key, done = left.popleft()
                    self._askers -= 1
                    done(found.get(key, AWAY))
                await asyncio.sleep(0)
        finally:  # it ends early, or one could not be told
            self._askers -= len(left)
            for key, done in left:
                asyncio.get_running_loop().call_soon(done, found.get(key, AWAY))

    def _landed(self, asked: Collection[_Key]) -> None:
        self._flying.difference_update(asked)
        if self._waiting and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._send)


class GrpcPresence:
    """`presence_ports.PresenceService` on a client of the service. That it is away is logged once a minute."""

    def __init__(self, client: RpcClient, log: FilteringBoundLogger, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._log = log
        self._seldom = Seldom(monotonic)
        self._tasks: set[asyncio.Task[None]] = set()
        self._members = _Questions(self._ask_members, self._begin, MAX_LISTS)
        self._stats = _Questions(self._ask_stats, self._begin, MAX_COUNTS)
        self._users = _Questions(self._ask_users, self._begin, MAX_COUNTS)

    def ask(self, query: PresenceQuery, done: Callable[[PresenceAnswer | ReplyError], None]) -> None:
        """See presence_ports.PresenceService."""
        match query:
            case MembersQuery():
                self._members.ask(query, done)
            case StatsQuery():
                self._stats.ask(query.channel, done)
            case UsersQuery():
                self._ask_each(query.users, done)

    def _ask_each(
        self, users: Sequence[str], done: Callable[[Sequence[UserStatus] | ReplyError], None]
    ) -> None:
        found: dict[str, UserStatus | ReplyError] = {}

        def take(user: str, answer: UserStatus | ReplyError) -> None:
            found[user] = answer
            if len(found) < len(users):
                return
            statuses = [found[each] for each in users]
            problem = next((each for each in statuses if isinstance(each, ReplyError)), None)
            done(problem or [each for each in statuses if isinstance(each, UserStatus)])

        for user in users:
            self._users.ask(user, partial(take, user))

    async def start(self) -> None:
        """Begin to connect. Raises StartError: a certificate cannot be used."""
        client = self._client
        await client.start()
        self._members_method = client.unary_unary(
            MEMBERS, pb.MembersRequest.SerializeToString, pb.MembersReply.FromString
        )
        self._stats_method = client.unary_unary(
            STATS, pb.StatsRequest.SerializeToString, pb.StatsReply.FromString
        )
        self._users_method = client.unary_unary(
            USER_STATUS, pb.UserStatusRequest.SerializeToString, pb.UserStatusReply.FromString
        )

    def reload(self) -> None:
        """Read certificates again, soon."""
        self._begin(self._client.reload())

    async def close(self) -> None:
        """End the calls that are under way."""
        await ended(self._tasks)
        await self._client.close()

    def _begin(self, call: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # The three kinds of calls.

    async def _ask_members(self, keys: Sequence[MembersQuery]) -> dict[MembersQuery, Members | ReplyError]:
        limit = max(key.limit for key in keys)

        async def call(channels: Sequence[str]) -> Sequence[pb.ChannelMembers]:
            return (await self._members_method(pb.MembersRequest(channels=channels, limit=limit))).channels

        found = await self._ask([key.channel for key in keys], call, _members)
        cut = {key.channel for key in keys if _is_cut(found[key.channel], key.limit)}
        if len(found) > 1:  # a reply holds so many bytes, whosever they are
            for channel in sorted(cut):
                found |= await self._ask([channel], call, _members)
        return {key: _cut(found[key.channel], key.limit) for key in keys}

    async def _ask_stats(self, keys: Sequence[str]) -> dict[str, Stats | ReplyError]:
        async def call(channels: Sequence[str]) -> Sequence[pb.ChannelStats]:
            return (await self._stats_method(pb.StatsRequest(channels=channels))).channels

        return await self._ask(keys, call, lambda each: Stats(each.clients, each.users))

    async def _ask_users(self, keys: Sequence[str]) -> dict[str, UserStatus | ReplyError]:
        async def call(users: Sequence[str]) -> Sequence[pb.UserStatus]:
            return (await self._users_method(pb.UserStatusRequest(users=users))).users

        return await self._ask(keys, call, _status)

    async def _ask(
        self,
        keys: Sequence[str],
        call: Callable[[Sequence[str]], Coroutine[Any, Any, Sequence[_Item]]],
        read: Callable[[_Item], _Answer],
    ) -> dict[str, _Answer | ReplyError]:
        """Ask one replica after the other for what each does not know and another one may."""
        found: dict[str, _Answer | ReplyError] = dict.fromkeys(keys, AWAY)
        left = list(dict.fromkeys(keys))
        for _ in range(MOST_MOVES):
            try:
                items = await call(left)
            except CallError as error:
                told = self._told(error)
                return found | dict.fromkeys(left, told)
            if len(items) != len(left):
                break
            told_of = dict(zip(left, items, strict=True))
            found |= {key: read(each) for key, each in told_of.items() if not each.problem}
            left = [key for key, each in told_of.items() if each.problem in ANOTHER_MAY_KNOW]
            if not left:
                break
        return found

    def _told(self, error: CallError) -> ReplyError:
        """Return what a client is told: that it can try again, unless the service said otherwise itself."""
        if error.reason in {call_errors.BUSY, call_errors.BUSY_HERE}:
            return BUSY
        if error.reason.status == "RESOURCE_EXHAUSTED":
            return TOO_LARGE
        if self._seldom.allows("away"):
            self._log.warning("presence.away", target=self._client.target, problem=str(error))
        return AWAY


def _members(found: pb.ChannelMembers) -> Members:
    members = [Member(each.client, each.user, each.conn_info, each.chan_info) for each in found.members]
    return Members(members, max(found.clients, len(members)))


def _is_cut(found: Members | ReplyError, limit: int) -> bool:
    """Return whether a list lacks members, though it is not too long by itself."""
    return isinstance(found, Members) and len(found.members) < found.clients <= limit


def _cut(found: Members | ReplyError, limit: int) -> Members | ReplyError:
    """Return no more than was asked for: namespaces have limits of their own, and share calls."""
    return Members(found.members[:limit], found.clients) if isinstance(found, Members) else found


def _status(found: pb.UserStatus) -> UserStatus:
    connections = [UserConnection(each.client, each.edge, each.since_ms) for each in found.connections]
    return UserStatus(connections, found.online, found.last_seen_ms, found.known_since_ms)
