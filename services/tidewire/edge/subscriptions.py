"""May this client subscribe, and what does a session keep of a subscription."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from tidewire.edge.policies.claims import SubscriptionClaims
from tidewire.edge.policies.tokens import TokenProblem
from tidewire.edge.wire.commands import NO_DATA, SubscribeRequest
from tidewire.kernel import errors

if TYPE_CHECKING:
    from collections.abc import Sized
    from typing import Protocol

    from tidewire.edge.rules import Rules
    from tidewire.kernel.errors import Disconnect, ReplyError
    from tidewire.kernel.ids import ConnectionId

    class Subscriber(Protocol):
        """What is asked of the session that wants to subscribe."""

        user: str
        client: ConnectionId
        is_json: bool

        @property
        def subscriptions(self) -> _Channels:
            """Return the channels it has."""

    class _Channels(Sized, Protocol):
        def __contains__(self, channel: object, /) -> bool: ...


DELTA_TYPES = frozenset({"", "fossil"})


class SubscriptionState(enum.Enum):
    """A subscription is JOINING until the broker has confirmed it, then LIVE."""

    JOINING = "joining"
    LIVE = "live"


class Subscription:
    """One channel of a session. `command` is the id of the subscribe command that began it."""

    __slots__ = ("attempt", "command", "info", "started", "state")

    def __init__(self, command: int, attempt: int, started: float, info: Raw) -> None:
        self.command = command
        self.attempt = attempt
        self.started = started
        self.info = info
        self.state = SubscriptionState.JOINING


class Grant(msgspec.Struct, frozen=True):
    """Yes, with the channel info that the subscription token carries ("" = none)."""

    info: Raw = NO_DATA


def admit(request: SubscribeRequest, session: Subscriber, rules: Rules) -> Grant | ReplyError | Disconnect:
    """Judge a subscribe command: a grant, the error to reply, or the reason to close the connection."""
    channel = request.channel
    if not channel or request.delta not in DELTA_TYPES:
        return errors.BAD_PROTOCOL
    namespace = rules.namespaces.find(channel)
    if isinstance(namespace, errors.ReplyError):
        return namespace
    if channel in session.subscriptions:
        return errors.ALREADY_SUBSCRIBED
    if len(session.subscriptions) >= rules.channel_limit:
        return errors.LIMIT_EXCEEDED.saying(
            f"limit exceeded: {rules.channel_limit} channels on one connection"
        )
    if request.type:
        return errors.NOT_AVAILABLE.saying("not available: only stream subscriptions")
    if request.tf is not None:
        return errors.BAD_REQUEST.saying("bad request: this namespace allows no tags filter")
    grant = (
        _by_token(request, session, rules)
        if request.token
        else namespace.may_subscribe(channel, session.user)
    )
    if grant is None:
        grant = Grant()
    if isinstance(grant, Grant) and namespace.binary and session.is_json:
        return errors.NOT_AVAILABLE.saying(
            "not available: this namespace carries binary data, use the Protobuf format"
        )
    return grant


def _by_token(
    request: SubscribeRequest, session: Subscriber, rules: Rules
) -> Grant | ReplyError | Disconnect:
    claims = rules.tokens.subscription(request.token)
    if claims is TokenProblem.EXPIRED:
        return errors.TOKEN_EXPIRED
    if not isinstance(claims, SubscriptionClaims):
        return errors.PERMISSION_DENIED.saying("permission denied: the subscription token is not valid")
    theirs = (claims.channel, claims.user, claims.client or session.client)
    if theirs != (request.channel, session.user, session.client):
        return errors.INVALID_TOKEN
    return Grant(claims.info)
