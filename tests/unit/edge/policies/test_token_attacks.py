"""What is tried against token checks, each by name. A token of an attacker never becomes a user, and never costs much."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from typing import Any

import jwt
import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.edge import KEY, edge_config, token
from tests.support.keys import KINDS, jwk, jwks, pem, private, signed
from tests.support.protocol import protocol
from tidewire.edge.policies.claims import ConnectionClaims, SubscriptionClaims
from tidewire.edge.policies.jwks import read_set
from tidewire.edge.policies.key_cache import KeyCache
from tidewire.edge.policies.tokens import KeyWanted, TokenProblem, TokenVerifier

NOW = 1_800_000_000
URL = "https://issuer.example/keys"
INVALID, EXPIRED, UNAVAILABLE = TokenProblem.INVALID, TokenProblem.EXPIRED, TokenProblem.UNAVAILABLE
PUBLIC = [{"key": pem("RSA")}, {"key": pem("P-256")}, {"key": pem("Ed25519")}]


class Verifier:
    """A verifier at the time NOW; with `held` keys the issuer's set was fetched a second ago."""

    def __init__(self, *held: dict[str, Any], subscription: Any = None, **settings: Any) -> None:
        sections = {} if subscription is None else {"subscription_token": subscription}
        config = edge_config(client={"token": settings, **sections})
        self.clock = ManualClock(NOW)
        self.cache = KeyCache(lambda: 0.0)
        self.tokens = TokenVerifier(config.client, self.clock, self.cache)
        for source in self.cache.sources.values() if held else ():
            source.begin(self.clock.now - 1)
            source.took(read_set(jwks(*held)), self.clock.now - 1)

    def __call__(self, text: str) -> str | TokenProblem | KeyWanted:
        """Return the user of a good connection token, or what else came."""
        claims = self.tokens.connection(text)
        return claims.user if isinstance(claims, ConnectionClaims) else claims

    def channel(self, text: str) -> str | TokenProblem | KeyWanted:
        """Return the channel of a good subscription token, or what else came."""
        claims = self.tokens.subscription(text)
        return claims.channel if isinstance(claims, SubscriptionClaims) else claims


def forged(header: dict[str, Any], secret: bytes = b"", claims: dict[str, Any] | None = None) -> str:
    """A token with any header; the signature is HS256 with `secret`, or empty text."""
    parts = [json.dumps(part).encode() for part in (header, claims or {"sub": "admin"})]
    body = b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.new(secret, body, hashlib.sha256).digest() if secret else b"\0"
    return (body + b"." + urlsafe_b64encode(signature).rstrip(b"=")).decode()


@protocol("token.public")
@pytest.mark.parametrize("algorithm", KINDS)
def test_each_algorithm_with_its_own_key_and_no_other(algorithm: str) -> None:
    """What the attacks below must not break."""
    verify = Verifier(public_keys=[{"kid": "k", "key": pem(KINDS[algorithm])}])
    assert verify(signed(algorithm, "k")) == "alice"
    assert verify(signed(algorithm, "k", number=1)) is INVALID
    assert verify(signed(algorithm)) is INVALID
    held = Verifier(jwk(KINDS[algorithm], "k"), jwks=[{"url": URL}])
    assert held(signed(algorithm, "k")) == "alice"
    assert held(signed(algorithm, "k", number=1)) is INVALID


@protocol("token.public")
@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
def test_algorithm_none(name: str) -> None:
    """With an empty signature, without one, and beside every kind of key."""
    verify = Verifier(jwk("RSA", "k"), hmac_secret_key=KEY, public_keys=PUBLIC, jwks=[{"url": URL}])
    for kid in ({}, {"kid": "k"}, {"kid": "new"}):
        text = forged({"alg": name, **kid})
        assert verify(text) is INVALID
        assert verify(text.rpartition(".")[0] + ".") is INVALID


@protocol("token.public")
@pytest.mark.parametrize("kind", ["RSA", "P-256", "Ed25519"])
@pytest.mark.parametrize("name", ["HS256", "hs256", "RS256", "ES256", "EdDSA", "HS384"])
def test_public_key_as_hmac_secret(kind: str, name: str) -> None:
    """Everyone knows the public key, so nobody proves anything with it, in whatever form and under whatever name."""
    secrets = [pem(kind).encode(), pem(kind).strip().encode(), json.dumps(jwk(kind, "k")).encode()]
    for settings in (
        {"public_keys": [{"key": pem(kind)}, {"kid": "k", "key": pem(kind)}]},
        {"jwks": [{"url": URL}]},
        {"hmac_secret_key": KEY, "public_keys": [{"kid": "k", "key": pem(kind)}]},
    ):
        verify = Verifier(jwk(kind, "k"), **settings)
        for secret in secrets:
            for kid in ({}, {"kid": "k"}):
                assert verify(forged({"alg": name, **kid}, secret)) is INVALID


@protocol("token.public")
def test_key_of_another_kind() -> None:
    """RSA's signature under EC's name, a curve under another's, and PKCS#1 v1.5 under PSS's."""
    keys = [{"kid": kind, "key": pem(kind)} for kind in ("RSA", "P-256", "P-384", "Ed25519")]
    verify = Verifier(public_keys=[*keys, {"kid": "rs", "key": pem("RSA"), "algorithms": ["RS256"]}])
    for algorithm, kid in (
        ("RS256", "P-256"),
        ("ES256", "RSA"),
        ("ES256", "P-384"),
        ("ES384", "P-256"),
        ("EdDSA", "P-256"),
        ("PS256", "rs"),
        ("RS512", "rs"),
    ):
        assert verify(signed(algorithm, kid)) is INVALID
    head, rest = signed("RS256", "RSA").split(".", 1)
    renamed = urlsafe_b64encode(b'{"alg":"PS256","kid":"RSA"}').rstrip(b"=").decode()
    assert verify(f"{head}.{rest}") == "alice"
    assert verify(f"{renamed}.{rest}") is INVALID


KIDS = [
    "../../../../dev/null",
    "/etc/passwd",
    "' OR 1=1 --",
    "' UNION SELECT 'secret' --",
    "https://evil.example/jwks.json",
    "file:///dev/null",
    "k\x00",
    "k ",
    "K",
    "k\n",
    "${jndi:ldap://evil.example}",
    "__proto__",
    "\u202ek",
    "😀",
    "k" * 10_000,
]


@protocol("token.kid")
@pytest.mark.parametrize("kid", KIDS, ids=range(len(KIDS)))
def test_kid_tricks(kid: str) -> None:
    """A kid is a name and nothing else: no path, no query, no address; the log gets a short, printable piece."""
    verify = Verifier(hmac_keys=[{"kid": "k", "secret": KEY}], public_keys=PUBLIC)
    for secret in (b"", KEY.encode(), b"\0"):
        assert verify(forged({"alg": "HS256", "kid": kid}, secret or b"x")) is INVALID
        assert len(verify.tokens.why) < 120
        assert verify.tokens.why.isprintable()
    assert Verifier(jwk("RSA", "k"), jwks=[{"url": URL}])(signed("RS256", kid)) in {INVALID, UNAVAILABLE}


@protocol("token.kid")
@pytest.mark.parametrize("kid", [None, 0, 1.5, True, [], ["k"], {}, {"k": "k"}])
def test_kid_that_is_no_text(kid: object) -> None:
    """Never an error inside, and never another key."""
    for settings in (
        {"hmac_secret_key": KEY},
        {"hmac_keys": [{"kid": "k", "secret": KEY}]},
        {"jwks": [{"url": URL}]},
    ):
        assert Verifier(**settings)(forged({"alg": "HS256", "kid": kid}, KEY.encode())) is INVALID
        assert Verifier(**settings)(forged({"alg": "RS256", "kid": kid})) is INVALID


@protocol("token.jwks")
@pytest.mark.parametrize(
    "planted",
    [
        {"kty": "oct", "kid": "k", "k": urlsafe_b64encode(KEY.encode()).decode(), "alg": "HS256"},
        {**jwk("RSA", "k"), "alg": "HS256"},
        {**jwk("RSA", "k"), "use": "enc"},
        {**jwk("RSA", "k"), "d": "AQAB"},
        jwk("RSA-1024", "k"),
        {**jwk("P-256", "k"), "alg": "none"},
    ],
    ids=["oct", "rsa as hmac", "enc", "private", "weak", "none"],
)
def test_planted_keys_in_a_set(planted: dict[str, Any]) -> None:
    """None of them checks a signature, and the good key beside them goes on."""
    verify = Verifier(planted, jwk("P-256", "good"), jwks=[{"url": URL}])
    for text in (
        forged({"alg": "HS256", "kid": "k"}, KEY.encode()),
        forged({"alg": "HS256", "kid": "k"}, json.dumps(planted).encode()),
        forged({"alg": "none", "kid": "k"}),
        signed("RS256", "k"),
        signed("ES256", "k"),
    ):
        assert verify(text) in {INVALID, UNAVAILABLE}
    assert verify(signed("ES256", "good")) == "alice"


@protocol("token.jwks")
def test_second_key_of_a_kid_takes_both_out() -> None:
    """Who can add to a set cannot put a key beside another's and have it tried."""
    verify = Verifier(jwk("RSA", "k"), jwk("RSA", "k", 1), jwks=[{"url": URL}])
    assert verify(signed("RS256", "k")) is UNAVAILABLE
    assert verify(signed("RS256", "k", number=1)) is UNAVAILABLE


@protocol("token.jwks", "token.kid")
def test_set_that_names_a_configured_kid() -> None:
    """The configured key stays the only one, and its absence is no door for the set's."""
    keys = [{"kid": "k", "key": pem("RSA")}, {"key": pem("RSA")}]
    verify = Verifier(jwk("RSA", "k", 1), jwk("RSA", "", 1), public_keys=keys, jwks=[{"url": URL}])
    assert verify(signed("RS256", "k")) == "alice"
    assert verify(signed("RS256", "k", number=1)) is INVALID
    assert verify(signed("RS256", number=1)) is INVALID
    assert verify(signed("RS256", "", number=1)) is INVALID


@protocol("token.jwks")
def test_issuer_that_signs_for_another() -> None:
    """With its own key under the other's kid or name, and with the other's `iss`."""
    sources = [{"url": f"https://{name}.example/", "issuer": name} for name in ("a", "b")]
    verify = Verifier(jwks=sources)
    for number, source in enumerate(verify.cache.sources.values()):
        source.begin(0)
        source.took(
            read_set(jwks(jwk("RSA", "1", number), jwk("RSA", f"own-{number}", number))), verify.clock.now
        )
    assert verify(signed("RS256", "1", 0, iss="a")) == "alice"
    assert verify(signed("RS256", "1", 1, iss="b")) == "alice"
    assert verify(signed("RS256", "1", 0, iss="b")) is INVALID
    assert verify(signed("RS256", "own-0", 0, iss="b")) in {INVALID, UNAVAILABLE}
    assert verify(signed("RS256", "1", 0)) is INVALID


@protocol("token.public")
@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c", "x5t", "x5t#S256"])
def test_token_that_brings_its_own_key(name: str) -> None:
    """The header is the attacker's: what it points to or holds is never looked at."""
    mine = {
        "jku": "http://127.0.0.1:1/",
        "x5u": "http://127.0.0.1:1/",
        "jwk": jwk("RSA", "mine", 1),
        "x5c": ["MIIB"],
    }
    headers = {name: mine.get(name, "AAAA")}
    verify = Verifier(jwk("RSA", "k"), public_keys=PUBLIC, jwks=[{"url": URL}])
    for kid in ({}, {"kid": "k"}):
        theirs = jwt.encode(
            {"sub": "admin"}, private("RSA", 1), algorithm="RS256", headers={**headers, **kid}
        )
        ours = jwt.encode({"sub": "alice"}, private("RSA"), algorithm="RS256", headers={**headers, **kid})
        assert verify(theirs) is INVALID
        assert verify(ours) == "alice"


@protocol("token.public")
@pytest.mark.parametrize(
    "header",
    [{"crit": ["exp"], "exp": 1}, {"crit": ["b64"], "b64": False}, {"crit": []}, {"crit": None}, {"crit": 1}],
)
def test_critical_extensions(header: dict[str, Any]) -> None:
    """None is known, so none may be critical; also well signed."""
    verify = Verifier(hmac_secret_key=KEY)
    assert verify(forged({"alg": "HS256"}, KEY.encode())) == "admin"
    assert verify(forged({"alg": "HS256", **header}, KEY.encode())) is INVALID


def test_header_that_says_two_things() -> None:
    """Parsers differ in which of two equal names counts; here one parser reads once."""
    parts = [b'{"alg":"none","alg":"HS256"}', b'{"sub":"bob","sub":"alice"}']
    body = b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.new(KEY.encode(), body, hashlib.sha256).digest()
    text = (body + b"." + urlsafe_b64encode(signature).rstrip(b"=")).decode()
    assert Verifier(hmac_secret_key=KEY)(text) == "alice"
    assert Verifier(public_keys=PUBLIC)(text) is INVALID


@protocol("token.claims", "token.expired")
@pytest.mark.parametrize(
    ("claims", "verdict"),
    [
        ({"exp": NOW - 9}, "alice"),
        ({"exp": NOW - 9.99}, "alice"),
        ({"exp": NOW - 10}, EXPIRED),
        ({"exp": NOW - 10.01}, EXPIRED),
        ({"nbf": NOW + 10}, "alice"),
        ({"nbf": NOW + 10.01}, INVALID),
        ({"nbf": NOW + 11, "exp": NOW - 11}, INVALID),
        ({"exp": str(NOW + 100)}, INVALID),
        ({"exp": -1}, INVALID),
        ({"exp": None}, INVALID),
        ({"exp": 10**400}, INVALID),
    ],
)
def test_times_around_the_leeway(claims: dict[str, Any], verdict: object) -> None:
    """To the fraction of a second; asymmetric keys make no difference."""
    verify = Verifier(hmac_secret_key=KEY, public_keys=PUBLIC, leeway="10s")
    assert verify(token(**claims)) == verdict
    assert verify(signed("ES256", **claims)) == verdict


@protocol("token.claims")
def test_expired_and_badly_signed_is_invalid() -> None:
    """Else anyone could have clients fetch new tokens for ever."""
    assert Verifier(hmac_secret_key=KEY)(token(key="x" * 64, exp=NOW - 1)) is INVALID


@protocol("token.claims")
@pytest.mark.parametrize("aud", [None, "", "mes", "mesh ", ["x"], [], {"mesh": 1}, 7, [["mesh"]], "MESH"])
def test_token_for_another_audience(aud: object) -> None:
    """A token that the same issuer made for another service."""
    verify = Verifier(public_keys=PUBLIC, audience="mesh")
    assert verify(signed("RS256", aud="mesh")) == "alice"
    assert verify(signed("RS256", aud=["x", "mesh"])) == "alice"
    assert verify(signed("RS256", **({} if aud is None else {"aud": aud}))) is INVALID


@protocol("token.kinds")
def test_subscription_token_as_connection_token() -> None:
    """Decision 11: the right to one channel is not the right to connect as its user."""
    verify = Verifier(hmac_secret_key=KEY)
    assert verify.channel(token(channel="$chat:a")) == "$chat:a"
    assert verify(token(channel="$chat:a")) is INVALID
    assert verify.tokens.why == "a subscription token: it has the claim channel"


@protocol("token.kinds")
def test_connection_token_as_subscription_token() -> None:
    """It is for no channel: the empty name is none, and the session compares."""
    assert Verifier(hmac_secret_key=KEY).channel(token()) == ""


@protocol("token.subscription_keys")
def test_keys_of_their_own_for_subscription_tokens() -> None:
    """Then neither kind's key makes a token of the other kind, claims or not."""
    other = "o" * 64
    verify = Verifier(hmac_secret_key=KEY, subscription={"hmac_secret_key": other})
    assert verify(token()) == "alice"
    assert verify.channel(token(key=other, channel="a")) == "a"
    assert verify(token(key=other)) is INVALID
    assert verify.channel(token(channel="a")) is INVALID
    shared = Verifier(hmac_secret_key=KEY, subscription={})
    assert shared.channel(token(channel="a")) == "a"


@protocol("token.subscription_keys")
def test_subscription_keys_have_their_own_demands() -> None:
    """Audience, issuer and leeway are the section's, and its sets are fetched."""
    subscription = {"jwks": [{"url": URL}], "audience": "channels", "leeway": "10s"}
    verify = Verifier(jwk("RSA", "k"), hmac_secret_key=KEY, audience="mesh", subscription=subscription)
    assert verify.cache.sources.keys() == {URL}
    assert verify.channel(signed("RS256", "k", channel="a", aud="channels", exp=NOW - 5)) == "a"
    assert verify.channel(signed("RS256", "k", channel="a", aud="mesh")) is INVALID
    assert verify(signed("RS256", "k", aud="mesh")) is INVALID


@protocol("token.jwks", "token.unavailable")
def test_flood_of_unknown_kids_cannot_hurt_a_fresh_key() -> None:
    """While the set may not be fetched again the verdict on a kid that nobody asked for is "later", never "no"."""
    verify = Verifier(jwk("RSA", "k"), jwks=[{"url": URL}])
    assert verify(signed("RS256", "nonsense")) is UNAVAILABLE
    verify.clock.advance(10)
    assert verify(signed("RS256", "nonsense")) == KeyWanted(URL)
    source = verify.cache.sources[URL]
    source.begin(verify.clock.now)
    source.took(source.held, verify.clock.now)
    assert verify(signed("RS256", "nonsense")) is INVALID
    assert verify(signed("RS256", "fresh")) is UNAVAILABLE
    assert verify(signed("RS256", "k")) == "alice"


@protocol("token.unavailable")
def test_issuer_that_was_never_reached() -> None:
    """No key is held, so its tokens are neither good nor bad; others are not touched."""
    verify = Verifier(hmac_secret_key=KEY, jwks=[{"url": URL}])
    assert verify(signed("RS256", "k")) == KeyWanted(URL)
    source = verify.cache.sources[URL]
    source.begin(verify.clock.now)
    source.failed("away", verify.clock.now)
    assert verify(signed("RS256", "k")) is UNAVAILABLE
    assert verify.tokens.why == "cannot ask the issuer for the kid 'k' now"
    assert verify(token()) == "alice"


def test_keys_outlive_a_change_of_configuration() -> None:
    """A verifier made anew with the same cache has them at once."""
    verify = Verifier(jwk("RSA", "k"), jwks=[{"url": URL}])
    config = edge_config(client={"token": {"hmac_secret_key": KEY, "jwks": [{"url": URL}]}})
    again = TokenVerifier(config.client, verify.clock, verify.cache)
    assert isinstance(again.connection(signed("RS256", "k")), ConnectionClaims)


@protocol("token.invalid")
def test_long_token_costs_nothing() -> None:
    """Refused before anything is decoded."""
    text = forged({"alg": "HS256"}, KEY.encode(), {"sub": "x" * 10_000_000})
    verify = Verifier(hmac_secret_key=KEY)
    began = time.thread_time()
    assert verify(text) is INVALID
    assert time.thread_time() - began < 0.05  # of this thread, whatever else the machine does
    assert verify.tokens.why == "longer than 16384 characters"
