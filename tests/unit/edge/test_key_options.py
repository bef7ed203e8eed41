from __future__ import annotations

from typing import Any

import pytest

from tests.support.config import problems, token
from tests.support.keys import pem, private_pem
from tidewire.edge.config import EdgeConfig, JwksConfig, PublicKeyConfig
from tidewire.edge.key_material import PUBLIC_ALGORITHMS
from tidewire.kernel.config import decode
from tidewire.platform.settings import load

SECRET = "s" * 32
URL = "https://issuer.example/keys"


def public(**settings: object) -> dict[str, object]:
    """A configuration with one public key."""
    return token(public_keys=[settings])


def jwks(**settings: object) -> dict[str, object]:
    """A configuration with one key set."""
    return token(jwks=[{"url": URL, **settings}])


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (token(hmac_keys=[{"kid": "a"}]), "hmac_keys[0].secret: is empty: give secret or secret_file"),
        (
            token(hmac_keys=[{"kid": "a", "secret": "x" * 31}]),
            "hmac_keys[0].secret: has 31 bytes: a key needs at least 32, random ones",
        ),
        (
            token(hmac_keys=[{"kid": "a", "secret": pem("RSA")}]),
            "hmac_keys[0].secret: is a public key or certificate, no secret: use public_keys",
        ),
        (token(hmac_keys=[{"kid": "", "secret": SECRET}]), "hmac_keys[0].kid: expected str of length >= 1"),
        (
            token(hmac_keys=[{"kid": "k" * 257, "secret": SECRET}]),
            "hmac_keys[0].kid: expected str of length <= 256",
        ),
        (public(), "public_keys[0].key: is empty: give key or key_file"),
        (
            public(key="es256.pem"),
            "public_keys[0].key: is no PEM (-----BEGIN PUBLIC KEY-----); for the path of a file there is key_file",
        ),
        (
            public(key="-----BEGIN x"),
            "public_keys[0].key: is no public key in PEM (-----BEGIN PUBLIC KEY-----)",
        ),
        (
            public(key=private_pem("RSA")),
            "public_keys[0].key: is a private key: give the public one, and keep the private one with whoever signs",
        ),
        (public(key=pem("RSA-1024")), "public_keys[0].key: has 1024 bits: RSA needs 2048 to 8192"),
        (
            public(key=pem("P-256"), algorithms=["ES256", "ES384"]),
            "public_keys[0].algorithms[1]: ES384 is not for this key, ES256 would be",
        ),
        (
            public(key=pem("RSA"), algorithms=["HS256"]),
            f"public_keys[0].algorithms[0]: expected one of {', '.join(PUBLIC_ALGORITHMS)}, got 'HS256'",
        ),
        (jwks(algorithms=[]), "jwks[0].algorithms: expected at least 1 item"),
        (jwks(timeout="31s"), "jwks[0].timeout: expected at most 30s, got 31s"),
        (jwks(min_refetch_interval="500ms"), "jwks[0].min_refetch_interval: expected at least 1s, got 500ms"),
        (
            jwks(refresh_interval="10s", min_refetch_interval="11s"),
            "jwks[0].min_refetch_interval: expected at most refresh_interval (10s)",
        ),
        (jwks(max_stale="9m"), "jwks[0].max_stale: expected at least refresh_interval (10m)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rules_are_checked(config: dict[str, object], line: str) -> None:
    """Each rule about keys has its problem, and no problem shows a key."""
    assert problems(config) == [f"client.token.{line}"]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://issuer.example/keys?policy=a", None),
        ("https://issuer.example:8443/keys", None),
        ("http://127.0.0.1:8080/keys", None),
        ("http://[::1]/keys", None),
        ("http://localhost/keys", None),
        ("http://issuer.example/keys", "expected https: anyone"),
        ("http://localhost.example/keys", "expected https: anyone"),
        ("http://127.0.0.1.example/keys", "expected https: anyone"),
        ("http://10.0.0.1/keys", "expected https: anyone"),
        ("ftp://issuer.example/keys", "expected https://host/path"),
        ("file:///etc/passwd", "expected https://host/path"),
        ("/keys", "expected https://host/path"),
        ("https:///keys", "expected https://host/path"),
        ("https://user:password@issuer.example/", "expected no user, password or fragment"),
        ("https://issuer.example/#keys", "expected no user, password or fragment"),
        ("https://issuer.example/a b", "expected an address without spaces, in ASCII"),
        ("https://issuer.example/\n", "expected an address without spaces, in ASCII"),
        ("https://ä.example/", "expected an address without spaces, in ASCII"),
        ("https://issuer.example:99999/", "is no address: "),
        ("https://[::1/", "is no address: "),
    ],
)
def test_urls_of_key_sets(url: str, problem: str | None) -> None:
    """Nobody on the way may put keys in, and nothing secret stands in it where logs would show it."""
    if problem is None:
        assert decode(JwksConfig, {"url": url}).url == url
    else:
        [line] = problems(jwks(url=url))
        assert line.startswith(f"client.token.jwks[0].url: {problem}")


@pytest.mark.parametrize(
    ("kind", "algorithms"),
    [
        ("RSA", ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        ("P-256", ("ES256",)),
        ("P-384", ("ES384",)),
        ("P-521", ("ES512",)),
        ("Ed25519", ("EdDSA",)),
    ],
)
def test_a_public_key_serves_what_fits_it(kind: str, algorithms: tuple[str, ...]) -> None:
    """Or less, where less is said."""
    key: dict[str, Any] = {"key": pem(kind)}
    assert decode(PublicKeyConfig, key).fitting() == algorithms
    assert decode(PublicKeyConfig, {**key, "algorithms": algorithms[:1]}).fitting() == algorithms[:1]


def test_a_public_key_may_be_in_a_file(tmp_path: Any) -> None:
    """As every key."""
    (tmp_path / "key.pem").write_text(pem("P-256"))
    file = tmp_path / "tidewire.yaml"
    file.write_text(
        "client: {token: {public_keys: [{key_file: key.pem}], jwks: [{url: 'https://a.example', ca_file: ca.pem}]}}"
    )
    config = load(EdgeConfig, file, {}).client.token
    assert config.public_keys[0].fitting() == ("ES256",)
    assert config.jwks[0].ca_file == str(tmp_path / "ca.pem")
