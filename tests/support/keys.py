"""Key pairs of every kind, made once, and tokens signed with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

KINDS = {
    **dict.fromkeys(["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"], "RSA"),
    "ES256": "P-256",
    "ES384": "P-384",
    "ES512": "P-521",
    "EdDSA": "Ed25519",
}
"""Which kind of key each algorithm takes."""
CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


def private(kind: str, number: int = 0) -> Any:
    """The private key of a kind (`RSA`, `P-256`, ..., `Ed25519`, `RSA-1024`); `number` tells keys of a kind apart."""
    return _made(kind, number)


@lru_cache
def _made(kind: str, _number: int) -> Any:
    if kind.startswith("RSA"):
        return rsa.generate_private_key(65537, int(kind.partition("-")[2] or 2048))
    return Ed25519PrivateKey.generate() if kind == "Ed25519" else ec.generate_private_key(CURVES[kind])


def pem(kind: str, number: int = 0) -> str:
    """Its public half in PEM."""
    public = private(kind, number).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    text: bytes = public.public_bytes(serialization.Encoding.PEM, form)
    return text.decode()


def private_pem(kind: str, number: int = 0) -> str:
    """The private key in PEM."""
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    text: bytes = private(kind, number).private_bytes(serialization.Encoding.PEM, form, plain)
    return text.decode()


def jwk(kind: str, kid: str | None, number: int = 0, **members: Any) -> dict[str, Any]:
    """Its public half as a JSON Web Key with a kid (None: without) and more members."""
    public = private(kind, number).public_key()
    maker = RSAAlgorithm if kind.startswith("RSA") else OKPAlgorithm if kind == "Ed25519" else ECAlgorithm
    named = {} if kid is None else {"kid": kid}
    return {**json.loads(maker.to_jwk(public)), **named, **members}


def jwks(*keys: Mapping[str, Any]) -> bytes:
    """A key set."""
    return json.dumps({"keys": keys}).encode()


def signed(
    algorithm: str, kid: str | None = None, number: int = 0, user: str = "alice", **claims: Any
) -> str:
    """A token signed with the key of the algorithm's kind."""
    headers = None if kid is None else {"kid": kid}
    return jwt.encode(
        {"sub": user, **claims}, private(KINDS[algorithm], number), algorithm=algorithm, headers=headers
    )
