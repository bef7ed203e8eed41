from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest

from tests.support.protocol import protocol
from tidewire.edge.policies.jws import LONGEST_TOKEN, take_apart
from tidewire.edge.policies.verdicts import Refused


def part(content: bytes) -> str:
    """Base64url without padding."""
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def headed(header: Any) -> str:
    """A token with this header, which is text or what JSON is made of."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return f"{part(head)}.{part(b'{}')}.{part(b'signature')}"


def test_parts() -> None:
    """What is signed is the text as it came."""
    jws = take_apart(headed({"alg": "ES256", "kid": "k", "typ": "JWT", "extra": [1]}))
    assert (jws.algorithm, jws.kid, jws.payload, jws.signature) == ("ES256", "k", b"{}", b"signature")
    assert (
        jws.signed.decode()
        == headed({"alg": "ES256", "kid": "k", "typ": "JWT", "extra": [1]}).rpartition(".")[0]
    )
    assert take_apart(headed({"alg": "HS256"})).kid == ""


@protocol("token.invalid")
@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("", "not three parts of base64url"),
        ("a.b", "not three parts of base64url"),
        ("a.b.c.d", "not three parts of base64url"),
        ("..", "not three parts of base64url"),
        (headed({"alg": "HS256"}) + "=", "not three parts of base64url"),
        (headed({"alg": "HS256"}) + "\n", "not three parts of base64url"),
        (headed({"alg": "HS256"}).replace(".", ". ", 1), "not three parts of base64url"),
        (f"{part(b'{}')}.{part(b'{}')}.ä", "not three parts of base64url"),
        (headed({"alg": "HS256"}).rpartition(".")[0] + ".abcde", "not three parts of base64url"),
        (headed(b"{"), "header: not JSON"),
        (headed(b"[" * 200 + b"]" * 200), "header: not JSON"),
        (headed([]), "header: Expected `object`, got `array`"),
        (headed({}), "header: Object missing required field `alg`"),
        (headed({"alg": 1}), "header: Expected `str`, got `int` - at `$.alg`"),
        (headed({"alg": "HS256", "kid": 7}), "header: Expected `str`, got `int` - at `$.kid`"),
        (headed({"alg": "HS256", "kid": None}), "header: Expected `str`, got `null` - at `$.kid`"),
        (headed({"alg": "HS256", "crit": ["b64"], "b64": False}), "header: crit"),
        (headed({"alg": "HS256", "crit": None}), "header: crit"),
        ("a" * (LONGEST_TOKEN + 1), f"longer than {LONGEST_TOKEN} characters"),
    ],
)
def test_what_is_no_token(token: str, why: str) -> None:
    """Each with its reason, and nothing of the token in it."""
    with pytest.raises(Refused) as refused:
        take_apart(token)
    assert refused.value.why == why


def test_the_longest_token() -> None:
    """The bound itself is allowed."""
    token = headed({"alg": "HS256"})
    take_apart(token + "A" * ((LONGEST_TOKEN - len(token)) // 4 * 4))
