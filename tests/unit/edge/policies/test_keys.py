from __future__ import annotations

from typing import Any

import pytest

from tests.support.keys import jwk, jwks, pem
from tests.support.protocol import protocol
from tidewire.edge.config import TokenConfig
from tidewire.edge.policies.jwks import read_set
from tidewire.edge.policies.key_cache import KeyCache
from tidewire.edge.policies.keys import Key, KeyRing
from tidewire.edge.policies.verdicts import KeyWanted, Refused, TokenProblem, shown
from tidewire.kernel.config import decode

SECRET = "s" * 32
A, B, C = (f"https://{name}.example/keys" for name in "abc")
BOTH = [{"url": A, "issuer": "a"}, {"url": B, "issuer": "b"}]


class Ring:
    """A ring of these settings, and a way to put keys in its cache."""

    def __init__(self, **settings: Any) -> None:
        config = decode(TokenConfig, settings)
        self.cache = KeyCache(lambda: 0.0)
        self.cache.use(config.jwks)
        self.ring = KeyRing(config, self.cache)

    def holds(self, url: str, *keys: dict[str, Any]) -> Ring:
        """Have the URL's set fetched at time 0."""
        source = self.cache.sources[url]
        source.begin(0)
        source.took(read_set(jwks(*keys)), 0)
        return self

    def find(
        self, kid: str, algorithm: str, issuer: object = None, now: float = 1
    ) -> list[str] | KeyWanted | TokenProblem:
        """Return the issuers of the keys found, or what else came."""
        try:
            found = self.ring.find(kid, algorithm, issuer, now)
        except Refused as refused:
            return refused.problem
        return found if isinstance(found, KeyWanted) else [key.issuer for key in found]


@protocol("token.public", "token.kid")
def test_configured_keys_are_found_by_kid_and_algorithm() -> None:
    """Keys of different kinds may share a kid, and no algorithm reaches another's key."""
    ring = Ring(
        hmac_secret_key=SECRET,
        hmac_keys=[{"kid": "k", "secret": SECRET}],
        public_keys=[
            {"key": pem("RSA")},
            {"key": pem("P-256"), "kid": ""},
            {"key": pem("P-256", 1), "kid": "k", "algorithms": ["ES256"]},
        ],
    ).ring
    secret, rsa, ec = (ring.find("", name, None, 0) for name in ("HS512", "PS384", "ES256"))
    named = ring.find("k", "ES256", None, 0)
    assert secret == (Key(SECRET.encode(), ""),)
    assert [isinstance(found, tuple) and type(found[0].material).__name__ for found in (rsa, ec, named)] == [
        "RSAPublicKey",
        "ECPublicKey",
        "ECPublicKey",
    ]
    assert ec != named
    for kid, algorithm in (
        ("k", "HS512"),
        ("k", "RS256"),
        ("", "ES384"),
        ("", "none"),
        ("x", "HS256"),
        ("x", "RS256"),
    ):
        with pytest.raises(Refused):
            ring.find(kid, algorithm, None, 0)


@protocol("token.jwks")
def test_a_configured_kid_is_never_looked_up_in_a_set() -> None:
    """Whatever the algorithm: who serves the set cannot take its place, nor add another key beside it."""
    keys = [{"kid": "k", "secret": SECRET}]
    ring = Ring(hmac_keys=keys, jwks=[{"url": A}]).holds(A, jwk("RSA", "k"), jwk("RSA", "other"))
    assert ring.find("k", "HS256") == [""]
    assert ring.find("k", "RS256") is TokenProblem.INVALID
    assert ring.find("other", "RS256") == [""]


@protocol("token.jwks")
def test_token_without_kid_never_uses_a_set() -> None:
    """Not even one of a single key; decision 12."""
    assert Ring(jwks=[{"url": A}]).holds(A, jwk("RSA", "only")).find("", "RS256") is TokenProblem.INVALID
    assert Ring(jwks=[{"url": A}]).find("", "RS256") is TokenProblem.INVALID


@protocol("token.jwks")
@pytest.mark.parametrize(
    ("kid", "algorithm"),
    [("new", "HS256"), ("new", "none"), ("new", "ES256"), ("x" * 257, "RS256"), ("new", "rs256")],
)
def test_what_no_set_can_have_is_refused_without_a_fetch(kid: str, algorithm: str) -> None:
    """Algorithms that the source is not for, and kids that no set may hold."""
    ring = Ring(jwks=[{"url": A, "algorithms": ["RS256"]}])
    assert ring.find(kid, algorithm) is TokenProblem.INVALID
    assert ring.find("new", "RS256") == KeyWanted(A)


@protocol("token.jwks")
def test_a_key_of_a_set_serves_its_own_algorithms() -> None:
    """Those of its `alg`, its kind and the configuration together."""
    ring = Ring(jwks=[{"url": A, "algorithms": ["RS256", "RS512"]}])
    ring.holds(A, jwk("RSA", "any"), jwk("RSA", "one", 1, alg="RS512"), jwk("RSA", "none", 2, alg="PS256"))
    assert [ring.find("any", name) for name in ("RS256", "RS512", "RS384")] == [
        [""],
        [""],
        TokenProblem.INVALID,
    ]
    assert [ring.find("one", name) for name in ("RS256", "RS512")] == [TokenProblem.INVALID, [""]]
    assert [ring.find("none", name) for name in ("RS256", "PS256")] == [TokenProblem.INVALID] * 2


@protocol("token.jwks")
def test_each_issuer_speaks_for_itself() -> None:
    """The same kid in two sets is two keys, and which is meant the token's `iss` says."""
    ring = Ring(jwks=BOTH).holds(A, jwk("RSA", "1")).holds(B, jwk("RSA", "1", 1))
    assert ring.find("1", "RS256", "a") == ["a"]
    assert ring.find("1", "RS256", "b") == ["b"]
    for issuer in (None, "", "c", ["a", "b"], {"a": 1}, 7):
        assert ring.find("1", "RS256", issuer) is TokenProblem.INVALID
    assert Ring(jwks=BOTH).holds(A, jwk("RSA", "1")).find("1", "RS256", "b") == KeyWanted(B)


@protocol("token.jwks", "token.kid")
@pytest.mark.parametrize(
    ("kid", "algorithm", "issuer", "why"),
    [
        ("1", "RS256", "https://a/", "no key of the kid '1', and no key set is of the token's issuer"),
        ("1", "HS256", "a", "no key of the kid '1'"),
        ("k", "RS256", "a", "the key of the kid 'k' is not for 'RS256'"),
        (
            "",
            "RS256",
            "a",
            "the token has no kid, and no key without one is for 'RS256'; key sets are for tokens with a kid",
        ),
    ],
    ids=["issuer", "algorithm", "configured", "no kid"],
)
def test_the_log_says_what_to_look_at(kid: str, algorithm: str, issuer: str, why: str) -> None:
    """The kid is not at fault when it is the issuer that nobody knows."""
    ring = Ring(hmac_keys=[{"kid": "k", "secret": SECRET}], jwks=BOTH).holds(A, jwk("RSA", "1"))
    with pytest.raises(Refused) as refused:
        ring.ring.find(kid, algorithm, issuer, 1)
    assert refused.value.why == why


@protocol("token.jwks")
def test_two_sets_of_one_issuer_are_both_asked() -> None:
    """And a token is invalid only when both have said so."""
    ring = Ring(jwks=[{"url": A, "issuer": "i"}, {"url": B, "issuer": "i"}, {"url": C, "issuer": "c"}])
    assert ring.find("1", "RS256", "i", now=0) == KeyWanted(f"{A} {B}")
    ring.holds(A)
    assert ring.find("1", "RS256", "i") == KeyWanted(B)
    ring.cache.sources[B].begin(1)
    ring.cache.sources[B].failed("away", 1)
    assert ring.find("1", "RS256", "i") is TokenProblem.UNAVAILABLE
    assert ring.find("1", "RS256", "i", now=30) == KeyWanted(f"{A} {B}")
    ring.cache.sources[B].begin(30)
    ring.cache.sources[B].took(read_set(jwks(jwk("RSA", "1"))), 30)
    assert ring.find("1", "RS256", "i", now=31) == ["i"]


@protocol("token.jwks")
def test_section_issuer_goes_for_keys_without_one_of_their_own() -> None:
    """A set's own issuer is in its place, not beside it."""
    ring = Ring(issuer="i", hmac_secret_key=SECRET, jwks=BOTH).holds(A, jwk("RSA", "1"))
    assert ring.find("", "HS256") == ["i"]
    assert ring.find("1", "RS256", "a") == ["a"]
    assert Ring(issuer="i", jwks=[{"url": A}]).holds(A, jwk("RSA", "1")).find("1", "RS256", "i") == ["i"]


def test_a_kid_in_the_log_is_bounded() -> None:
    """And cannot forge a line."""
    assert shown("k1") == "'k1'"
    assert len(shown("x" * 10_000)) < 60
    assert "\n" not in shown("a\nb")


def test_a_reason_is_bounded_and_on_one_line() -> None:
    """It may hold a piece of an unsigned token."""
    assert len(Refused("x" * 100_000).why) <= 203
    assert Refused("a\nb").why == r"'a\nb'"
