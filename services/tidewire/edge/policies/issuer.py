"""Signing tokens as a backend would: for the CLI and the pages of a dev mesh."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import jwt

from tidewire.kernel.errors import TidewireError

if TYPE_CHECKING:
    from tidewire.edge.config import TokenConfig

DEFAULT_TTL = 86_400


class NoKeyError(TidewireError):
    """There is no such key to sign with; `setting` is the path of the setting that would hold it."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


class TokenIssuer:
    """Signs with a configuration's own keys, for its own audience and issuer."""

    def __init__(self, config: TokenConfig) -> None:
        self._config = config

    def connection(
        self, user: str, ttl: float = DEFAULT_TTL, info: object = None, kid: str | None = None
    ) -> str:
        """Return a connection token for `user`. `ttl` in seconds, 0 = without an end. Raises NoKeyError."""
        return self._sign(_claims(user, ttl, info), kid)

    def subscription(
        self, user: str, channel: str, ttl: float = DEFAULT_TTL, info: object = None, kid: str | None = None
    ) -> str:
        """Return a subscription token for `user` and `channel`. Raises NoKeyError."""
        return self._sign({**_claims(user, ttl, info), "channel": channel}, kid)

    def _sign(self, claims: Mapping[str, object], kid: str | None) -> str:
        secret, algorithm, header = self._key(kid)
        expected = {"aud": self._config.audience, "iss": self._config.issuer}
        payload = {**claims, **{name: value for name, value in expected.items() if value}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)  # see TokenVerifier
            return jwt.encode(payload, secret, algorithm=algorithm, headers=header)

    def _key(self, kid: str | None) -> tuple[str, str, dict[str, str]]:
        """Return the key named `kid`; without a name `hmac_secret_key`, else the first of `hmac_keys`."""
        config = self._config
        if kid is None and config.hmac_secret_key:
            return config.hmac_secret_key.reveal(), config.algorithms[0], {}
        for key in config.hmac_keys:
            if kid is None or key.kid == kid:
                return key.secret.reveal(), key.algorithms[0], {"kid": key.kid}
        if kid is None:
            raise NoKeyError(
                "client.token.hmac_secret_key", "no key to sign with: set it or hmac_secret_key_file"
            )
        known = ", ".join(key.kid for key in config.hmac_keys) or "none"
        raise NoKeyError("client.token.hmac_keys", f"no key {kid!r} (there is: {known})")


def _claims(user: str, ttl: float, info: object) -> dict[str, object]:
    now = int(time.time())
    claims: dict[str, object] = {"sub": user, "iat": now}
    if ttl:
        claims["exp"] = now + max(1, int(ttl))
    if info is not None:
        claims["info"] = info
    return claims
