"""The history command: who may read what a channel has kept, and the answer. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.edge.admission import claimed
from tidewire.edge.effects import Answer, Effect, ReadHistory
from tidewire.edge.places import MAX_REPLY, cost
from tidewire.edge.policies.capabilities import Capability
from tidewire.edge.policies.permissions import Namespace
from tidewire.edge.ports import Page, Query
from tidewire.edge.subscribed import show
from tidewire.edge.wire.replies import HistoryResult, Reply
from tidewire.kernel import errors
from tidewire.kernel.errors import Disconnect, ReplyError

if TYPE_CHECKING:
    from tidewire.edge.party import Party
    from tidewire.edge.subscriptions import Subscriptions
    from tidewire.edge.wire.commands import HistoryRequest


def read(
    number: int, request: HistoryRequest, party: Party, subscriptions: Subscriptions
) -> list[Effect] | Disconnect:
    """Carry out a history command; its answer comes from `answer`, unless it is refused."""
    if not request.channel:
        return errors.BAD_PROTOCOL
    namespace = errors.TOO_MANY_REQUESTS if party.crowded else _judge(request.channel, party, subscriptions)
    if isinstance(namespace, ReplyError):
        return [party.refuse("history", number, namespace)]
    most = namespace.options.history_max_publication_limit
    since = request.since
    query = Query(
        channel=request.channel,
        since=None if since is None else claimed(since.offset, since.epoch),
        limit=most if request.limit < 0 else min(request.limit, most),
        max_bytes=MAX_REPLY,
        reverse=request.reverse,
    )
    party.owed += 1
    return [ReadHistory(number, query, party.started)]


def answer(party: Party, effect: ReadHistory, result: Page | ReplyError) -> Answer:
    """Take the result of `ReadHistory`."""
    namespace = party.rules.namespaces.find(effect.query.channel)
    if isinstance(result, ReplyError) or isinstance(namespace, ReplyError):
        error = result if isinstance(result, ReplyError) else errors.UNKNOWN_CHANNEL
        return party.settle("history", effect.started, Reply(id=effect.id, error=error))
    room, count = MAX_REPLY, 0
    for publication in result.publications:
        room -= cost(publication)
        count += room >= 0 or not count
    shown = HistoryResult(
        publications=show(result.publications[:count], namespace),
        epoch=result.top.epoch,
        offset=result.top.offset,
    )
    return party.settle("history", effect.started, Reply(id=effect.id, history=shown))


def _judge(channel: str, party: Party, subscriptions: Subscriptions) -> Namespace | ReplyError:
    """Return the channel's namespace, or why the client may not read its history."""
    namespace = party.rules.namespaces.find(channel)
    if isinstance(namespace, ReplyError):
        return namespace
    if not namespace.options.has_history:
        return errors.NOT_AVAILABLE
    if namespace.binary and party.is_json:
        return errors.NOT_AVAILABLE.saying(
            "not available: this namespace carries binary data, use the Protobuf format"
        )
    subscription = subscriptions.find(channel)
    capable = party.capabilities.allows(Capability.HISTORY, channel) or (
        subscription is not None and subscription.grant.capabilities.allows(Capability.HISTORY, channel)
    )
    problem = namespace.may_read_history(channel, party.user, subscribed=subscription is not None)
    if problem is errors.PERMISSION_DENIED and capable:
        return namespace
    return problem or namespace
