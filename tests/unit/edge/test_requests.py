from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from tests.fakes.clock import ManualClock
from tests.fakes.edge import believing, rules
from tests.support.protocol import protocol
from tidewire.edge import requests
from tidewire.edge.effects import Answer, Call, Publish, Published, Send
from tidewire.edge.party import Party
from tidewire.edge.policies.capabilities import Capabilities, Capability, Entry, Match
from tidewire.edge.policies.claims import ConnectionClaims, SubscriptionClaims
from tidewire.edge.subscriptions import Subscriptions
from tidewire.edge.wire.commands import PublishRequest, RpcRequest, SendRequest, SubscribeRequest
from tidewire.kernel import errors
from tidewire.kernel.errors import Disconnect
from tidewire.kernel.ids import ConnectionId

RPC = {"enabled": True, "methods": [{"name": "*"}]}
PUB = frozenset([Capability.PUBLISH])


class Speaker:
    """A client that sends, with these capabilities on its connection; `token` is what the subscription token `t` says."""

    def __init__(
        self,
        *entries: Entry,
        user: str = "alice",
        is_json: bool = True,
        token: SubscriptionClaims | None = None,
        **config: Any,
    ) -> None:
        made = rules(ManualClock(), **config)
        believing(made, t=token)
        self.party = Party(ConnectionId("c1"), made, is_json=is_json)
        self.party.identify(ConnectionClaims(user, Raw(b'{"n":1}'), capabilities=Capabilities(entries)))
        self.subscriptions = Subscriptions(self.party)

    def subscribed(self, channel: str, token: str = "t") -> Speaker:
        """With a subscription that is still on its way, which is enough."""
        self.subscriptions.subscribe(1, SubscribeRequest(channel=channel, token=token))
        assert channel in self.subscriptions
        return self

    def publish(self, channel: str = "chat:a", data: bytes = b"{}") -> int:
        """Publish; the code of the error, 0 where it goes to the broker."""
        request = PublishRequest(channel=channel, data=Raw(data))
        effects = requests.publish(9, request, self.party, self.subscriptions)
        assert isinstance(effects, list)
        (effect,) = effects
        return 0 if isinstance(effect, Publish) else code(effect)


def code(effect: Any) -> int:
    """The code of an error reply, 0 for a result."""
    assert isinstance(effect, Answer)
    return effect.reply.error.code if effect.reply.error is not None else 0


def may(channel: str, *allow: Capability, match: Match = Match.EXACT) -> Entry:
    """One entry of the claim `caps`."""
    return Entry(frozenset([channel]), frozenset(allow), match)


# Publish.


@protocol("command.publish", "error.103")
def test_capability_lets_its_bearer_publish_where_nobody_may() -> None:
    """`pub` on that channel and nothing else; `$` and `#` channels must be named."""
    assert Speaker().publish("closed:a") == 103
    assert Speaker(may("closed:a", Capability.PUBLISH)).publish("closed:a") == 0
    assert Speaker(may("closed:a", Capability.PUBLISH), user="").publish("closed:a") == 0
    assert Speaker(may("closed:a", Capability.PUBLISH)).publish("closed:b") == 103
    assert Speaker(may("closed:a", Capability.SUBSCRIBE)).publish("closed:a") == 103
    everywhere = Speaker(may("*", Capability.PUBLISH, match=Match.WILDCARD))
    assert everywhere.publish("closed:a") == 0
    assert everywhere.publish("$closed:a") == 103
    assert everywhere.publish("closed:a#bob") == 103
    assert Speaker(may("$closed:a", Capability.PUBLISH)).publish("$closed:a") == 0


@protocol("command.publish", "token.subscription")
def test_subscription_token_lets_its_bearer_publish_on_its_channel() -> None:
    """By its claim `allow`, while the subscription lasts."""
    rights = SubscriptionClaims("alice", "closed:a", capabilities=Capabilities.on("closed:a", PUB))
    speaker = Speaker(token=rights)
    assert speaker.publish("closed:a") == 103
    speaker.subscribed("closed:a")
    assert speaker.publish("closed:a") == 0
    assert speaker.publish("closed:b") == 103
    speaker.subscriptions.end("closed:a", errors.UNSUBSCRIBED_BY_SERVER)
    assert speaker.publish("closed:a") == 103


def test_subscription_token_without_that_right_does_not() -> None:
    """None, or another one."""
    for allow in (frozenset[Capability](), frozenset([Capability.HISTORY])):
        claims = SubscriptionClaims("alice", "closed:a", capabilities=Capabilities.on("closed:a", allow))
        assert Speaker(token=claims).subscribed("closed:a").publish("closed:a") == 103


@protocol("channel.wildcard", "error.107")
def test_wildcards_are_no_channels_to_publish_in() -> None:
    """No right changes that; nor does the subscription to a pattern let one publish in what it covers."""
    rights = Capabilities.on("locked:*", PUB)
    speaker = Speaker(
        may("locked:*", Capability.PUBLISH),
        token=SubscriptionClaims("alice", "locked:*", capabilities=rights),
    ).subscribed("locked:*")
    assert speaker.publish("locked:*") == 107
    assert speaker.publish("locked:a") == 103
    assert Speaker().publish("stocks:a*b") == 107
    assert Speaker().publish("chat:a*b") == 0


@protocol("channel.namespace", "error.102", "error.107", "channel.binary")
def test_capability_opens_no_channel_that_cannot_be_and_carries_no_bad_data() -> None:
    """The namespace comes first, the data last."""
    everywhere = may("*", Capability.PUBLISH, match=Match.WILDCARD)
    assert Speaker(everywhere).publish("nope:a") == 102
    assert Speaker(everywhere).publish("chat:") == 107
    assert Speaker(everywhere).publish("closed:a", b"") == 107
    assert Speaker(everywhere, is_json=False).publish("closed:a", b"\xff") == 107
    assert Speaker(everywhere, is_json=False).publish("raw:a", b"\xff") == 0


@protocol("publish.info")
def test_publication_says_who_made_it() -> None:
    """The connection's info, and the channel's where a subscription brought some."""
    claims = SubscriptionClaims("alice", "chat:a", info=Raw(b'{"seat":4}'))
    speaker = Speaker(token=claims)
    for channel_info in ({}, {"chan_info": {"seat": 4}}):
        request = PublishRequest(channel="chat:a", data=Raw(b"1"))
        (effect,) = requests.publish(9, request, speaker.party, speaker.subscriptions)  # type: ignore[misc]
        assert isinstance(effect, Publish)
        assert json.loads(effect.info) == {
            "user": "alice",
            "client": "c1",
            "conn_info": {"n": 1},
            **channel_info,
        }
        speaker.subscribed("chat:a")


@protocol("error.111", "channel.empty")
def test_what_waits_is_bounded_and_a_refusal_comes_first() -> None:
    """A client learns that it may not before it learns that it must wait; an empty channel closes."""
    speaker = Speaker(client={"inflight_limit": 1})
    assert speaker.publish() == 0
    assert speaker.publish() == 111
    assert speaker.publish("closed:a") == 103
    assert requests.published(speaker.party, [9], 0.0, None) == [Published([9], 0.0)]
    assert speaker.publish() == 0
    empty = requests.publish(9, PublishRequest(data=Raw(b"1")), speaker.party, speaker.subscriptions)
    assert empty == errors.BAD_PROTOCOL


# Calls and messages.


@protocol("command.rpc", "error.111", "error.108")
def test_calls_wait_within_the_bound_and_are_paid_back() -> None:
    """By an answer and by an error alike."""
    speaker = Speaker(client={"inflight_limit": 1}, rpc=RPC)
    (call,) = requests.call(9, RpcRequest(method="m"), speaker.party)
    assert isinstance(call, Call)
    assert code(requests.call(9, RpcRequest(method="m"), speaker.party)[0]) == 111
    assert code(requests.called(speaker.party, 9, 0.0, errors.METHOD_NOT_FOUND)) == 104
    assert isinstance(requests.call(9, RpcRequest(method="m"), speaker.party)[0], Call)
    assert code(requests.called(speaker.party, 9, 0.0, b"1")) == 0
    assert speaker.party.owed == 0
    assert code(requests.call(9, RpcRequest(method="m"), Speaker().party)[0]) == 108


@protocol("command.rpc")
@pytest.mark.parametrize(("is_json", "expected"), [(True, 100), (False, 0)])
def test_answer_that_is_no_json_is_for_protobuf_clients(is_json: bool, expected: int) -> None:
    """Their payloads are bytes."""
    assert code(requests.called(Speaker(is_json=is_json).party, 9, 0.0, b"\xff")) == expected


@protocol("command.send", "disconnect.3508")
def test_messages_are_passed_on_where_they_are_taken() -> None:
    """Nobody could be told of an error."""
    assert requests.send(SendRequest(data=Raw(b"1")), Speaker(send={"enabled": True}).party) == [Send(b"1")]
    refused = requests.send(SendRequest(data=Raw(b"1")), Speaker().party)
    assert isinstance(refused, Disconnect)
    assert refused.code == 3508
