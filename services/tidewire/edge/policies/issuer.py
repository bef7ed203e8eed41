"""Signing tokens as a backend would: for the CLI and the pages of a dev mesh."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jwt
import msgspec

from tidewire.kernel.errors import TidewireError

if TYPE_CHECKING:
    from tidewire.edge.config import TrustConfig

DEFAULT_TTL = 86_400
NO_CLAIMS: Mapping[str, object] = {}


class NoKeyError(TidewireError):
    """There is no such key to sign with; `setting` is the path of the setting that would hold it."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


class SigningKey(msgspec.Struct, frozen=True):
    """A shared secret or a private key, what it signs with, and its name in the token's header (None: no name)."""

    material: Any
    algorithm: str
    kid: str | None = None


class TokenIssuer:
    """Signs for a configuration's audience and issuer, with its own shared keys unless `key` is another.

    `section` is the path of these settings, for errors.
    """

    def __init__(
        self, config: TrustConfig, section: str = "client.token", key: SigningKey | None = None
    ) -> None:
        self._config = config
        self._section = section
        self._given = key

    def connection(
        self,
        user: str,
        ttl: float = DEFAULT_TTL,
        info: object = None,
        kid: str | None = None,
        more: Mapping[str, object] = NO_CLAIMS,
    ) -> str:
        """Return a connection token for `user`. `ttl` in seconds, 0 = without an end. Raises NoKeyError."""
        return self._sign({**_claims(user, ttl, info), **more}, kid)

    def subscription(
        self,
        user: str,
        channel: str,
        ttl: float = DEFAULT_TTL,
        info: object = None,
        kid: str | None = None,
        more: Mapping[str, object] = NO_CLAIMS,
    ) -> str:
        """Return a subscription token for `user` and `channel`. Raises NoKeyError."""
        return self._sign({**_claims(user, ttl, info), "channel": channel, **more}, kid)

    def _sign(self, claims: Mapping[str, object], kid: str | None) -> str:
        key = self._given or self._key(kid)
        header = {} if key.kid is None else {"kid": key.kid}
        expected = {"aud": self._config.audience, "iss": self._config.issuer}
        payload = {**claims, **{name: value for name, value in expected.items() if value}}
        with warnings.catch_warnings():
            # The configuration refuses secrets under 32 bytes; HS384 and HS512 with less than their own hash's length
            # are the deployment's choice.
            warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
            return jwt.encode(payload, key.material, algorithm=key.algorithm, headers=header)

    def _key(self, kid: str | None) -> SigningKey:
        """Return the key named `kid`; without a name `hmac_secret_key`, else the first of `hmac_keys`."""
        config = self._config
        if kid is None and config.hmac_secret_key:
            return SigningKey(config.hmac_secret_key.reveal(), config.algorithms[0])
        for key in config.hmac_keys:
            if kid is None or key.kid == kid:
                return SigningKey(key.secret.reveal(), key.algorithms[0], key.kid)
        if kid is None:
            raise NoKeyError(
                f"{self._section}.hmac_secret_key", "no key to sign with: set it or hmac_secret_key_file"
            )
        known = ", ".join(key.kid for key in config.hmac_keys) or "none"
        raise NoKeyError(f"{self._section}.hmac_keys", f"no key {kid!r} (there is: {known})")


def _claims(user: str, ttl: float, info: object) -> dict[str, object]:
    now = int(time.time())
    claims: dict[str, object] = {"sub": user, "iat": now}
    if ttl:
        claims["exp"] = now + max(1, int(ttl))
    if info is not None:
        claims["info"] = info
    return claims
