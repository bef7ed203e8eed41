from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.config import KEY, client, problems, token
from tests.support.keys import pem
from tidewire.edge.config import EdgeConfig
from tidewire.kernel.config import decode

SECRET = "x" * 32
NO_KEY = "client.subscription_token: has no key: give it one, or remove it to have client.token serve both kinds of token"
A, B = "https://a.example/", "https://b.example/"


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            token(hmac_secret_key="k" * 31),
            "client.token.hmac_secret_key: has 31 bytes: a key needs at least 32, random ones",
        ),
        (
            token(hmac_secret_key=pem("RSA")),
            "client.token.hmac_secret_key: is a public key or certificate, no secret: use public_keys",
        ),
        (
            token(hmac_keys=[{"kid": "a", "secret": SECRET}, {"kid": "a", "secret": SECRET}]),
            "client.token.hmac_keys[1].kid: 'a' is hmac_keys[0] already",
        ),
        (
            token(hmac_secret_key=SECRET, algorithms=["none"]),
            "client.token.algorithms[0]: expected one of HS256, HS384, HS512, got 'none'",
        ),
        (token(hmac_secret_key=SECRET, algorithms=[]), "client.token.algorithms: expected at least 1 item"),
        (
            token(public_keys=[{"key": pem("P-256")}, {"key": pem("RSA")}, {"key": pem("P-256", 1)}]),
            "client.token.public_keys[2].kid: public_keys[0] has the kid '' for the same algorithm already",
        ),
        (
            token(
                public_keys=[
                    {"kid": "k", "key": pem("RSA"), "algorithms": ["RS256"]},
                    {"kid": "k", "key": pem("RSA", 1)},
                ]
            ),
            "client.token.public_keys[1].kid: public_keys[0] has the kid 'k' for the same algorithm already",
        ),
        (
            token(jwks=[{"url": A, "issuer": "a"}, {"url": A, "issuer": "b"}]),
            f"client.token.jwks[1].url: '{A}' is jwks[0] already",
        ),
        (
            token(jwks=[{"url": A, "issuer": "a"}, {"url": B}]),
            "client.token.jwks[1].issuer: is empty: with several key sets each must name its issuer",
        ),
        (
            token(jwks=[{"url": f"{A}{number}", "issuer": "a"} for number in range(9)]),
            "client.token.jwks: expected at most 8",
        ),
        (
            client(subscription_token={"audience": "a"}),
            NO_KEY,
        ),
        (
            client(subscription_token={"hmac_secret_key": "short"}),
            "client.subscription_token.hmac_secret_key: has 5 bytes: a key needs at least 32, random ones",
        ),
        (client(subscription_token={"cookie": "a"}), "client.subscription_token.cookie: unknown setting"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rules_are_checked(config: Mapping[str, object], line: str) -> None:
    """Each rule between the settings of tokens has its problem."""
    assert problems(config) == [line]


def test_keys_of_different_kinds_may_share_a_kid() -> None:
    """Also the empty one: the algorithm tells them apart."""
    keys = [
        {"kid": "k", "key": pem("RSA"), "algorithms": ["RS256"]},
        {"kid": "k", "key": pem("RSA", 1), "algorithms": ["PS256"]},
        {"kid": "k", "key": pem("Ed25519")},
        {"key": pem("RSA")},
        {"key": pem("P-256")},
    ]
    assert (
        len(decode(EdgeConfig, token(hmac_secret_key=SECRET, public_keys=keys)).client.token.public_keys) == 5
    )


def test_without_keys_of_their_own_subscription_tokens_have_those_of_connections() -> None:
    """An absent section and an empty one are the same."""
    for config in (KEY, client(subscription_token={})):
        assert not decode(EdgeConfig, config).client.subscription_token.trusts_someone


def test_cookie_is_a_setting() -> None:
    """Of connection tokens."""
    assert (
        decode(EdgeConfig, token(hmac_secret_key=SECRET, cookie="session")).client.token.cookie == "session"
    )
