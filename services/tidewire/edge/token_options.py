"""Settings of tokens: which keys are trusted, and what else a token must say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from tidewire.edge.key_material import HMAC_ALGORITHMS, HmacAlgorithm, UnusableKey
from tidewire.edge.key_options import MOST_SOURCES, HmacKey, JwksConfig, PublicKeyConfig, hmac_flaw
from tidewire.kernel.config import Duration, Problem, Secret, Section, duration, repeated, secret
from tidewire.options import centrifugo_names


def secret_key_is_usable(token: TrustConfig) -> Iterator[Problem]:
    """Empty is no key at all."""
    if token.hmac_secret_key:
        yield from hmac_flaw("hmac_secret_key", token.hmac_secret_key)


def kids_differ(token: TrustConfig) -> Iterator[Problem]:
    """A `kid` chooses one key."""
    yield from repeated("hmac_keys", token.hmac_keys, "kid")


def one_public_key_each(token: TrustConfig) -> Iterator[Problem]:
    """A `kid` and an algorithm choose one key; keys of different kinds may share a `kid`, also the empty one."""
    first: dict[tuple[str, str], int] = {}
    for index, key in enumerate(token.public_keys):
        try:
            taken = [first.setdefault((key.kid, name), index) for name in key.fitting()]
        except UnusableKey:
            continue
        if (other := min(taken)) != index:
            yield Problem(
                f"public_keys[{index}].kid",
                f"public_keys[{other}] has the kid {key.kid!r} for the same algorithm already",
            )


def sources_differ(token: TrustConfig) -> Iterator[Problem]:
    """Each key set once, and each bound to its issuer where there are several."""
    if len(token.jwks) > MOST_SOURCES:
        yield Problem("jwks", f"expected at most {MOST_SOURCES}")
    yield from repeated("jwks", token.jwks, "url")
    if len(token.jwks) > 1:
        for index, jwks in enumerate(token.jwks):
            if not jwks.issuer:
                yield Problem(
                    f"jwks[{index}].issuer", "is empty: with several key sets each must name its issuer"
                )


class TrustConfig(Section, frozen=True, kw_only=True):
    """Which keys are trusted to sign tokens, and for whom."""

    reloadable = True

    checks: ClassVar[tuple[Callable[[Any], Iterable[Problem]], ...]] = (
        kids_differ,
        secret_key_is_usable,
        one_public_key_each,
        sources_differ,
    )

    hmac_secret_key: Annotated[
        Secret,
        Meta(
            description="The key that your backend signs tokens with; at least 32 random bytes. It serves tokens "
            "without a `kid` in their header. Empty: such tokens are invalid (close code 3500)."
        ),
    ] = secret()
    hmac_keys: Annotated[
        tuple[HmacKey, ...],
        Meta(
            description="More keys, chosen by the token's `kid`. To rotate: add the new key here, sign with it, and "
            "remove the old one when the last token of it has expired."
        ),
    ] = ()
    algorithms: Annotated[
        tuple[HmacAlgorithm, ...],
        Meta(
            min_length=1, description="The algorithms that a token may be signed with by `hmac_secret_key`."
        ),
    ] = HMAC_ALGORITHMS
    public_keys: Annotated[
        tuple[PublicKeyConfig, ...],
        Meta(
            description="Public keys, chosen by the token's `kid` and algorithm: whoever signs keeps the private halves, "
            "and the edge can sign nothing."
        ),
    ] = ()
    jwks: Annotated[
        tuple[JwksConfig, ...],
        Meta(
            description="Issuers whose keys are fetched. A `kid` of `hmac_keys` or `public_keys` is never looked up "
            "there, nor is a token without a `kid`."
        ),
    ] = ()
    audience: Annotated[
        str, Meta(description="What a token's `aud` must hold. Empty: `aud` is not looked at.")
    ] = ""
    issuer: Annotated[
        str, Meta(description="What a token's `iss` must be. Empty: `iss` is not looked at.")
    ] = ""
    leeway: Annotated[
        Duration,
        Meta(
            description="How far the clocks of backend and edge may differ when `exp` and `nbf` are compared.",
            extra={"at_most": "5m"},
        ),
    ] = duration("0s")

    @property
    def trusts_someone(self) -> bool:
        """Whether there is any key."""
        return bool(self.hmac_secret_key or self.hmac_keys or self.public_keys or self.jwks)


class TokenConfig(TrustConfig, frozen=True, kw_only=True):
    """How connection tokens (JWT) are checked, and subscription tokens where they have no keys of their own."""

    hints = centrifugo_names.TOKEN

    cookie: Annotated[
        str,
        Meta(
            description="Name of a cookie that holds the connection token, for clients that send none in their connect "
            "command. Empty: cookies are not looked at."
        ),
    ] = ""


def settings_have_keys(token: SubscriptionTokenConfig) -> Iterator[Problem]:
    """Without a key the section is not in force, so what else it says would be lost silently."""
    if not token.trusts_someone and token != SubscriptionTokenConfig():
        yield Problem(
            "", "has no key: give it one, or remove it to have client.token serve both kinds of token"
        )


class SubscriptionTokenConfig(TrustConfig, frozen=True, kw_only=True):
    """How subscription tokens (JWT) are checked; without any key here `client.token` serves them, too."""

    checks = (*TrustConfig.checks, settings_have_keys)
    hints = centrifugo_names.SUBSCRIPTION_TOKEN
