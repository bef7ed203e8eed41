from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa, x25519

from tests.support.keys import KINDS, jwk, pem, private, private_pem
from tidewire.edge.key_material import (
    HMAC_ALGORITHMS,
    LARGEST_EXPONENT,
    PUBLIC_ALGORITHMS,
    VERIFIERS,
    PublicKey,
    UnusableKey,
    algorithms_for,
    read_hmac,
    read_jwk,
    read_pem,
    read_private_pem,
)

OTHER_KINDS = {
    "secp256k1": (
        ec.generate_private_key(ec.SECP256K1()),
        "is on the curve secp256k1: use P-256, P-384 or P-521",
    ),
    "P-224": (
        ec.generate_private_key(ec.SECP224R1()),
        "is on the curve secp224r1: use P-256, P-384 or P-521",
    ),
    "Ed448": (ed448.Ed448PrivateKey.generate(), "is of no kind that signs tokens"),
    "X25519": (x25519.X25519PrivateKey.generate(), "is of no kind that signs tokens"),
    "DSA": (dsa.generate_private_key(2048), "is of no kind that signs tokens"),
}


def as_pem(public: PublicKey | object) -> str:
    """PEM of any public key."""
    text: bytes = public.public_bytes(  # type: ignore[attr-defined,union-attr]
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return text.decode()


def test_every_algorithm_has_one_verifier_and_there_are_no_others() -> None:
    """Above all not `none`."""
    assert VERIFIERS.keys() == {*HMAC_ALGORITHMS, *PUBLIC_ALGORITHMS}
    assert set(PUBLIC_ALGORITHMS) == KINDS.keys()


@pytest.mark.parametrize("kind", sorted(set(KINDS.values())))
def test_good_keys_in_each_form(kind: str) -> None:
    """PEM and JWK of one key are the same key, and its private half knows what it signs with."""
    key = read_pem(pem(kind))
    assert read_jwk(jwk(kind, None)) == key
    assert read_private_pem(private_pem(kind))[1] == algorithms_for(key)
    assert set(algorithms_for(key)) == {name for name, needed in KINDS.items() if needed == kind}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_other_kinds_of_keys(kind: str) -> None:
    """Each says what to use instead."""
    key, why = OTHER_KINDS[kind]
    with pytest.raises(UnusableKey, match=why):
        read_pem(as_pem(key.public_key()))


def test_weak_and_slow_rsa_keys() -> None:
    """Too short is guessed, a long exponent makes each token cost a hundredfold."""
    for text in (pem("RSA-1024"), pem("RSA-2047")):
        with pytest.raises(UnusableKey, match="bits: RSA needs 2048 to 8192"):
            read_pem(text)
    modulus = private("RSA").public_key().public_numbers().n
    for exponent in (LARGEST_EXPONENT + 1, 2**2000 + 1):
        slow = rsa.RSAPublicNumbers(exponent, modulus).public_key()
        with pytest.raises(UnusableKey, match="has a public exponent over 32 bits"):
            read_pem(as_pem(slow))
    with pytest.raises(UnusableKey, match="has 8200 bits"):
        read_pem(as_pem(rsa.RSAPublicNumbers(65537, 2**8199 + 1).public_key()))


def test_a_shared_secret_is_no_public_key() -> None:
    """Who mixes up the settings would let everybody sign."""
    for text in (pem("RSA"), pem("P-256")):
        with pytest.raises(UnusableKey, match="is a public key or certificate, no secret"):
            read_hmac(text)
    assert read_hmac("é" * 16) == "é".encode() * 16


@pytest.mark.parametrize(
    "text", ["", "x", pem("RSA"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
)
def test_what_is_no_private_key(text: str) -> None:
    """Nor is one with a password."""
    with pytest.raises(UnusableKey, match="is no private key in PEM without a password"):
        read_private_pem(text)


def test_private_key_with_a_password() -> None:
    """The CLI asks for none."""
    form, lock = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"password")
    text = private("P-256").private_bytes(serialization.Encoding.PEM, form, lock).decode()
    with pytest.raises(UnusableKey, match="without a password"):
        read_private_pem(text)
