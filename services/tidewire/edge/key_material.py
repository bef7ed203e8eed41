"""Keys that check signatures, made ready once: which there are, what makes one unusable, and what each may be used for.

The algorithms are those of RFC 7518 and RFC 8037. A key's kind says which of them it fits, so no token can have a key
used in another way than it was made for.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, cast, get_args

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt import InvalidKeyError
from jwt.algorithms import (
    Algorithm,
    ECAlgorithm,
    HMACAlgorithm,
    OKPAlgorithm,
    RSAAlgorithm,
    get_default_algorithms,
)

HmacAlgorithm = Literal["HS256", "HS384", "HS512"]
PublicAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
PublicKey = RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey
PrivateKey = RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey

HMAC_ALGORITHMS: Final[tuple[HmacAlgorithm, ...]] = get_args(HmacAlgorithm)
PUBLIC_ALGORITHMS: Final[tuple[PublicAlgorithm, ...]] = get_args(PublicAlgorithm)
VERIFIERS: Final[Mapping[str, Algorithm]] = {
    name: algorithm
    for name, algorithm in get_default_algorithms().items()
    if name in (*HMAC_ALGORITHMS, *PUBLIC_ALGORITHMS)
}

LONGEST_KID: Final = 256
"""Characters of a key's name, here and in tokens."""
SHORTEST_HMAC: Final = 32
"""Bytes (docs/decisions/0005)."""
RSA_BITS: Final = range(2048, 8192 + 1)
"""RFC 7518, section 3.3, asks for 2048; a longer modulus than the upper end only costs time."""
LARGEST_EXPONENT: Final = 2**32
"""Verifying takes time by the length of the public exponent, which is 65537 nearly everywhere."""

_RSA: Final[tuple[PublicAlgorithm, ...]] = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_FROM_JWK: Final[Mapping[str, Callable[[dict[str, Any]], object]]] = {
    "RSA": RSAAlgorithm.from_jwk,
    "EC": ECAlgorithm.from_jwk,
    "OKP": OKPAlgorithm.from_jwk,
}
_CURVES: Final[Mapping[str, PublicAlgorithm]] = {
    "secp256r1": "ES256",
    "secp384r1": "ES384",
    "secp521r1": "ES512",
}


class UnusableKey(ValueError):
    """The key cannot be used; the text says why, and never shows the key."""


def read_hmac(secret: str) -> bytes:
    """Return a shared key; raises UnusableKey when it is short, or is a public key, which anyone may know."""
    length = len(secret.encode())
    if length < SHORTEST_HMAC:
        raise UnusableKey(f"has {length} bytes: a key needs at least {SHORTEST_HMAC}, random ones")
    try:
        return HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except InvalidKeyError:
        raise UnusableKey("is a public key or certificate, no secret: use public_keys") from None


def read_pem(text: str) -> PublicKey:
    """Return the public key of a PEM text (RFC 7468); raises UnusableKey."""
    if "PRIVATE KEY" in text:
        raise UnusableKey(
            "is a private key: give the public one, and keep the private one with whoever signs"
        )
    if "-----BEGIN" not in text:
        raise UnusableKey("is no PEM (-----BEGIN PUBLIC KEY-----); for the path of a file there is key_file")
    try:
        return _checked(load_pem_public_key(text.encode()))
    except UnusableKey:
        raise
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKey("is no public key in PEM (-----BEGIN PUBLIC KEY-----)") from None


def read_private_pem(text: str) -> tuple[PrivateKey, tuple[PublicAlgorithm, ...]]:
    """Return the private key of a PEM text without a password, and what it may sign with; raises UnusableKey."""
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UnusableKey("is no private key in PEM without a password") from None
    fitting = algorithms_for(_checked(key.public_key()))
    return cast("PrivateKey", key), fitting  # its public half has told the kind


def read_jwk(jwk: Mapping[str, Any]) -> PublicKey:
    """Return the public key of a JSON Web Key (RFC 7517), of which only the numbers are read; raises UnusableKey."""
    kind = jwk.get("kty")
    if not isinstance(kind, str) or kind not in _FROM_JWK:
        raise UnusableKey("kty is none of RSA, EC, OKP")
    numbers = {name: jwk[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in jwk}
    if not all(isinstance(value, str) and len(value) * 6 <= RSA_BITS.stop + 8 for value in numbers.values()):
        raise UnusableKey("its numbers are no text, or too long")
    try:
        return _checked(_FROM_JWK[kind](numbers))
    except UnusableKey:
        raise
    except (InvalidKeyError, ValueError, TypeError, UnsupportedAlgorithm, binascii.Error) as error:
        raise UnusableKey(f"its numbers are no key: {error}") from None


def algorithms_for(key: PublicKey) -> tuple[PublicAlgorithm, ...]:
    """Return the algorithms that the key fits."""
    match key:
        case RSAPublicKey():
            return _RSA
        case ec.EllipticCurvePublicKey():
            return (_CURVES[key.curve.name],)
        case _:
            return ("EdDSA",)


def _checked(key: object) -> PublicKey:
    match key:
        case RSAPublicKey() if key.key_size not in RSA_BITS:
            raise UnusableKey(f"has {key.key_size} bits: RSA needs {RSA_BITS.start} to {RSA_BITS[-1]}")
        case RSAPublicKey() if key.public_numbers().e > LARGEST_EXPONENT:
            raise UnusableKey("has a public exponent over 32 bits")
        case ec.EllipticCurvePublicKey() if key.curve.name not in _CURVES:
            raise UnusableKey(f"is on the curve {key.curve.name}: use P-256, P-384 or P-521")
        case RSAPublicKey() | ec.EllipticCurvePublicKey() | Ed25519PublicKey():
            return key
    raise UnusableKey("is of no kind that signs tokens: use RSA, EC (P-256, P-384, P-521) or Ed25519")
