"""Is this token good? JSON Web Tokens (RFC 7519) as the Centrifuge client protocol uses them.

A key names the algorithms that it may be used with, so a token cannot choose one (RFC 8725, section 3.1). Times are
compared with the clock that is passed in; `leeway` widens both ends.
"""

from __future__ import annotations

import enum
import math
import warnings
from typing import TYPE_CHECKING, Any

import jwt
import msgspec
from msgspec import Raw

from tidewire.edge.policies.claims import ConnectionClaims, SubscriptionClaims
from tidewire.edge.wire.commands import NO_DATA
from tidewire.edge.wire.json_codec import clean_json

if TYPE_CHECKING:
    from tidewire.edge.config import TokenConfig
    from tidewire.kernel.clock import Clock

MAX_TIME = 2**53


class TokenProblem(enum.Enum):
    """Why a token is refused."""

    EXPIRED = "expired"
    INVALID = "invalid"
    UNAVAILABLE = "unavailable"
    """The issuer's keys cannot be had at the moment: the same token may be good later."""


class KeyWanted(msgspec.Struct, frozen=True):
    """The token names a key that may be the issuer's: fetch `source` (ports.KeyFetcher), then judge the token again.

    The second verdict is final: claims or a TokenProblem.
    """

    source: str


class _Key(msgspec.Struct, frozen=True):
    secret: str
    algorithms: list[str]


class _Payload(msgspec.Struct):
    """The claims that are read; types are checked, everything else is ignored."""

    sub: str = ""
    channel: str = ""
    client: str = ""
    exp: float = 0
    nbf: float = 0
    expire_at: float | None = None
    info: Raw = NO_DATA
    meta: dict[str, Any] | None = None


class TokenVerifier:
    """Checks connection and subscription tokens against the configured keys."""

    __slots__ = ("_audience", "_clock", "_decode", "_issuer", "_keys", "_leeway", "why")

    def __init__(self, config: TokenConfig, clock: Clock) -> None:
        # The configuration refuses keys under 32 bytes. HS384 and HS512 with less than their own hash's length are the
        # deployment's choice, and a warning for each token would help nobody.
        warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
        self._clock = clock
        self.why = ""
        """Why the last token that was refused as invalid was refused, for the log."""
        self._leeway = float(config.leeway)
        self._audience = config.audience or None
        self._issuer = config.issuer or None
        self._keys = {key.kid: _Key(key.secret.reveal(), list(key.algorithms)) for key in config.hmac_keys}
        secret = config.hmac_secret_key.reveal()
        if secret:
            self._keys[""] = _Key(secret, list(config.algorithms))
        self._decode = msgspec.json.Decoder(_Payload)

    def connection(self, token: str) -> ConnectionClaims | TokenProblem | KeyWanted:
        """Judge a connection token."""
        payload = self._verify(token)
        if isinstance(payload, TokenProblem):
            return payload
        expires_at = payload.exp and payload.exp + self._leeway
        if payload.expire_at is not None:
            expires_at = payload.expire_at
        meta = NO_DATA if payload.meta is None else Raw(msgspec.json.encode(payload.meta))
        return ConnectionClaims(payload.sub, _json(payload.info), meta, math.ceil(expires_at))

    def subscription(self, token: str) -> SubscriptionClaims | TokenProblem | KeyWanted:
        """Judge a subscription token; whether it is for this channel and user is the session's question."""
        payload = self._verify(token)
        if isinstance(payload, TokenProblem):
            return payload
        return SubscriptionClaims(payload.sub, payload.channel, payload.client, _json(payload.info))

    def _verify(self, token: str) -> _Payload | TokenProblem:
        try:
            key = self._keys.get(jwt.get_unverified_header(token).get("kid", ""))
            if key is None:
                return self._invalid("no key of this kid")
            verified = jwt.api_jws.decode_complete(token, key.secret, algorithms=key.algorithms)
            text = verified["payload"]
            if clean_json(text) is None:  # bounds nesting, for every parser that comes behind
                return self._invalid("claims that are not JSON")
            payload = self._decode.decode(text)
            claims = msgspec.json.decode(text)
        except (jwt.PyJWTError, msgspec.MsgspecError, ValueError, TypeError) as error:
            return self._invalid(f"{type(error).__name__}: {error}")
        if not self._meant_for_us(claims):
            return self._invalid("another audience or issuer")
        if not _sane(payload):
            return self._invalid("a time that cannot be")
        now = self._clock.wall()
        if payload.nbf > now + self._leeway:
            return self._invalid("not valid yet")
        if "exp" in claims and payload.exp <= now - self._leeway:
            return TokenProblem.EXPIRED
        return payload

    def _invalid(self, why: str) -> TokenProblem:
        self.why = why
        return TokenProblem.INVALID

    def _meant_for_us(self, claims: dict[str, Any]) -> bool:
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if self._audience is not None and self._audience not in audiences:
            return False
        return self._issuer is None or claims.get("iss") == self._issuer


def _sane(payload: _Payload) -> bool:
    times = (payload.exp, payload.nbf, payload.expire_at or 0)
    return all(0 <= time <= MAX_TIME for time in times)


def _json(raw: Raw) -> Raw:
    """Return a claim's JSON on one line, detached from the token's buffer; null is absent."""
    value = bytes(raw)
    return NO_DATA if value in {b"", b"null"} else Raw(msgspec.json.encode(msgspec.json.decode(value)))
