from __future__ import annotations

import time
from typing import Any

import jwt
import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.edge import KEY, edge_config
from tidewire.edge.policies.claims import ConnectionClaims, SubscriptionClaims
from tidewire.edge.policies.issuer import DEFAULT_TTL, NoKeyError, TokenIssuer
from tidewire.edge.policies.key_cache import KeyCache
from tidewire.edge.policies.tokens import TokenVerifier

KEYS = [{"kid": "k1", "secret": "a" * 32, "algorithms": ["HS512"]}, {"kid": "k2", "secret": "b" * 32}]


def config(**settings: Any) -> Any:
    """Token settings; `KEY` unless told otherwise."""
    return edge_config(client={"token": {"hmac_secret_key": KEY, **settings}}).client.token


def test_what_it_signs_the_same_configuration_accepts() -> None:
    """With audience, issuer, information and an end."""
    settings = config(audience="mesh", issuer="backend")
    client = edge_config(
        client={"token": {"hmac_secret_key": KEY, "audience": "mesh", "issuer": "backend"}}
    ).client
    verifier = TokenVerifier(client, ManualClock(time.time()), KeyCache())
    claims = verifier.connection(TokenIssuer(settings).connection("alice", 60, {"a": 1}))
    assert isinstance(claims, ConnectionClaims)
    assert (claims.user, bytes(claims.info)) == ("alice", b'{"a":1}')
    assert 50 <= claims.expires_at - time.time() <= 61
    subscription = verifier.subscription(TokenIssuer(settings).subscription("alice", "chat:a"))
    assert isinstance(subscription, SubscriptionClaims)
    assert (subscription.user, subscription.channel) == ("alice", "chat:a")


@pytest.mark.parametrize(("ttl", "expected"), [(60, 60), (0.2, 1), (DEFAULT_TTL, 86_400)])
def test_life_is_whole_seconds_and_at_least_one(ttl: float, expected: int) -> None:
    """A token that is dead at birth would help nobody."""
    claims = jwt.decode(TokenIssuer(config()).connection("alice", ttl), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == expected


def test_ttl_zero_is_without_an_end() -> None:
    """The claim is left out, not set to 0, which would be long past."""
    claims = jwt.decode(TokenIssuer(config()).connection("alice", 0), options={"verify_signature": False})
    assert "exp" not in claims
    assert "info" not in claims


def test_key_is_the_named_one_else_the_main_one_else_the_first() -> None:
    """With the algorithm that the key is for."""
    issuer = TokenIssuer(config(hmac_keys=KEYS, algorithms=["HS384"]))
    headers = [jwt.get_unverified_header(issuer.connection("alice", kid=kid)) for kid in (None, "k1", "k2")]
    assert [(header.get("kid"), header["alg"]) for header in headers] == [
        (None, "HS384"),
        ("k1", "HS512"),
        ("k2", "HS256"),
    ]
    first = TokenIssuer(config(hmac_secret_key="", hmac_keys=KEYS)).connection("alice")
    assert jwt.get_unverified_header(first)["kid"] == "k1"


def test_missing_keys_are_named_and_secrets_are_not() -> None:
    """The error says which setting would help."""
    with pytest.raises(NoKeyError) as unknown:
        TokenIssuer(config(hmac_keys=KEYS)).connection("alice", kid="k9")
    assert unknown.value.setting == "client.token.hmac_keys"
    assert "k1, k2" in str(unknown.value)
    assert "a" * 32 not in str(unknown.value)
    anonymous = edge_config(client={"token": {}, "allow_anonymous_connect_without_token": True})
    with pytest.raises(NoKeyError) as none:
        TokenIssuer(anonymous.client.token).connection("alice")
    assert none.value.setting == "client.token.hmac_secret_key"
