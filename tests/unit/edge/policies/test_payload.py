from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from msgspec import Raw

from tests.support.protocol import protocol
from tidewire.edge.policies.capabilities import Capability
from tidewire.edge.policies.claims import ConnectionClaims, Override, ServerSubscription, SubscriptionClaims
from tidewire.edge.policies.payload import (
    MOST_SUBSCRIPTIONS,
    connection_claims,
    read_payload,
    subscription_claims,
)
from tidewire.edge.policies.verdicts import Refused


def connection(leeway: float = 0, **claims: Any) -> ConnectionClaims:
    """What a connection token of alice with these claims says."""
    return connection_claims(read_payload(json.dumps({"sub": "alice", **claims}).encode()), leeway)


def subscription(leeway: float = 0, **claims: Any) -> SubscriptionClaims:
    """What a subscription token of alice for `$chat:a` with these claims says."""
    text = json.dumps({"sub": "alice", "channel": "$chat:a", **claims}).encode()
    return subscription_claims(read_payload(text), leeway)


def why(**claims: Any) -> str:
    """Why a connection token with these claims is refused."""
    with pytest.raises(Refused) as refused:
        connection(**claims)
    return refused.value.why


def b64(text: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(text).decode()


@protocol("token.claims")
def test_a_token_that_says_only_who() -> None:
    """Everything else has a default; a token without `sub` is anonymous."""
    assert connection() == ConnectionClaims("alice")
    assert connection_claims(read_payload(b"{}"), 0) == ConnectionClaims("")
    assert subscription() == SubscriptionClaims("alice", "$chat:a")


@protocol("token.claims")
def test_id_is_the_claim_jti() -> None:
    """In both kinds."""
    assert connection(jti="t1").id == "t1"
    assert subscription(jti="t2").id == "t2"


@protocol("token.claims", "token.expire_at")
@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, 0),
        ({"exp": 100}, 110),
        ({"exp": 100.2}, 111),
        ({"exp": 100, "expire_at": 500}, 500),
        ({"exp": 100, "expire_at": 0}, 0),
        ({"expire_at": 7.5}, 8),
        ({"exp": 100, "expire_at": None}, 110),
    ],
)
def test_when_it_ends(claims: dict[str, Any], expected: int) -> None:
    """`exp` with the leeway, unless `expire_at` says otherwise; the same for connections and subscriptions."""
    assert connection(10, **claims).expires_at == expected
    assert subscription(10, **claims).expires_at == expected


@protocol("token.base64")
def test_base64_info_goes_first() -> None:
    """And reaches the others as one line of JSON."""
    assert bytes(connection(b64info=b64(b'{"a":\n [1]}'), info={"b": 2}).info) == b'{"a":[1]}'
    assert bytes(subscription(b64info=b64(b'"x"')).info) == b'"x"'
    assert bytes(connection(b64info="", info=[1]).info) == b"[1]"
    assert bytes(connection(info=None).info) == b""


@protocol("token.base64")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not base64!", "info: not base64"),
        ("e30", "info: not base64"),
        ("e3-_", "info: not base64"),
        ("!e30=", "info: not base64"),
        ("e30=\n", "info: not base64"),
        ("é", "info: not base64"),
        (b64(b"\x00\xff"), "info: the base64 holds no JSON"),
        (b64(b"{"), "info: the base64 holds no JSON"),
        (b64(b"[" * 500 + b"]" * 500), "info: the base64 holds no JSON"),
        (b64(b"{} {}"), "info: the base64 holds no JSON"),
        (b64(b"1e999"), "info: Number out of range"),
    ],
)
def test_base64_of_anything_else(text: str, reason: str) -> None:
    """Decision 10: it would end the connections of those who see it."""
    assert why(b64info=text) == reason
    assert why(subs={"a": {"b64info": text}}) == f"subs: {reason}"
    assert why(subs={"a": {"b64data": text}}) == f"subs: {reason.replace('info', 'data')}"


@protocol("token.base64")
def test_channels_and_subs_are_merged() -> None:
    """`subs` says more about a channel, so it wins."""
    subs = {
        "b": {"info": {"i": 1}, "b64data": b64(b"[2]"), "override": {"force_recovery": {"value": True}}},
        "c": {},
    }
    found = connection(channels=["a", "b", "a"], subs=subs).subs
    assert list(found) == ["a", "b", "c"]
    assert found["a"] == found["c"] == ServerSubscription()
    assert (bytes(found["b"].info), bytes(found["b"].data)) == (b'{"i":1}', b"[2]")
    assert found["b"].override == Override(force_recovery=True)
    assert connection(channels=None, subs=None).subs == {}


OVERRIDES = ["presence", "join_leave", "force_push_join_leave", "force_recovery", "force_positioning"]


@protocol("token.claims")
@pytest.mark.parametrize("name", OVERRIDES)
@pytest.mark.parametrize("value", [True, False])
def test_overrides(name: str, value: bool) -> None:
    """Each by itself, in both kinds of token; what is not there is left as the namespace has it."""
    claim = {
        name: {"value": value},
        "unknown": {"value": 1},
        **({} if name == "presence" else {"presence": None}),
    }
    expected = Override(**{name: value})
    assert connection(subs={"a": {"override": claim}}).subs["a"].override == expected
    assert subscription(override=claim).override == expected


@protocol("token.claims")
def test_capabilities_of_both_kinds() -> None:
    """`caps` for a connection, `allow` for the channel of a subscription."""
    caps = connection(caps=[{"channels": ["a"], "allow": ["sub", "hst"]}]).capabilities
    assert caps.allows(Capability.HISTORY, "a")
    assert not caps.allows(Capability.PUBLISH, "a")
    allowed = subscription(allow=["pub"]).capabilities
    assert allowed.allows(Capability.PUBLISH, "$chat:a")
    assert not allowed.allows(Capability.SUBSCRIBE, "$chat:a")
    assert not connection(caps=[]).capabilities.allows(Capability.SUBSCRIBE, "a")
    assert not connection(caps=None).capabilities.allows(Capability.SUBSCRIBE, "a")
    assert not subscription(caps=[{"channels": ["b"], "allow": ["sub"]}]).capabilities.entries


@protocol("token.invalid")
@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"sub": 7}, "claims: Expected `str`, got `int` - at `$.sub`"),
        ({"jti": 7}, "claims: Expected `str`, got `int` - at `$.jti`"),
        ({"channels": "a"}, "claims: Expected `array | null`, got `str` - at `$.channels`"),
        ({"channels": [1]}, "claims: Expected `str`, got `int` - at `$.channels[0]`"),
        ({"channels": [""]}, "channels and subs: an empty channel"),
        ({"subs": {"": {}}}, "channels and subs: an empty channel"),
        ({"subs": ["a"]}, "claims: Expected `object | null`, got `array` - at `$.subs`"),
        ({"subs": {"a": None}}, "claims: Expected `object`, got `null` - at `$.subs[...]`"),
        (
            {"subs": {"a": {"override": {"presence": True}}}},
            "claims: Expected `object | null`, got `bool` - at `$.subs[...].override.presence`",
        ),
        (
            {"subs": {"a": {"override": {"presence": {}}}}},
            "claims: Object missing required field `value` - at `$.subs[...].override.presence`",
        ),
        (
            {"channels": [str(number) for number in range(MOST_SUBSCRIPTIONS + 1)]},
            f"channels and subs: over {MOST_SUBSCRIPTIONS} channels",
        ),
        ({"caps": [{"channels": ["a"]}]}, "claims: Object missing required field `allow` - at `$.caps[0]`"),
        (
            {"caps": [{"channels": ["a"], "allow": ["all"]}]},
            "claims: Invalid enum value 'all' - at `$.caps[0].allow[0]`",
        ),
        (
            {"caps": [{"channels": ["a"], "allow": [], "match": "glob"}]},
            "claims: Invalid enum value 'glob' - at `$.caps[0].match`",
        ),
        (
            {"caps": [{"channels": ["("], "allow": [], "match": "regex"}]},
            "caps: no regular expression: missing ): (",
        ),
        ({"channel": "a"}, "a subscription token: it has the claim channel"),
    ],
)
def test_claims_that_make_a_token_invalid(claims: dict[str, Any], reason: str) -> None:
    """Each says which claim it was; nothing is half believed."""
    assert why(**claims) == reason


def test_as_many_subscriptions_as_allowed() -> None:
    """The bound itself."""
    assert (
        len(connection(channels=[str(number) for number in range(MOST_SUBSCRIPTIONS)]).subs)
        == MOST_SUBSCRIPTIONS
    )


def test_claims_are_detached_from_the_token() -> None:
    """A session keeps its info for hours, and not the whole token with it."""
    info = connection(info=[1]).info
    assert isinstance(info, Raw)
    assert len(bytes(memoryview(info))) == 3
