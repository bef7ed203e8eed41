from __future__ import annotations

from typing import Any

import pytest

from tests.support.keys import jwk, jwks
from tests.support.protocol import protocol
from tidewire.edge.policies.jwks import MOST_KEYS, UnusableSet, read_set

WEAK = jwk("RSA-1024", "k")
RSA = jwk("RSA", "k")
EC = jwk("P-256", "k")


@protocol("token.jwks")
@pytest.mark.parametrize(
    ("kind", "algorithms"),
    [
        ("RSA", {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        ("P-256", {"ES256"}),
        ("P-384", {"ES384"}),
        ("P-521", {"ES512"}),
        ("Ed25519", {"EdDSA"}),
    ],
)
def test_kinds_of_keys(kind: str, algorithms: set[str]) -> None:
    """A key's kind says what it fits, its own `alg` says what it is for."""
    one = min(algorithms)
    found = read_set(jwks(jwk(kind, "a"), jwk(kind, "b", alg=one, use="sig", key_ops=["verify"], x5c=["x"])))
    assert found.keys["a"].algorithms == algorithms
    assert found.keys["b"].algorithms == {one}
    assert found.ignored == ()


@protocol("token.jwks")
@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("text", "no object"),
        ({"kty": "oct", "kid": "k", "k": "c2VjcmV0" * 8}, "has private members"),
        ({"kty": "oct", "kid": "k"}, "kty is none of RSA, EC, OKP"),
        ({"kid": "k"}, "kty is none of RSA, EC, OKP"),
        ({"kid": "k", "kty": ["RSA"]}, "kty is none of RSA, EC, OKP"),
        ({**RSA, "kid": ""}, "kid is no text of 1 to 256 characters"),
        ({**RSA, "kid": 7}, "kid is no text of 1 to 256 characters"),
        ({**RSA, "kid": "x" * 257}, "kid is no text of 1 to 256 characters"),
        ({**RSA, "use": "enc"}, "use is not sig"),
        ({**RSA, "use": None}, "use is not sig"),
        ({**RSA, "key_ops": ["sign"]}, "key_ops without verify"),
        ({**RSA, "key_ops": "verify"}, "key_ops without verify"),
        ({**RSA, "d": "AQAB"}, "has private members"),
        ({**EC, "d": "AQAB"}, "has private members"),
        ({**RSA, "alg": "HS256"}, "alg does not fit the key"),
        ({**RSA, "alg": "ES256"}, "alg does not fit the key"),
        ({**RSA, "alg": "none"}, "alg does not fit the key"),
        ({**RSA, "alg": "RSA-OAEP"}, "alg does not fit the key"),
        ({**EC, "alg": "ES384"}, "alg does not fit the key"),
        (WEAK, "has 1024 bits: RSA needs 2048 to 8192"),
        ({**RSA, "e": "AQ"}, "its numbers are no key: e must be >= 3 and < n."),
        ({**RSA, "e": "AQAAAAAB"}, "has a public exponent over 32 bits"),
        ({**RSA, "n": "A" * 1400}, "its numbers are no text, or too long"),
        ({**RSA, "n": 7}, "its numbers are no text, or too long"),
        ({**EC, "crv": "P-384"}, "its numbers are no key: Coords should be 48 bytes for curve P-384"),
        ({**EC, "crv": "secp256k1"}, "its numbers are no key: "),
        (
            {**EC, "y": EC["x"]},
            "its numbers are no key: Invalid EC key. Point is not on the curve specified.",
        ),
        (
            {"kty": "OKP", "crv": "X25519", "kid": "k", "x": "A" * 43},
            "its numbers are no key: Invalid curve: X25519",
        ),
        ({"kty": "EC", "crv": "P-256", "kid": "k"}, "its numbers are no key: Not an Elliptic curve key"),
    ],
)
def test_keys_that_are_not_used(key: Any, why: str) -> None:
    """One bad key leaves the others alone; the reason says why, and shows no key."""
    found = read_set(jwks(key, jwk("P-256", "good")))
    assert list(found.keys) == ["good"]
    assert len(found.ignored) == 1
    assert found.ignored[0].startswith(why)


@protocol("token.jwks")
def test_of_two_keys_with_one_kid_neither_is_used() -> None:
    """Whichever came first, or is of a kind that is ignored anyway: nobody may slip a second key in."""
    oct_key = {"kty": "oct", "kid": "k", "k": "AAAA"}
    for pair in (
        [RSA, jwk("RSA", "k", 1)],
        [RSA, EC],
        [RSA, oct_key],
        [oct_key, RSA],
        [RSA, {**RSA, "use": "enc"}],
    ):
        assert list(read_set(jwks(*pair, jwk("P-256", "good"))).keys) == ["good"]


@protocol("token.jwks")
@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b"[" * 1000, "not JSON"),
        (b"[]", "no key set: Expected `object`, got `array`"),
        (b"{}", "no key set: Object missing required field `keys`"),
        (b'{"keys":{}}', "no key set: Expected `array`, got `object` - at `$.keys`"),
        (jwks(*[{}] * (MOST_KEYS + 1)), "over 100 keys"),
    ],
)
def test_what_is_no_set(body: bytes, why: str) -> None:
    """Then the fetch has failed, and what is held stays."""
    with pytest.raises(UnusableSet) as error:
        read_set(body)
    assert str(error.value) == why


def test_the_largest_set_and_the_empty_one() -> None:
    """No keys at all is what an issuer may say."""
    assert len(read_set(jwks(*[{}] * MOST_KEYS)).ignored) == MOST_KEYS
    assert read_set(b'{"keys":[],"more":1}').keys == {}
