"""Tokens. Input: a byte of flags, then a token as a client sends it, or header, 0 and claims, which are signed here."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from typing import Any

import jwt

from tests.fakes.clock import ManualClock
from tests.fakes.edge import KEY, edge_config
from tidewire.edge.policies.claims import ConnectionClaims, SubscriptionClaims
from tidewire.edge.policies.key_cache import KeyCache
from tidewire.edge.policies.tokens import KeyWanted, TokenProblem, TokenVerifier
from tidewire.edge.policies.verdicts import LONGEST_WHY
from tidewire.edge.wire.json_codec import clean_json

LONGEST = 300
NOW = 1_800_000_000
SIGNED, SUBSCRIPTION, DEMANDING = 1, 2, 4
ALGORITHMS = ["HS256", "HS384", "HS512"]
SIGNATURE_ONLY = {"verify_" + claim: False for claim in ("aud", "exp", "nbf", "iat", "iss", "sub", "jti")}


def _verifier(**settings: Any) -> TokenVerifier:
    config = edge_config(client={"token": {"hmac_secret_key": KEY, **settings}})
    return TokenVerifier(config.client, ManualClock(NOW), KeyCache())


_WILLING = _verifier()
_DEMANDING = _verifier(audience="mesh", issuer="backend", leeway="10s")


def check(data: bytes) -> None:
    """Demand a verdict: claims only where PyJWT finds the signature good, and else a reason that is fit for a log."""
    flags = data[0] if data else 0
    token = _signed(data[1:]) if flags & SIGNED else data[1:].decode(errors="replace")
    verifier = _DEMANDING if flags & DEMANDING else _WILLING
    verdict = verifier.subscription(token) if flags & SUBSCRIPTION else verifier.connection(token)
    if isinstance(verdict, ConnectionClaims | SubscriptionClaims):
        claims = jwt.decode(token, KEY, algorithms=ALGORITHMS, options=SIGNATURE_ONLY)
        _check_claims(verdict, claims, demanding=bool(flags & DEMANDING))
        return
    assert isinstance(verdict, TokenProblem)
    assert not isinstance(verdict, KeyWanted)
    assert verifier.why.isprintable()
    assert len(verifier.why) <= 10 * LONGEST_WHY


def _signed(text: bytes) -> str:
    """Sign with HS256, whatever the header says."""
    header, _, claims = text.partition(b"\0")
    body = _base64(header or b'{"alg":"HS256"}') + b"." + _base64(claims)
    return (body + b"." + _base64(hmac.digest(KEY.encode(), body, hashlib.sha256))).decode()


def _base64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def _check_claims(
    found: ConnectionClaims | SubscriptionClaims, claims: dict[str, Any], *, demanding: bool
) -> None:
    assert found.user == claims.get("sub", "")
    assert found.id == claims.get("jti", "")
    assert claims.get("nbf", 0) <= NOW + 10 * demanding
    assert claims.get("exp", NOW + 1) > NOW - 10 * demanding
    assert not demanding or claims["iss"] == "backend"
    assert not demanding or claims["aud"] == "mesh" or "mesh" in claims["aud"]
    assert found.expires_at >= 0
    if isinstance(found, SubscriptionClaims):
        assert found.channel == claims.get("channel", "")
        payloads = [found.info]
    else:
        assert not claims.get("channel")
        assert found.subs.keys() == {*(claims.get("channels") or ()), *(claims.get("subs") or ())}
        payloads = [found.info, found.meta]
        payloads += [raw for each in found.subs.values() for raw in (each.info, each.data)]
    for raw in map(bytes, payloads):
        assert not raw or clean_json(raw) == raw


def _seed(flags: int, header: object, **claims: Any) -> bytes:
    return bytes((flags,)) + json.dumps(header).encode() + b"\0" + json.dumps(claims).encode()


_HS256 = {"alg": "HS256"}
_GOOD = jwt.encode({"sub": "alice"}, KEY, algorithm="HS256")
SEEDS = [
    b"\0" + _GOOD.encode(),
    b"\0" + _GOOD.rpartition(".")[0].encode() + b".",
    b"\0" + jwt.encode({"sub": "a"}, "o" * 64, algorithm="HS512").encode(),
    b"\0" + b".".join([_base64(b"[" * 90)] * 2) + b".x",
    _seed(1, _HS256, sub="alice"),
    _seed(1, _HS256, sub="a", exp=NOW + 9, nbf=NOW - 1, iat=NOW, jti="1", expire_at=0, iss="x", aud=["x"]),
    _seed(1, _HS256, sub="a", info={"a": [1.5, None]}, meta={"m": True}, b64info="eyJhIjoxfQ=="),
    _seed(1, _HS256, channels=["a"], subs={"b": {"data": 1, "override": {"presence": {"value": True}}}}),
    _seed(1, _HS256, sub="a", caps=[{"channels": ["a*"], "match": "wildcard", "allow": ["sub", "pub"]}]),
    _seed(1, _HS256, sub="a", caps=[{"channels": ["^a[0-9]+$"], "match": "regex", "allow": ["hst"]}]),
    _seed(5, {"alg": "HS256", "typ": "JWT"}, sub="a", aud="mesh", iss="backend", exp=NOW - 5),
    _seed(5, _HS256, sub="a", aud=["mesh", "x"], iss="backend", nbf=NOW + 5),
    _seed(3, _HS256, sub="a", channel="chat:a", client="c", info=[1], allow=["sub", "pub", "prs"]),
    _seed(3, _HS256, channel="a", override={"join_leave": {"value": False}}, expire_at=1.5),
    _seed(5, _HS256, aud="mesh", iss="backend", nbf=NOW + 11),
    _seed(5, _HS256, aud="mesh", iss="backend", exp=NOW - 11),
    _seed(1, _HS256, caps=[{"channels": ["a"], "allow": ["\x1b[31m"]}]),
    _seed(1, {"alg": "none"}, sub="a"),
    _seed(1, {"alg": "HS256", "kid": "k"}, sub="a"),
    _seed(1, {"alg": "HS256", "crit": ["x"]}, sub="a"),
    _seed(1, _HS256, exp="soon", nbf=-1),
    _seed(1, _HS256, exp=1e300, info="\ud800"),
]
