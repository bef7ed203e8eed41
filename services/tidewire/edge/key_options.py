"""Settings of the keys that tokens are checked with: shared secrets, public keys, and the issuers' own key sets."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Annotated, Final
from urllib.parse import urlsplit

from msgspec import Meta

from tidewire.edge.key_material import (
    LONGEST_KID,
    PUBLIC_ALGORITHMS,
    HmacAlgorithm,
    PublicAlgorithm,
    UnusableKey,
    algorithms_for,
    read_hmac,
    read_pem,
)
from tidewire.kernel.config import PATH, Duration, Problem, Secret, Section, duration, secret

MOST_SOURCES: Final = 8


def secret_is_usable(key: HmacKey) -> Iterator[Problem]:
    """An empty key would let anyone sign."""
    if not key.secret:
        yield Problem("secret", "is empty: give secret or secret_file")
    else:
        yield from hmac_flaw("secret", key.secret)


def hmac_flaw(setting: str, key: Secret) -> Iterator[Problem]:
    """A key shorter than its hash can be guessed from one token (RFC 7518, section 3.2)."""
    try:
        read_hmac(key.reveal())
    except UnusableKey as error:
        yield Problem(setting, str(error))


class HmacKey(Section, frozen=True, kw_only=True):
    """One of several signing keys."""

    reloadable = True

    checks = (secret_is_usable,)

    kid: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=LONGEST_KID,
            description="The key's name: a token whose header has this `kid` is checked with this key and no other.",
        ),
    ]
    secret: Annotated[
        Secret, Meta(description="The key that your backend signs tokens with; at least 32 random bytes.")
    ] = secret()
    algorithms: Annotated[
        tuple[HmacAlgorithm, ...],
        Meta(min_length=1, description="The algorithms that a token may be signed with by this key."),
    ] = ("HS256",)


def key_fits_algorithms(key: PublicKeyConfig) -> Iterator[Problem]:
    """Another curve or kind of key than an algorithm's own could never check a signature."""
    if not key.key:
        yield Problem("key", "is empty: give key or key_file")
        return
    try:
        fitting = algorithms_for(read_pem(key.key.reveal()))
    except UnusableKey as error:
        yield Problem("key", str(error))
        return
    for index, algorithm in enumerate(key.algorithms):
        if algorithm not in fitting:
            yield Problem(
                f"algorithms[{index}]", f"{algorithm} is not for this key, {', '.join(fitting)} would be"
            )


class PublicKeyConfig(Section, frozen=True, kw_only=True):
    """A public key whose private half signs tokens elsewhere."""

    reloadable = True

    checks = (key_fits_algorithms,)

    kid: Annotated[
        str,
        Meta(
            max_length=LONGEST_KID,
            description="The key's name: it serves tokens whose header has this `kid`. Empty: tokens without a `kid`.",
        ),
    ] = ""
    key: Annotated[
        Secret,
        Meta(
            description="The public key in PEM (`-----BEGIN PUBLIC KEY-----`): RSA of 2048 to 8192 bits, EC on P-256, "
            "P-384 or P-521, or Ed25519."
        ),
    ] = secret()
    algorithms: Annotated[
        tuple[PublicAlgorithm, ...],
        Meta(
            description="The algorithms that a token may be signed with by this key. Empty: all that fit it (RSA: RS256 "
            "to RS512 and PS256 to PS512; P-256: ES256; P-384: ES384; P-521: ES512; Ed25519: EdDSA)."
        ),
    ] = ()

    def fitting(self) -> tuple[PublicAlgorithm, ...]:
        """Return the algorithms that this key serves; raises UnusableKey."""
        return self.algorithms or algorithms_for(read_pem(self.key.reveal()))


def url_is_safe(jwks: JwksConfig) -> Iterator[Problem]:
    """Whoever could change the answer on its way could sign as anyone."""
    if not jwks.url.isascii() or any(character <= " " for character in jwks.url):
        yield Problem("url", "expected an address without spaces, in ASCII")
        return
    try:
        parts = urlsplit(jwks.url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        yield Problem("url", f"is no address: {error}")
        return
    if not host or parts.scheme not in {"https", "http"}:
        yield Problem("url", "expected https://host/path")
    elif parts.scheme == "http" and not _is_loopback(host):
        yield Problem(
            "url", "expected https: anyone on the way could put his keys in; http is for loopback hosts only"
        )
    if "@" in parts.netloc or "#" in jwks.url:
        yield Problem("url", "expected no user, password or fragment")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def intervals_fit(jwks: JwksConfig) -> Iterator[Problem]:
    """Keys must be able to outlive a failed refresh, and a refresh must be allowed to happen."""
    if jwks.min_refetch_interval > jwks.refresh_interval:
        yield Problem("min_refetch_interval", f"expected at most refresh_interval ({jwks.refresh_interval})")
    if jwks.max_stale < jwks.refresh_interval:
        yield Problem("max_stale", f"expected at least refresh_interval ({jwks.refresh_interval})")


class JwksConfig(Section, frozen=True, kw_only=True):
    """An issuer that publishes its keys (JSON Web Key Set, RFC 7517)."""

    reloadable = True

    checks = (url_is_safe, intervals_fit)

    url: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=2048,
            description="Where the key set is: `https`, or `http` on a loopback host. Redirects are not followed. A token "
            "is checked with the key of this set that its `kid` names.",
        ),
    ]
    issuer: Annotated[
        str,
        Meta(
            description="What `iss` must be in tokens signed with these keys, in place of the section's `issuer`. Needed "
            "where several sets are configured, since otherwise each issuer could speak for the others."
        ),
    ] = ""
    algorithms: Annotated[
        tuple[PublicAlgorithm, ...],
        Meta(
            min_length=1,
            description="The algorithms that tokens may be signed with; of these a key serves those that fit its kind, "
            "and its `alg` where it has one.",
        ),
    ] = PUBLIC_ALGORITHMS
    refresh_interval: Annotated[
        Duration,
        Meta(
            description="How often the set is fetched, in the background and up to a tenth earlier. A key that has gone "
            "from it is refused from then on.",
            extra={"at_least": "10s", "at_most": "24h"},
        ),
    ] = duration("10m")
    min_refetch_interval: Annotated[
        Duration,
        Meta(
            description="The least time between two fetches. A token with a `kid` that is not held has the set fetched "
            "early, but never more often than this; until then such tokens get the temporary error 100.",
            extra={"at_least": "1s", "at_most": "1h"},
        ),
    ] = duration("10s")
    timeout: Annotated[
        Duration,
        Meta(
            description="How long a fetch may take. Only clients whose key is not held wait for it.",
            extra={"at_least": "100ms", "at_most": "30s"},
        ),
    ] = duration("3s")
    max_stale: Annotated[
        Duration,
        Meta(
            description="How long keys are used after the last fetch that went well. When the issuer is away for longer "
            "its tokens get the temporary error 100 until it is back.",
            extra={"at_most": "720h"},
        ),
    ] = duration("24h")
    ca_file: Annotated[
        str,
        Meta(
            description="PEM file of the CA that the URL's certificate must be signed by. Empty: the public CAs.",
            extra=PATH,
        ),
    ] = ""
