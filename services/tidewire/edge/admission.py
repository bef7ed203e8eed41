"""May this client have this subscription? The verdicts of the subscribe and sub_refresh commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from tidewire.edge.effects import Wish
from tidewire.edge.policies.capabilities import NONE, Capabilities, Capability
from tidewire.edge.policies.claims import Override, SubscriptionClaims
from tidewire.edge.policies.filters import FilterError, TagsFilter
from tidewire.edge.policies.tokens import KeyWanted, TokenProblem
from tidewire.edge.wire.commands import NO_DATA, Held, StreamPosition, SubRefreshRequest, SubscribeRequest
from tidewire.kernel import errors
from tidewire.kernel.channels import is_pattern
from tidewire.kernel.errors import Disconnect, ReplyError

if TYPE_CHECKING:
    from tidewire.edge.party import Party
    from tidewire.edge.policies.permissions import Namespace
    from tidewire.edge.wire.commands import FilterNode

DELTA_TYPES = frozenset({"", "fossil"})
COMPACTION = 1
"""The bit of a subscribe command's `flag` that offers channel ids."""
MAX_EPOCH = 64
"""Characters of a client's epoch that are looked at. Ours are shorter, so a longer one is of another life in any case, and
need not be kept while a read of it waits."""
REJECT_UNRECOVERED = 2
"""The bit that wants an error where the subscription cannot be recovered."""
KEYS_AWAY = errors.INTERNAL.saying(
    "temporarily not possible: the keys that tokens are checked with cannot be fetched"
)


AS_CONFIGURED = Override()


class Grant(msgspec.Struct, frozen=True):
    """Yes: what the subscription carries with it. `expires_at` in Unix seconds, 0 = never; "" = no info, no data."""

    info: Raw = NO_DATA
    expires_at: int = 0
    capabilities: Capabilities = NONE
    data: Raw = NO_DATA
    override: Override = AS_CONFIGURED


PLAIN_GRANT = Grant()
"""Yes, and nothing more: what nearly every subscription has, so there is one of it."""
Verdict = Grant | ReplyError | Disconnect | KeyWanted


def admit(request: SubscribeRequest, party: Party, namespace: Namespace) -> Verdict:
    """Judge a subscribe command for a channel of this namespace that the connection does not have yet."""
    if request.type:
        return errors.NOT_AVAILABLE.saying("not available: only stream subscriptions")
    channel = request.channel
    problem = namespace.pattern_problem(channel) or _data_problem(namespace, party)
    if problem is not None:
        return problem
    if request.token:
        return _by_token(request, party)
    if _capable(party, namespace, channel):
        return PLAIN_GRANT
    return namespace.may_subscribe(channel, party.user) or PLAIN_GRANT


def admit_by_server(channel: str, party: Party) -> ReplyError | None:
    """Judge a subscription that the server asks for: rights do not matter, but the channel must be one for this client."""
    namespace = party.rules.namespaces.find(channel)
    if isinstance(namespace, ReplyError):
        return namespace
    if namespace.options.allow_wildcards and is_pattern(channel):
        return errors.BAD_REQUEST.saying("bad request: wildcard subscriptions are for clients to ask for")
    return _data_problem(namespace, party)


def tags_filter(node: FilterNode | None, namespace: Namespace, delta: str) -> TagsFilter | ReplyError | None:
    """Return the filter that a subscribe command asks for, or why it cannot be had (107)."""
    if node is None:
        return None
    if not namespace.options.allow_tags_filter:
        return errors.BAD_REQUEST.saying("bad request: this namespace allows no tags filter")
    if delta:
        return errors.BAD_REQUEST.saying("bad request: delta and a tags filter exclude each other")
    try:
        return TagsFilter(node)
    except FilterError as error:
        return errors.BAD_REQUEST.saying(f"bad request: tags filter: {error}")


def wish(request: SubscribeRequest, namespace: Namespace, override: Override) -> Wish | None:
    """Return what a subscription gets of what its command wishes: positions as far as the namespace lets clients have them."""
    options = namespace.options
    recoverable = options.allow_recovery and (request.recoverable or request.recover)
    positioned = options.allow_positioning and request.positioned
    since = claimed(request.offset, request.epoch) if request.recover else None
    return _wish(request.channel, namespace, override, (positioned, recoverable), since, request.flag)


def wish_of_server(channel: str, namespace: Namespace, override: Override, held: Held | None) -> Wish | None:
    """Return the same for a subscription of the server's; `held` is what the client says of it."""
    since = claimed(held.offset, held.epoch) if held is not None and held.recover else None
    return _wish(channel, namespace, override, (False, False), since, 0)


def _wish(
    channel: str,
    namespace: Namespace,
    override: Override,
    wished: tuple[bool, bool],
    since: StreamPosition | None,
    flag: int,
) -> Wish | None:
    options = namespace.options
    if not options.has_history or (options.allow_wildcards and is_pattern(channel)):
        return None
    latest = options.force_recovery_mode == "cache"
    positioned = namespace.provable and (
        wished[0] or _forced(options.force_positioning, override.force_positioning)
    )
    recoverable = (namespace.provable or latest) and (
        wished[1] or _forced(options.force_recovery, override.force_recovery)
    )
    if not (positioned or recoverable):
        return None
    return Wish(
        positioned=positioned,
        recoverable=recoverable,
        since=since if recoverable else None,
        latest=latest,
        strict=bool(flag & REJECT_UNRECOVERED),
        limit=options.recovery_max_publication_limit,
        proven=namespace.provable,
    )


def claimed(offset: int, epoch: str) -> StreamPosition:
    """Return the position that a client says it had."""
    return StreamPosition(offset=offset, epoch=epoch[:MAX_EPOCH])


def _forced(option: bool, override: bool | None) -> bool:
    return option if override is None else override


def may_know_presence(channel: str, namespace: Namespace, party: Party, grant: Grant) -> bool:
    """Return whether a client may be told who joins and leaves a channel that it subscribes to with this grant."""
    return presence_problem(channel, namespace, party, grant) is None


def presence_problem(
    channel: str, namespace: Namespace, party: Party, grant: Grant | None
) -> ReplyError | None:
    """Return why a client may not know who is in a channel; `grant` is its subscription's, None without one."""
    problem = namespace.may_ask_presence(channel, party.user, subscribed=grant is not None)
    if problem is errors.PERMISSION_DENIED and (
        party.capabilities.allows(Capability.PRESENCE, channel)
        or (grant is not None and grant.capabilities.allows(Capability.PRESENCE, channel))
    ):
        return None
    return problem


def renew(
    request: SubRefreshRequest, party: Party
) -> SubscriptionClaims | ReplyError | Disconnect | KeyWanted:
    """Judge a sub_refresh command's token; whether its channel is subscribed is not asked here.

    Old Python SDKs (0.5) leave the channel out: it is the token's then.
    """
    return _claims(request, party, errors.SUBSCRIPTION_EXPIRED, errors.INVALID_TOKEN)


def _by_token(request: SubscribeRequest, party: Party) -> Verdict:
    invalid = errors.PERMISSION_DENIED.saying("permission denied: the subscription token is not valid")
    claims = _claims(request, party, errors.TOKEN_EXPIRED, invalid)
    if isinstance(claims, SubscriptionClaims):
        return Grant(claims.info, claims.expires_at, claims.capabilities, override=claims.override)
    return claims


def _claims(
    request: SubscribeRequest | SubRefreshRequest,
    party: Party,
    expired: ReplyError | Disconnect,
    invalid: ReplyError | Disconnect,
) -> SubscriptionClaims | ReplyError | Disconnect | KeyWanted:
    """Judge a subscription token; `expired` and `invalid` are what the command at hand answers to such ones."""
    claims = party.rules.tokens.subscription(request.token)
    match claims:
        case TokenProblem.EXPIRED:
            return expired
        case TokenProblem.UNAVAILABLE:
            return KEYS_AWAY
        case TokenProblem.INVALID:
            party.detail = f"a subscription token was refused: {party.rules.tokens.why}"
            return invalid
        case SubscriptionClaims():
            if not _meant_for(claims, request.channel or claims.channel, party):
                return errors.INVALID_TOKEN
            if party.is_over(claims.expires_at):
                return expired
    return claims


def _meant_for(claims: SubscriptionClaims, channel: str, party: Party) -> bool:
    """A token that was meant for somebody or something else is no mistake of the client's (close 3500)."""
    theirs = (claims.channel, claims.user, claims.client or party.client)
    if theirs == (channel, party.user, party.client):
        return True
    party.detail = "a subscription token of another channel, user or client"
    return False


def _capable(party: Party, namespace: Namespace, channel: str) -> bool:
    if namespace.options.allow_wildcards and is_pattern(channel):
        return party.capabilities.allows_pattern(channel)
    return party.capabilities.allows(Capability.SUBSCRIBE, channel)


def _data_problem(namespace: Namespace, party: Party) -> ReplyError | None:
    if namespace.binary and party.is_json:
        return errors.NOT_AVAILABLE.saying(
            "not available: this namespace carries binary data, use the Protobuf format"
        )
    return None
