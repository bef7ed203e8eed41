"""Is this token good? JSON Web Tokens (RFC 7519) as the Centrifuge client protocol uses them.

A key names the algorithms that it may be used with, so a token cannot choose one (RFC 8725, section 3.1). Times are
compared with the clock that is passed in; `leeway` widens both ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import UNSET

from tidewire.edge.key_material import VERIFIERS
from tidewire.edge.policies.claims import ConnectionClaims, SubscriptionClaims
from tidewire.edge.policies.jws import Jws, take_apart
from tidewire.edge.policies.key_cache import KeyCache
from tidewire.edge.policies.keys import Key, KeyRing
from tidewire.edge.policies.payload import (
    Payload,
    connection_claims,
    custom_claims,
    read_payload,
    subscription_claims,
)
from tidewire.edge.policies.verdicts import KeyWanted, Refused, TokenProblem

if TYPE_CHECKING:
    from tidewire.edge.config import ClientConfig, TrustConfig
    from tidewire.kernel.clock import Clock

__all__ = ["KeyWanted", "TokenProblem", "TokenVerifier"]

C = TypeVar("C", ConnectionClaims, SubscriptionClaims)


class TokenVerifier:
    """Checks connection and subscription tokens against the keys of a configuration and those of its issuers in `cache`.

    Cheap to make again for another configuration: with the same cache no key has to be fetched again.
    """

    __slots__ = ("_clock", "_connection", "_custom", "_subscription", "why")

    def __init__(
        self, config: ClientConfig, clock: Clock, cache: KeyCache, custom: frozenset[str] = frozenset()
    ) -> None:
        """`custom` are the application's own claims that are wanted of connection tokens."""
        own = config.subscription_token.trusts_someone
        subscription = config.subscription_token if own else config.token
        cache.use([*config.token.jwks, *subscription.jwks])
        self._clock = clock
        self._custom = custom
        self._connection = _Trust(config.token, cache)
        self._subscription = _Trust(subscription, cache)
        self.why = ""
        """Why the last token that was not good was refused, for the log."""

    def connection(self, token: str) -> ConnectionClaims | TokenProblem | KeyWanted:
        """Judge a connection token."""
        claims = self._judge(token, self._connection, connection_claims)
        if self._custom and isinstance(claims, ConnectionClaims):
            custom = custom_claims(take_apart(token).payload, self._custom)
            return msgspec.structs.replace(claims, custom=custom)
        return claims

    def subscription(self, token: str) -> SubscriptionClaims | TokenProblem | KeyWanted:
        """Judge a subscription token; whether it is for this channel and user is the session's question."""
        return self._judge(token, self._subscription, subscription_claims)

    def _judge(
        self, token: str, trust: _Trust, read: Callable[[Payload, float], C]
    ) -> C | TokenProblem | KeyWanted:
        try:
            jws = take_apart(token)
            payload = read_payload(jws.payload)  # its issuer chooses the key; believed below
            keys = trust.ring.find(jws.kid, jws.algorithm, payload.iss, self._clock.monotonic())
            if isinstance(keys, KeyWanted):
                return keys
            signer = _signer(jws, keys)
            trust.check(payload, signer, self._clock.wall())
            return read(payload, trust.leeway)
        except Refused as refused:
            self.why = refused.why
            return refused.problem


class _Trust:
    """One section's keys and demands."""

    __slots__ = ("_audience", "leeway", "ring")

    def __init__(self, config: TrustConfig, cache: KeyCache) -> None:
        self.ring = KeyRing(config, cache)
        self.leeway = float(config.leeway)
        self._audience = config.audience

    def check(self, payload: Payload, signer: Key, now: float) -> None:
        """Judge what any token must say; raises Refused."""
        audiences = payload.aud if isinstance(payload.aud, list) else [payload.aud]
        if self._audience and self._audience not in audiences:
            raise Refused("another audience")
        if signer.issuer and payload.iss != signer.issuer:
            raise Refused("another issuer")
        if payload.nbf > now + self.leeway:
            raise Refused("not valid yet")
        if payload.exp is not UNSET and payload.exp <= now - self.leeway:
            raise Refused("expired", TokenProblem.EXPIRED)


def _signer(jws: Jws, keys: tuple[Key, ...]) -> Key:
    """Return the key that signed; raises Refused. The ring gives only keys that are for the token's algorithm."""
    verifier = VERIFIERS[jws.algorithm]
    for key in keys:
        if verifier.verify(jws.signed, key.material, jws.signature):
            return key
    raise Refused("the signature is not of the key")
