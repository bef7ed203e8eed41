"""What a client sends to others: publications, calls of application methods, and one-way messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from tidewire.edge.effects import Answer, Call, Effect, Publish, Published, Send
from tidewire.edge.policies.capabilities import Capability
from tidewire.edge.policies.permissions import Namespace
from tidewire.edge.wire.json_codec import clean_json
from tidewire.edge.wire.replies import Reply, RpcResult
from tidewire.kernel import errors
from tidewire.kernel.errors import Disconnect, ReplyError

if TYPE_CHECKING:
    from tidewire.edge.party import Party
    from tidewire.edge.pending import Demands
    from tidewire.edge.subscription import Subscription
    from tidewire.edge.subscriptions import Subscriptions
    from tidewire.edge.waiting import TokensWanted
    from tidewire.edge.wire.commands import Command, PublishRequest, RpcRequest, SendRequest

DONE = RpcResult(data=Raw(b"{}"))
RESULTS = {
    "duplicate": RpcResult(data=Raw(b'{"duplicate":true}')),
    "dropped": RpcResult(data=Raw(b'{"dropped":true}')),
}
"""What `tw.publish` answers where nothing was stored anew."""
NOT_JSON = ReplyError(errors.INTERNAL.code, "the method's answer is not JSON")


def publish(
    number: int,
    request: PublishRequest,
    party: Party,
    subscriptions: Subscriptions,
    key: str = "",
    method: str = "publish",
    demands: Demands | None = None,
) -> list[Effect] | Disconnect | TokensWanted:
    """Carry out a publish command; its answer comes from `published`, unless it is refused.

    `key` is one that `policies.publication_keys` passes; with the `method` rpc a call is answered.
    """
    channel = request.channel
    if not channel:
        return errors.BAD_PROTOCOL
    subscription = subscriptions.find(channel)
    data = bytes(request.data)
    namespace = _namespace_to_publish_in(channel, party, subscription)
    if isinstance(namespace, ReplyError):
        return [party.refuse(method, number, namespace)]
    problem = _data_problem(data, namespace, party)
    if problem is None and party.crowded:
        problem = errors.TOO_MANY_REQUESTS
    if problem is not None:
        return [party.refuse(method, number, problem)]
    limits = party.rules.limits
    verdict = limits.judge("publish", party, channel) if limits is not None else None
    if verdict is not None:
        return _not_now(verdict, method, number, party)
    party.owed += 1
    sender, profile = _sender(party, subscription), namespace.profile
    return [Publish((number,), channel, (data,), sender, party.started, key, method, profile, demands)]


def publish_all(
    commands: Sequence[Command], party: Party, subscriptions: Subscriptions
) -> list[Publish] | None:
    """Carry out commands that all publish, and in which nothing is wrong, as `publish` would one by one, at less cost.

    None where they are others. A channel is judged once for those that follow each other. Nothing is owed yet.
    """
    if len(commands) > party.room:
        return None
    effects: list[Publish] = []
    ids: list[int] = []
    payloads: list[bytes] = []
    channel = namespace = None
    started, user = party.started, party.user
    to_publish_in = party.rules.namespaces.to_publish_in
    for command in commands:
        request = command.publish
        if request is None or not command.id:
            return None
        if command.connect is not None or command.subscribe is not None or command.unsubscribe is not None:
            return None  # the first method that is present counts
        if namespace is None or request.channel != channel:
            channel, ids, payloads = request.channel, [], []
            subscription = subscriptions.find(channel)
            namespace = to_publish_in(channel, user, subscribed=subscription is not None)
            if isinstance(namespace, ReplyError):  # unless capabilities allow it
                namespace = _namespace_to_publish_in(channel, party, subscription)
                if isinstance(namespace, ReplyError):
                    return None
            must_be_json = not party.is_json and _must_be_json(namespace, party)
            sender = party.sender if subscription is None else _sender(party, subscription)
            profile = namespace.profile
            effects.append(Publish(ids, channel, payloads, sender, started, "", "publish", profile))
        data = bytes(request.data)
        if not data or (must_be_json and clean_json(data) is None):
            return None
        ids.append(command.id)
        payloads.append(data)
    return effects


def published(
    party: Party,
    numbers: Sequence[int],
    started: float,
    error: ReplyError | None,
    method: str = "publish",
    outcome: str = "stored",
) -> list[Effect]:
    """Take the result of `Publish`."""
    if error is not None:
        return [party.settle(method, started, Reply(id=number, error=error)) for number in numbers]
    if method == "rpc":
        result = RESULTS.get(outcome, DONE)
        return [party.settle(method, started, Reply(id=number, rpc=result)) for number in numbers]
    party.owed -= len(numbers)
    return [Published(numbers, started)]


def call(number: int, request: RpcRequest, party: Party) -> list[Effect] | Disconnect | TokensWanted:
    """Carry out an rpc command; its answer comes from `called`, unless it is refused."""
    problem = party.rules.rpc.may_call(request.method, party.user)
    if problem is None and party.crowded:
        problem = errors.TOO_MANY_REQUESTS
    if problem is not None:
        return [party.refuse("rpc", number, problem)]
    limits = party.rules.limits
    verdict = limits.judge("rpc", party, method=request.method) if limits is not None else None
    if verdict is not None:
        return _not_now(verdict, "rpc", number, party)
    party.owed += 1
    return [Call(number, request.method, bytes(request.data), party.started)]


def _not_now(
    verdict: ReplyError | Disconnect | TokensWanted, method: str, number: int, party: Party
) -> list[Effect] | Disconnect | TokensWanted:
    """Answer a command that rate limits refuse, or close the connection for it, or let it wait."""
    return [party.refuse(method, number, verdict)] if isinstance(verdict, ReplyError) else verdict


def called(party: Party, number: int, started: float, answer: bytes | ReplyError) -> Answer:
    """Take the result of `Call`; a JSON client can only be given an answer that is JSON."""
    if isinstance(answer, bytes) and party.is_json:
        answer = clean_json(answer or b"null") or NOT_JSON
    if isinstance(answer, ReplyError):
        reply = Reply(id=number, error=answer)
    else:
        reply = Reply(id=number, rpc=RpcResult(data=Raw(answer)))
    return party.settle("rpc", started, reply)


def send(request: SendRequest, party: Party) -> list[Effect] | Disconnect:
    """Carry out a send command, which has no answer."""
    return [Send(bytes(request.data))] if party.rules.may_send(party.user) else errors.NOT_AVAILABLE_CLOSE


def _namespace_to_publish_in(
    channel: str, party: Party, subscription: Subscription | None
) -> Namespace | ReplyError:
    """Return the channel's namespace, or why the client may not publish in it."""
    namespaces = party.rules.namespaces
    found = namespaces.to_publish_in(channel, party.user, subscribed=subscription is not None)
    if found is errors.PERMISSION_DENIED and _capable(channel, party, subscription):
        return namespaces.find(channel)
    return found


def _capable(channel: str, party: Party, subscription: Subscription | None) -> bool:
    if party.capabilities.allows(Capability.PUBLISH, channel):
        return True
    return subscription is not None and subscription.grant.capabilities.allows(Capability.PUBLISH, channel)


def _data_problem(data: bytes, namespace: Namespace, party: Party) -> ReplyError | None:
    if not data:
        return errors.BAD_REQUEST.saying("bad request: publish needs data")
    if _must_be_json(namespace, party) and clean_json(data) is None:
        return errors.BAD_REQUEST.saying("bad request: this namespace carries JSON data only")
    return None


def _must_be_json(namespace: Namespace, party: Party) -> bool:
    """Return whether data have to be checked: what a JSON client sends has come as JSON."""
    return not (party.is_json or namespace.binary)


def _sender(party: Party, subscription: Subscription | None) -> bytes:
    if subscription is None or not bytes(subscription.grant.info):
        return party.sender
    return msgspec.json.encode(msgspec.structs.replace(party.info, chan_info=subscription.grant.info))
