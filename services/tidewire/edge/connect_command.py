"""What a connect command brings: whether the user may be let in, the channels that come along, and the reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tidewire.edge.admission import PLAIN_GRANT, Grant
from tidewire.edge.policies.verdicts import shown
from tidewire.edge.wire.replies import ConnectResult
from tidewire.kernel import errors
from tidewire.kernel.errors import Disconnect, ReplyError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from tidewire.edge.effects import Effect
    from tidewire.edge.party import Party
    from tidewire.edge.policies.claims import ConnectionClaims
    from tidewire.edge.rules import Rules
    from tidewire.edge.subscriptions import Subscriptions
    from tidewire.edge.wire.commands import Held
    from tidewire.edge.wire.replies import SubscribeResult

    class Others(Protocol):
        """The other connections of this edge."""

        def serves(self, user: str, connections: int = 1) -> bool:
            """Return whether the user has so many connections here already."""


CONNECTED_ALREADY: Final = errors.CONNECTION_LIMIT.saying("connection limit: the user is connected already")


def must_ask_others(user: str, rules: Rules) -> bool:
    """Return whether other edges have to be thought of before the user may connect."""
    return bool(user) and rules.announces and rules.single_connection == "refuse"


def one_too_many(user: str, others: Others, rules: Rules) -> Disconnect | None:
    """Judge whether the user may have another connection on this edge."""
    if rules.single_connection == "refuse" and others.serves(user):
        return CONNECTED_ALREADY
    limit = rules.user_connection_limit
    if limit and others.serves(user, limit):
        return errors.CONNECTION_LIMIT.saying(f"connection limit: the user has {limit} on this edge")
    return None


def join_for(
    claims: ConnectionClaims, held: Mapping[str, Held], subscriptions: Subscriptions, rules: Rules
) -> list[Effect] | ReplyError | Disconnect:
    """Begin the subscriptions that come with the connection, each from where the client says that it `held` it."""
    # Without an end of their own: what the token gives lives as long as the connection.
    grants = {
        channel: Grant(each.info, data=each.data, override=each.override)
        for channel, each in claims.subs.items()
    }
    personal = rules.personal_channel(claims.user)
    if isinstance(personal, ReplyError):
        return personal
    if personal is not None:
        grants.setdefault(personal, PLAIN_GRANT)
    if len(grants) > rules.channel_limit:
        return errors.CHANNEL_LIMIT
    effects: list[Effect] = []
    for channel, grant in grants.items():
        begun = subscriptions.add(channel, grant, held.get(channel))
        if isinstance(begun, ReplyError):
            return begun.saying(f"{begun.message} (the server-side subscription {shown(channel)})")
        effects += begun
    return effects


def greeting(party: Party, ttl: int, subs: dict[str, SubscribeResult]) -> ConnectResult:
    """Return the reply: `ttl` seconds until the token wants a refresh (0 = never), and the server's subscriptions."""
    return ConnectResult(
        client=party.client,
        version=party.rules.version,
        expires=ttl > 0,
        ttl=ttl,
        subs=subs,
        ping=party.rules.ping_seconds,
        pong=True,
    )
