"""The commands presence and presence_stats and the method tw.user_status: who may know who is there, and the answers. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Raw

from tidewire.edge.admission import presence_problem
from tidewire.edge.effects import Answer, AskPresence, Effect
from tidewire.edge.places import MAX_REPLY
from tidewire.edge.policies.claims import LONGEST_USER
from tidewire.edge.policies.permissions import Namespace
from tidewire.edge.presence_ports import USER_STATUS, Members, MembersQuery, Stats, StatsQuery, UsersQuery
from tidewire.edge.wire.commands import NO_DATA, PresenceStatsRequest
from tidewire.edge.wire.json_codec import clean_json
from tidewire.edge.wire.replies import (
    ClientInfo,
    PresenceResult,
    PresenceStatsResult,
    Reply,
    RpcResult,
)
from tidewire.kernel import errors
from tidewire.kernel.errors import Disconnect, ReplyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tidewire.edge.party import Party
    from tidewire.edge.presence_ports import Member, PresenceQuery, UserStatus
    from tidewire.edge.subscriptions import Subscriptions
    from tidewire.edge.waiting import TokensWanted
    from tidewire.edge.wire.commands import PresenceRequest

    PresenceTold = PresenceResult | Stats | Sequence[UserStatus] | ReplyError
    """What answers a question: `PresenceAnswer` with a list as clients get it, or why there is none."""

MAX_USERS: Final = 100
"""Users of one call."""
ENTRY: Final = 64
"""Bytes of an entry beside its texts, about."""


class Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data of `tw.user_status`."""

    users: tuple[str, ...]


class Status(msgspec.Struct, frozen=True):
    """What a client is told of a user. Times are Unix milliseconds, 0: not known; which edges it is on is not its business."""

    online: bool
    connections: int
    since: int
    last_seen: int


_ARGUMENTS = msgspec.json.Decoder(Arguments)


def read(
    number: int, request: PresenceRequest | PresenceStatsRequest, party: Party, subscriptions: Subscriptions
) -> list[Effect] | Disconnect:
    """Carry out a presence or presence_stats command; its answer comes from `answer`, unless it is refused."""
    channel = request.channel
    if not channel:
        return errors.BAD_PROTOCOL
    counts = isinstance(request, PresenceStatsRequest)
    method = "presence_stats" if counts else "presence"
    namespace = errors.TOO_MANY_REQUESTS if party.crowded else _judge(channel, party, subscriptions)
    if isinstance(namespace, ReplyError):
        return [party.refuse(method, number, namespace)]
    limit = namespace.options.presence_max_clients
    return _ask(number, method, StatsQuery(channel) if counts else MembersQuery(channel, limit), party)


def status(number: int, data: bytes, party: Party) -> list[Effect] | Disconnect | TokensWanted:
    """Carry out a call of tw.user_status; its answer comes from `answer`, unless it is refused."""
    users = errors.TOO_MANY_REQUESTS if party.crowded else _users(data, party)
    if isinstance(users, ReplyError):
        return [party.refuse("rpc", number, users)]
    limits = party.rules.limits
    verdict = limits.judge("rpc", party, method=USER_STATUS) if limits is not None else None
    if isinstance(verdict, ReplyError):
        return [party.refuse("rpc", number, verdict)]
    return _ask(number, "rpc", UsersQuery(users), party) if verdict is None else verdict


def _ask(number: int, method: str, query: PresenceQuery, party: Party) -> list[Effect]:
    party.owed += 1
    return [AskPresence(number, method, query, party.started)]


def answer(party: Party, effect: AskPresence, result: PresenceTold) -> Answer:
    """Take the result of `AskPresence`, of members as `listed` returns them."""
    match result:
        case ReplyError():
            reply = Reply(id=effect.id, error=result)
        case PresenceResult():
            reply = Reply(id=effect.id, presence=result)
        case Stats():
            counts = PresenceStatsResult(num_clients=result.clients, num_users=result.users)
            reply = Reply(id=effect.id, presence_stats=counts)
        case _:
            reply = _told(effect, result)
    return party.settle(effect.method, effect.started, reply)


def listed(found: Members) -> PresenceResult | ReplyError:
    """Return the list, or an error for what would be a part of one: the protocol has no way to say so."""
    size = sum(map(_size, found.members))
    if found.clients > len(found.members) or size > MAX_REPLY:
        return errors.LIMIT_EXCEEDED.saying(
            f"limit exceeded: the channel has {found.clients} clients, too many to list: use presence_stats"
        )
    return PresenceResult(presence={each.client: _info(each) for each in found.members})


def _size(member: Member) -> int:
    user = len(msgspec.json.encode(member.user))  # of control characters each takes six
    return ENTRY + 2 * len(member.client) + user + len(member.conn_info) + len(member.chan_info)


def _info(member: Member) -> ClientInfo:
    return client_info(member.client, member.user, member.conn_info, member.chan_info)


def client_info(client: str, user: str, conn_info: bytes, chan_info: bytes) -> ClientInfo:
    """Return who somebody is, as clients are told; infos that are no JSON are left out, since no client could read them."""
    return ClientInfo(
        user=user,
        client=client,
        conn_info=_value(conn_info),
        chan_info=_value(chan_info),
    )


def _value(info: bytes) -> Raw:
    clean = clean_json(info) if info else None
    return NO_DATA if clean is None else Raw(clean)


def _told(effect: AskPresence, found: Sequence[UserStatus]) -> Reply:
    users = effect.query.users if isinstance(effect.query, UsersQuery) else ()
    told = {user: _status(each) for user, each in zip(users, found, strict=True)}
    return Reply(id=effect.id, rpc=RpcResult(data=Raw(msgspec.json.encode({"users": told}))))


def _status(found: UserStatus) -> Status:
    since = min((each.since_ms for each in found.connections), default=0)
    return Status(found.online > 0, found.online, since, found.last_seen_ms)


def _judge(channel: str, party: Party, subscriptions: Subscriptions) -> Namespace | ReplyError:
    """Return the channel's namespace, or why the client may not know who is there."""
    namespace = party.rules.namespaces.find(channel)
    if isinstance(namespace, ReplyError):
        return namespace
    if not namespace.options.presence:
        return errors.NOT_AVAILABLE
    subscription = subscriptions.find(channel)
    grant = None if subscription is None else subscription.grant
    return presence_problem(channel, namespace, party, grant) or namespace


def _users(data: bytes, party: Party) -> tuple[str, ...] | ReplyError:
    rules = party.rules
    if not rules.announces:
        return errors.NOT_AVAILABLE.saying("not available: there is no presence service")
    if not (party.user and rules.user_status):
        return errors.PERMISSION_DENIED
    try:
        users = _ARGUMENTS.decode(clean_json(data) or b"").users
    except msgspec.DecodeError:
        return _bad('expected an object of JSON with a list "users"')
    if not 0 < len(users) <= MAX_USERS or not all(0 < len(user) <= LONGEST_USER for user in users):
        return _bad(f"1 to {MAX_USERS} users, each with 1 to {LONGEST_USER} characters")
    return tuple(dict.fromkeys(users))


def _bad(why: str) -> ReplyError:
    return errors.BAD_REQUEST.saying(f"bad request: {USER_STATUS}: {why}")
