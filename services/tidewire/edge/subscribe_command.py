"""The subscribe command: what a subscription would be like that a client asks for, or why it may not have it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from tidewire.edge.admission import (
    COMPACTION,
    DELTA_TYPES,
    Grant,
    admit,
    may_know_presence,
    tags_filter,
    wish,
)
from tidewire.edge.attendance import attendance_of
from tidewire.edge.policies.filters import MAX_NODES_OF_CONNECTION
from tidewire.edge.subscription import traits_of
from tidewire.kernel import errors
from tidewire.kernel.errors import Disconnect, ReplyError

if TYPE_CHECKING:
    from tidewire.edge.attendance import Attendance
    from tidewire.edge.effects import Traits, Wish
    from tidewire.edge.party import Party
    from tidewire.edge.policies.filters import TagsFilter
    from tidewire.edge.policies.permissions import Namespace
    from tidewire.edge.policies.tokens import KeyWanted
    from tidewire.edge.subscription import Subscription
    from tidewire.edge.wire.commands import SubscribeRequest


class Asked(NamedTuple):
    """A subscription as it may begin. `wishes`: the client has asked for joins and leaves, and may."""

    grant: Grant
    traits: Traits
    wish: Wish | None
    attendance: Attendance
    wishes: bool


def judge(
    request: SubscribeRequest, party: Party, subscriptions: Mapping[str, Subscription]
) -> Asked | ReplyError | Disconnect | KeyWanted:
    """Judge a subscribe command by all but rate limits. `subscriptions`: those that the connection has, by channel."""
    channel, rules = request.channel, party.rules
    if not channel or request.delta not in DELTA_TYPES:
        return errors.BAD_PROTOCOL
    namespace = rules.namespaces.find(channel)
    if isinstance(namespace, ReplyError):
        return namespace
    if channel in subscriptions:
        return errors.ALREADY_SUBSCRIBED
    if len(subscriptions) >= rules.channel_limit:
        return errors.LIMIT_EXCEEDED.saying(
            f"limit exceeded: {rules.channel_limit} channels on one connection"
        )
    grant = admit(request, party, namespace)
    if not isinstance(grant, Grant):
        return grant
    if party.crowded:
        return errors.TOO_MANY_REQUESTS
    wanted = _filter(request, namespace, subscriptions.values())
    if isinstance(wanted, ReplyError):
        return wanted
    return _asked(request, party, namespace, grant, wanted)


def _asked(
    request: SubscribeRequest, party: Party, namespace: Namespace, grant: Grant, wanted: TagsFilter | None
) -> Asked:
    channel = request.channel
    wished = wish(request, namespace, grant.override)
    compact = bool(request.flag & COMPACTION) and party.takes_ids
    delta = bool(request.delta) and request.delta in namespace.options.allowed_delta_types
    wishes = request.join_leave and may_know_presence(channel, namespace, party, grant)
    attendance = attendance_of(
        channel, namespace, grant.override, wishes=wishes, announced=party.rules.announces
    )
    return Asked(grant, traits_of(compact, wanted, delta, wished is not None), wished, attendance, wishes)


def _filter(
    request: SubscribeRequest, namespace: Namespace, others: Collection[Subscription]
) -> TagsFilter | ReplyError | None:
    wanted = tags_filter(request.tf, namespace, request.delta)
    if isinstance(wanted, ReplyError) or wanted is None:
        return wanted
    held = sum(each.traits.wanted.size for each in others if each.traits.wanted is not None)
    if wanted.size + held > MAX_NODES_OF_CONNECTION:
        return errors.LIMIT_EXCEEDED.saying(
            f"limit exceeded: {MAX_NODES_OF_CONNECTION} nodes and values in the tags filters of one connection"
        )
    return wanted
