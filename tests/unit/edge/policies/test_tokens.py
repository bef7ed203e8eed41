from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import ManualClock
from tests.fakes.edge import KEY, edge_config, token
from tests.support.protocol import protocol
from tidewire.edge.policies.claims import LONGEST_USER, ConnectionClaims, SubscriptionClaims
from tidewire.edge.policies.key_cache import KeyCache
from tidewire.edge.policies.tokens import KeyWanted, TokenProblem, TokenVerifier

OTHER = "o" * 64
NOW = 1_800_000_000
INVALID, EXPIRED = TokenProblem.INVALID, TokenProblem.EXPIRED


def verifier(**settings: Any) -> TokenVerifier:
    """A verifier with `KEY` for tokens without a kid, at the time NOW."""
    config = edge_config(client={"token": {"hmac_secret_key": KEY, **settings}})
    return TokenVerifier(config.client, ManualClock(NOW), KeyCache())


def judged(text: str, **settings: Any) -> ConnectionClaims | TokenProblem | KeyWanted:
    """The verdict on a connection token."""
    return verifier(**settings).connection(text)


def user_of(text: str, **settings: Any) -> str:
    """The user of a good token."""
    claims = judged(text, **settings)
    assert isinstance(claims, ConnectionClaims), claims
    return claims.user


def signed(payload: bytes, header: dict[str, Any] | None = None, key: str = KEY) -> str:
    """A token with any bytes as payload, signed with HS256 whatever its header says."""
    head = json.dumps(header if header is not None else {"alg": "HS256"}).encode()
    body = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (head, payload))
    signature = hmac.new(key.encode(), body, hashlib.sha256).digest()
    return (body + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


@protocol("token.hmac")
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_hmac_algorithms(algorithm: str) -> None:
    """All three by default; a wrong key is a wrong key with each of them."""
    assert user_of(token(algorithm=algorithm)) == "alice"
    assert judged(token(algorithm=algorithm, key=OTHER)) is INVALID


@protocol("token.hmac")
def test_key_names_its_algorithms() -> None:
    """A good signature by an algorithm that the key is not for is refused: the token cannot choose."""
    assert judged(token(algorithm="HS512"), algorithms=["HS256"]) is INVALID
    assert judged(token(algorithm="HS256"), algorithms=["HS512"]) is INVALID
    keys = [{"kid": "k1", "secret": OTHER, "algorithms": ["HS384"]}]
    assert user_of(token(key=OTHER, kid="k1", algorithm="HS384"), hmac_keys=keys) == "alice"
    assert judged(token(key=OTHER, kid="k1", algorithm="HS256"), hmac_keys=keys) is INVALID


@protocol("token.hmac", "token.public")
@pytest.mark.parametrize("algorithm", ["none", "None", "RS256", "ES256", "EdDSA", "hs256", "", "HS1"])
def test_other_algorithms_are_invalid(algorithm: str) -> None:
    """Also with a signature that would be right for HS256."""
    body = b'{"sub":"alice"}'
    assert judged(signed(body)) == ConnectionClaims("alice")
    assert judged(signed(body, {"alg": algorithm})) is INVALID
    unsigned = signed(body, {"alg": algorithm}).rpartition(".")[0] + "."
    assert judged(unsigned) is INVALID


@protocol("token.kid")
def test_kid_chooses_the_key_and_no_other_is_tried() -> None:
    """So keys can be rotated one by one."""
    keys = [{"kid": "old", "secret": OTHER}, {"kid": "new", "secret": "n" * 64}]
    assert user_of(token(key=OTHER, kid="old"), hmac_keys=keys) == "alice"
    assert user_of(token(key="n" * 64, kid="new"), hmac_keys=keys) == "alice"
    assert user_of(token(), hmac_keys=keys) == "alice"
    assert judged(token(key=OTHER, kid="new"), hmac_keys=keys) is INVALID
    assert judged(token(kid="old"), hmac_keys=keys) is INVALID
    assert judged(token(key=OTHER), hmac_keys=keys) is INVALID
    for key in (KEY, OTHER):
        assert judged(token(key=key, kid="unknown"), hmac_keys=keys) is INVALID


@protocol("token.kid")
@pytest.mark.parametrize("kid", [None, 7, [], {}, True])
def test_kid_that_is_no_text_is_invalid(kid: object) -> None:
    """Never an error inside."""
    assert judged(signed(b'{"sub":"alice"}', {"alg": "HS256", "kid": kid})) is INVALID


@protocol("token.kid")
def test_without_a_default_key_a_token_needs_a_kid() -> None:
    """The empty kid is no name of a key."""
    settings = {"hmac_secret_key": "", "hmac_keys": [{"kid": "k1", "secret": OTHER}]}
    assert user_of(token(key=OTHER, kid="k1"), **settings) == "alice"
    assert judged(token(key=OTHER), **settings) is INVALID
    assert judged(token(key=OTHER, kid=""), **settings) is INVALID


@protocol("token.claims", "token.expired")
@pytest.mark.parametrize(
    ("claims", "leeway", "verdict"),
    [
        ({"exp": NOW + 1}, "0s", None),
        ({"exp": NOW}, "0s", EXPIRED),
        ({"exp": NOW - 10}, "10s", EXPIRED),
        ({"exp": NOW - 9}, "10s", None),
        ({"exp": 0}, "0s", EXPIRED),
        ({"nbf": NOW}, "0s", None),
        ({"nbf": NOW + 1}, "0s", INVALID),
        ({"nbf": NOW + 1}, "1s", None),
        ({"nbf": NOW + 5, "exp": NOW - 5}, "0s", INVALID),
        ({"iat": NOW + 1000}, "0s", None),
    ],
)
def test_times(claims: dict[str, int], leeway: str, verdict: TokenProblem | None) -> None:
    """`exp` is the first moment at which the token is no longer good; leeway widens both ends."""
    found = judged(token(**claims), leeway=leeway)
    assert found is verdict if verdict is not None else isinstance(found, ConnectionClaims)


@protocol("token.claims")
@pytest.mark.parametrize(
    "payload",
    [
        {"exp": "soon"},
        {"exp": -1},
        {"exp": 1e300},
        {"exp": None},
        {"nbf": -1},
        {"expire_at": "x"},
        {"expire_at": -1},
        {"sub": 7},
        {"sub": "u" * (LONGEST_USER + 1)},
        {"sub": None},
        {"meta": [1]},
        {"channel": 1},
    ],
)
def test_claims_of_the_wrong_kind_are_invalid(payload: dict[str, Any]) -> None:
    """A good signature does not make them good."""
    assert judged(signed(json.dumps({"sub": "a", **payload}).encode())) is INVALID


@protocol("token.claims")
@pytest.mark.parametrize(
    ("aud", "good"),
    [
        ("mesh", True),
        (["x", "mesh"], True),
        ("x", False),
        (["x"], False),
        ([], False),
        ("mesh2", False),
        (None, False),
        (7, False),
        ({"mesh": 1}, False),
    ],
)
def test_audience(aud: object, good: bool) -> None:
    """`aud` is a text or a list of texts; it is looked at only where one is expected."""
    text = signed(json.dumps({"sub": "alice", "aud": aud}).encode())
    assert isinstance(judged(text, audience="mesh"), ConnectionClaims) is good
    assert isinstance(judged(text), ConnectionClaims)


@protocol("token.claims")
def test_issuer() -> None:
    """Equal, where one is expected; a missing one is wrong then."""
    assert user_of(token(iss="backend"), issuer="backend") == "alice"
    assert user_of(token(iss="whoever")) == "alice"
    assert judged(token(iss="other"), issuer="backend") is INVALID
    assert judged(signed(b'{"sub":"alice","iss":["backend"]}'), issuer="backend") is INVALID
    assert judged(token(), issuer="backend") is INVALID
    assert judged(token(), audience="mesh") is INVALID


@protocol("token.claims", "token.expire_at")
def test_what_a_connection_token_carries() -> None:
    """`info` and `meta` as one line of JSON; `expire_at` beats `exp`, and 0 means never."""
    claims = judged(signed(b'{"sub":"alice","info":{"a":\n [1]},"meta":{"m": 1},"exp":1900000000}'))
    assert isinstance(claims, ConnectionClaims)
    assert (bytes(claims.info), bytes(claims.meta)) == (b'{"a":[1]}', b'{"m":1}')
    assert claims.expires_at == 1_900_000_000
    assert judged(token(exp=NOW + 9, expire_at=0)) == ConnectionClaims("alice")
    later = judged(token(exp=NOW + 9, expire_at=NOW + 99))
    assert isinstance(later, ConnectionClaims)
    assert later.expires_at == NOW + 99


@protocol("token.subscription")
def test_what_a_subscription_token_carries() -> None:
    """Checked by the same keys and times as a connection token."""
    claims = verifier().subscription(token(channel="chat:a", client="c1", info=[1]))
    assert isinstance(claims, SubscriptionClaims)
    assert (claims.user, claims.channel, claims.client, bytes(claims.info)) == (
        "alice",
        "chat:a",
        "c1",
        b"[1]",
    )
    assert verifier().subscription(token(channel="chat:a", exp=NOW - 1)) is EXPIRED
    assert verifier().subscription(token(channel="chat:a", key=OTHER)) is INVALID


@protocol("token.invalid")
@pytest.mark.parametrize(
    "payload", [b"", b"[]", b'"text"', b"null", b"7", b"{", b'{"sub":"\\ud800"}', b'{"sub":"\xff"}']
)
def test_payload_that_is_no_claims_is_invalid(payload: bytes) -> None:
    """Even when it is well signed."""
    assert judged(signed(payload)) is INVALID


@protocol("token.invalid")
@pytest.mark.parametrize("part", [b"[" * 40_000, b'{"a":' * 10_000, b"1" * 5_000])
def test_part_that_breaks_a_parser_is_invalid(part: bytes) -> None:
    """The header is read before any signature is checked: nesting and digits without end are anyone's to send."""
    text = base64.urlsafe_b64encode(part).decode()
    assert judged(f"{text}.{text}.{text}") is INVALID
    assert judged(signed(part)) is INVALID


@protocol("token.invalid")
@given(st.text() | st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode()))
def test_any_text_is_an_invalid_token(text: str) -> None:
    """Never an error inside, whatever a client sends."""
    assert judged(text) is INVALID
    assert judged(f"{text}.{text}.{text}") is INVALID


@protocol("token.invalid")
@given(st.integers(0, 10_000), st.characters(codec="ascii"))
def test_changing_one_character_breaks_a_token(position: int, character: str) -> None:
    """Header, claims and signature are all covered; only spare bits of the last character mean nothing."""
    good = token(exp=NOW + 60)
    position %= len(good) - 1
    changed = good[:position] + character + good[position + 1 :]
    if changed != good:
        assert judged(changed) is INVALID


def test_a_bare_jwt_library_token_is_what_we_verify() -> None:
    """The helper above signs like the library does."""
    assert judged(jwt.encode({"sub": "alice"}, KEY, algorithm="HS256")) == judged(signed(b'{"sub":"alice"}'))


@pytest.mark.parametrize(
    "claims", [b'{"sub":"a","exp":1e999}', b'{"sub":"a","info":1e999}', b'{"sub":"a","meta":{"x":-1e400}}']
)
def test_number_out_of_range_is_a_verdict_and_no_error(claims: bytes) -> None:
    """Whoever holds the key may still write nonsense."""
    assert judged(signed(claims)) is INVALID


def test_big_integers_in_info_reach_the_others_unchanged() -> None:
    """Ids of 64 bits and more are common."""
    claims = judged(signed(b'{"sub":"a","info":{"id":123456789012345678901}}'))
    assert isinstance(claims, ConnectionClaims)
    assert bytes(claims.info) == b'{"id":123456789012345678901}'
