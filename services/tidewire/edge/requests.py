"""What a client sends to others: publications, calls of application methods, and one-way messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from tidewire.edge.effects import Answer, Call, Effect, Publish, Send
from tidewire.edge.policies.capabilities import Capability
from tidewire.edge.policies.permissions import Namespace
from tidewire.edge.wire.json_codec import clean_json
from tidewire.edge.wire.replies import PublishResult, Reply, RpcResult
from tidewire.kernel import errors
from tidewire.kernel.errors import Disconnect, ReplyError

if TYPE_CHECKING:
    from tidewire.edge.party import Party
    from tidewire.edge.subscriptions import Subscription, Subscriptions
    from tidewire.edge.wire.commands import PublishRequest, RpcRequest, SendRequest

PUBLISHED = PublishResult()
DONE = RpcResult(data=Raw(b"{}"))
NOT_JSON = ReplyError(errors.INTERNAL.code, "the method's answer is not JSON")


def publish(
    number: int,
    request: PublishRequest,
    party: Party,
    subscriptions: Subscriptions,
    key: str = "",
    method: str = "publish",
) -> list[Effect] | Disconnect:
    """Carry out a publish command; its answer comes from `published`, unless it is refused.

    `key` is one that `policies.publication_keys` passes; with the `method` rpc a call is answered.
    """
    channel = request.channel
    if not channel:
        return errors.BAD_PROTOCOL
    subscription = subscriptions.find(channel)
    data = bytes(request.data)
    problem = _publish_problem(channel, data, party, subscription)
    if problem is None and party.crowded:
        problem = errors.TOO_MANY_REQUESTS
    if problem is not None:
        return [party.refuse(method, number, problem)]
    party.owed += 1
    return [Publish(number, channel, data, _sender(party, subscription), party.started, key, method)]


def published(
    party: Party, number: int, started: float, error: ReplyError | None, method: str = "publish"
) -> Answer:
    """Take the result of `Publish`."""
    if error is not None:
        reply = Reply(id=number, error=error)
    elif method == "rpc":
        reply = Reply(id=number, rpc=DONE)
    else:
        reply = Reply(id=number, publish=PUBLISHED)
    return party.settle(method, started, reply)


def call(number: int, request: RpcRequest, party: Party) -> list[Effect]:
    """Carry out an rpc command; its answer comes from `called`, unless it is refused."""
    problem = party.rules.rpc.may_call(request.method, party.user)
    if problem is None and party.crowded:
        problem = errors.TOO_MANY_REQUESTS
    if problem is not None:
        return [party.refuse("rpc", number, problem)]
    party.owed += 1
    return [Call(number, request.method, bytes(request.data), party.started)]


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


def _publish_problem(
    channel: str, data: bytes, party: Party, subscription: Subscription | None
) -> ReplyError | None:
    namespace = party.rules.namespaces.find(channel)
    if not isinstance(namespace, Namespace):
        return namespace
    problem = namespace.may_publish(channel, party.user, subscribed=subscription is not None)
    if problem is errors.PERMISSION_DENIED and _capable(channel, party, subscription):
        problem = None
    return problem or _data_problem(data, namespace, party)


def _capable(channel: str, party: Party, subscription: Subscription | None) -> bool:
    if party.capabilities.allows(Capability.PUBLISH, channel):
        return True
    return subscription is not None and subscription.grant.capabilities.allows(Capability.PUBLISH, channel)


def _data_problem(data: bytes, namespace: Namespace, party: Party) -> ReplyError | None:
    if not data:
        return errors.BAD_REQUEST.saying("bad request: publish needs data")
    if not party.is_json and not namespace.binary and clean_json(data) is None:
        return errors.BAD_REQUEST.saying("bad request: this namespace carries JSON data only")
    return None


def _sender(party: Party, subscription: Subscription | None) -> bytes:
    if subscription is None or not bytes(subscription.grant.info):
        return party.sender
    return msgspec.json.encode(msgspec.structs.replace(party.info, chan_info=subscription.grant.info))
