from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from tests.fakes.clock import ManualClock
from tests.fakes.core import Core
from tests.fakes.edge import OPEN, rules
from tests.support.protocol import protocol
from tidewire.edge import methods
from tidewire.edge.effects import Answer, Publish
from tidewire.edge.party import Party
from tidewire.edge.pending import Demands
from tidewire.edge.policies.claims import ConnectionClaims
from tidewire.edge.subscriptions import Subscriptions
from tidewire.edge.wire.commands import RpcRequest
from tidewire.kernel import errors
from tidewire.kernel.ids import ConnectionId

ANYTHING = {"enabled": True, "methods": [{"name": "*"}]}


def call(
    data: Any, *, method: str = "tw.publish", is_json: bool = True, user: str = "alice", **config: Any
) -> Publish | str:
    """What becomes of a call: what goes to the broker, or code and message of the error."""
    party = Party(ConnectionId("c1"), rules(ManualClock(), **config), is_json=is_json)
    party.identify(ConnectionClaims(user, Raw(b"{}")))
    payload = data if isinstance(data, bytes) else json.dumps(data).encode()
    request = RpcRequest(data=Raw(payload), method=method)
    effects = methods.call(9, request, party, Subscriptions(party))
    assert isinstance(effects, list)
    (effect,) = effects
    if isinstance(effect, Publish):
        assert party.owed == 1
        return effect
    assert isinstance(effect, Answer)
    assert effect.method == "rpc"
    assert effect.reply.error is not None
    return f"{effect.reply.error.code} {effect.reply.error.message}"


@protocol("rpc.tw_publish")
@pytest.mark.parametrize("is_json", [True, False])
def test_publication_with_a_key(is_json: bool) -> None:
    """In both formats, whatever the rights to methods are: it is a publication."""
    given = call({"channel": "chat:a", "data": {"t": [1]}, "key": "größe 1"}, is_json=is_json)
    assert isinstance(given, Publish)
    assert (given.channel, given.data, given.key, given.method) == (
        "chat:a",
        (b'{"t": [1]}',),
        "größe 1",
        "rpc",
    )
    assert json.loads(given.info)["user"] == "alice"
    for without in ({}, {"key": None}):
        given = call({"channel": "chat:a", "data": 0, **without}, is_json=is_json)
        assert isinstance(given, Publish)
        assert given.key == ""


@protocol("rpc.tw_publish", "error.102", "error.103", "error.107")
@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "107 bad request: tw.publish: expected an object of JSON with channel and data"),
        (b"{", "107 bad request: tw.publish: expected an object of JSON with channel and data"),
        (
            b'{"channel":"chat:a","data":1}x',
            "107 bad request: tw.publish: expected an object of JSON with channel and data",
        ),
        (b"[]", "107 bad request: tw.publish: Expected `object`, got `array`"),
        ({"data": 1}, "107 bad request: tw.publish: Object missing required field `channel`"),
        ({"channel": "", "data": 1}, "107 bad request: tw.publish: channel is empty"),
        (
            {"channel": 1, "data": 1},
            "107 bad request: tw.publish: Expected `str`, got `int` - at `$.channel`",
        ),
        (
            {"channel": "chat:a", "data": 1, "keys": "k"},
            "107 bad request: tw.publish: Object contains unknown field `keys`",
        ),
        ({"channel": "chat:a", "key": "k"}, "107 bad request: publish needs data"),
        ({"channel": "nope:a", "data": 1}, "102 unknown channel"),
        ({"channel": "closed:a", "data": 1}, "103 permission denied"),
        ({"channel": "chat:" + "x" * 300, "data": 1}, "107 bad request: channel over 255 bytes"),
        (
            {"channel": "raw:a", "data": 1},
            "107 bad request: tw.publish: it carries JSON, and the channel's namespace is binary",
        ),
        (
            {"channel": "chat:a", "data": 1, "key": ""},
            "107 bad request: tw.publish: a key has 1 to 256 bytes",
        ),
        (
            {"channel": "chat:a", "data": 1, "key": "a\r\nTw-V: 9"},
            "107 bad request: tw.publish: a key has no control characters, and no space at its ends",
        ),
        (
            {"channel": "chat:a", "data": 1, "key": 5},
            "107 bad request: tw.publish: Expected `str | null`, got `int` - at `$.key`",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_published_is_refused_with_its_reason(data: Any, error: str) -> None:
    """As for `publish`, and what is the method's own."""
    assert call(data) == error


def test_error_does_not_repeat_a_long_name() -> None:
    """The client made it up."""
    error = call({"channel": "chat:a", "data": 1, "x" * 10_000: 1})
    assert isinstance(error, str)
    assert len(error) < 300


@protocol("error.104", "rpc.tw_publish")
@pytest.mark.parametrize("method", ["tw.", "tw.publish2", "tw.Publish", "tw.history"])
def test_other_methods_of_ours_are_not_found(method: str) -> None:
    """They never reach a responder, though it may answer every method."""
    assert call({}, method=method, rpc=ANYTHING) == "104 method not found"


@protocol("rpc.tw_publish", "error.111", "error.100")
def test_answer_is_that_of_the_broker() -> None:
    """As a result of a call, when the publication is acknowledged; its trace, turn and bound are those of `publish`."""
    core = Core(client={"inflight_limit": 2})
    client = core.client()
    said = {"method": "tw.publish", "data": {"channel": "chat:a", "data": 1, "key": "k"}}
    client.say({"id": 3, "rpc": said}, {"id": 4, "publish": {"channel": "chat:a", "data": 2}})
    assert (client.heard(), core.broker.keys, core.broker.calls) == ([], ["k", ""], [])
    client.say({"id": 5, "rpc": said})
    assert client.heard()[0]["error"]["code"] == 111
    core.broker.published[0][3](None)
    assert client.heard() == [{"id": 3, "rpc": {"data": {}}}]
    core.broker.published[1][3](None)
    assert client.heard() == [{"id": 4, "publish": {}}]
    client.say({"id": 6, "rpc": said})
    core.broker.published[2][3](errors.INTERNAL)
    assert client.heard()[0]["error"]["code"] == 100
    core.broker.refuses = errors.INTERNAL
    client.say({"id": 7, "rpc": said})
    assert client.heard()[0]["error"]["code"] == 100
    assert [(method, code) for method, code, *_ in core.metrics.of("command")[1:]] == [
        ("rpc", 111),
        ("rpc", 0),
        ("publish", 0),
        ("rpc", 100),
        ("rpc", 100),
    ]


@given(
    st.one_of(st.binary(max_size=60), st.dictionaries(st.sampled_from(["channel", "data", "key"]), st.text()))
)
def test_any_data_get_a_verdict(data: Any) -> None:
    """And no key that passes can end a header."""
    for is_json in (True, False):
        given = call(data, is_json=is_json)
        if isinstance(given, Publish):
            assert not set(given.key) & {"\r", "\n", "\0"}


HISTORY = {"history_size": 10, "history_ttl": "1m"}
STORAGE = {
    "channel": {
        "namespaces": [
            {"name": "chat", **OPEN},
            {"name": "kept", **OPEN, **HISTORY, "allow_publish_for_anonymous": True},
            {"name": "brief", **OPEN, **HISTORY, "storage_profile": "brief"},
        ]
    },
    "storage": {"profiles": [{"name": "default"}, {"name": "brief", "message_ttl": True}]},
}


@protocol("rpc.tw_publish")
def test_what_it_asks_of_jetstream() -> None:
    """In namespaces with history; a TTL where the profile has it."""
    asked = {"idempotency_key": "k \u00e9", "version": 7, "version_epoch": "e-1", "ttl": 60}
    given = call({"channel": "brief:a", "data": 1, **asked}, **STORAGE)
    assert isinstance(given, Publish)
    assert given.demands == Demands("k \u00e9", 7, "e-1", 60)
    assert given.profile == "brief"
    plain = call({"channel": "kept:a", "data": 1, "ttl": None}, **STORAGE)
    assert isinstance(plain, Publish)
    assert (plain.demands, plain.profile) == (None, "default")


NO_HISTORY = "idempotency_key, version and ttl need a namespace with history"


@protocol("rpc.tw_publish", "error.107")
@pytest.mark.parametrize(
    ("channel", "asked", "why"),
    [
        ("chat:a", {"idempotency_key": "k"}, NO_HISTORY),
        ("chat:a", {"version": 1}, NO_HISTORY),
        ("chat:a", {"ttl": 1}, NO_HISTORY),
        ("kept:a", {"idempotency_key": ""}, "an idempotency_key has 1 to 256 bytes"),
        ("kept:a", {"idempotency_key": "k" * 257}, "an idempotency_key has 1 to 256 bytes"),
        ("kept:a", {"version": 0}, "version is a whole number from 1 to 2^53 - 1"),
        ("kept:a", {"version": 2**53}, "version is a whole number from 1 to 2^53 - 1"),
        ("kept:a", {"version": 1.5}, "Expected `int | null`, got `float` - at `$.version`"),
        ("kept:a", {"version_epoch": "e"}, "version_epoch needs a version"),
        (
            "kept:a",
            {"version": 1, "version_epoch": "a\r\nNats-Rollup: all"},
            "a version_epoch has 1 to 64 letters, digits, - and _",
        ),
        (
            "kept:a",
            {"version": 1, "version_epoch": ""},
            "a version_epoch has 1 to 64 letters, digits, - and _",
        ),
        ("kept:a", {"ttl": 1}, "ttl needs a storage profile with message_ttl, and the namespace's has none"),
        ("brief:a", {"ttl": 0}, "ttl is a whole number of seconds, 1 to 31536000"),
        ("brief:a", {"ttl": 31536001}, "ttl is a whole number of seconds, 1 to 31536000"),
        ("brief:a", {"ttl": True}, "Expected `int | null`, got `bool` - at `$.ttl`"),
    ],
    ids=str,
)
def test_what_it_cannot_ask_of_jetstream(channel: str, asked: dict[str, Any], why: str) -> None:
    """Each with its reason."""
    assert call({"channel": channel, "data": 1, **asked}, **STORAGE) == f"107 bad request: tw.publish: {why}"


def test_a_key_needs_a_user() -> None:
    """Clients without one would swallow each other's publications."""
    given = call({"channel": "kept:a", "data": 1, "idempotency_key": "k"}, user="", **STORAGE)
    assert given == (
        "107 bad request: tw.publish: an idempotency_key belongs to a user, and this client has no user id"
    )
