"""The claims of a token as they are written, and what they mean. Types are checked, unknown claims ignored."""

from __future__ import annotations

import binascii
import math
from base64 import b64decode
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from tidewire.edge.policies.capabilities import NONE, Capabilities, Capability, Entry, flaw
from tidewire.edge.policies.claims import (
    LONGEST_USER,
    ConnectionClaims,
    Override,
    ServerSubscription,
    SubscriptionClaims,
)
from tidewire.edge.policies.verdicts import Refused
from tidewire.edge.wire.commands import NO_DATA
from tidewire.edge.wire.json_codec import clean_json

MAX_TIME = 2**53
MOST_SUBSCRIPTIONS = 512
"""Channels of the claims `channels` and `subs` together; the session's own limit comes on top."""


class _Flag(msgspec.Struct):
    value: bool


class _Override(msgspec.Struct):
    presence: _Flag | None = None
    join_leave: _Flag | None = None
    force_push_join_leave: _Flag | None = None
    force_recovery: _Flag | None = None
    force_positioning: _Flag | None = None


class _Subscription(msgspec.Struct):
    info: Raw = NO_DATA
    b64info: str = ""
    data: Raw = NO_DATA
    b64data: str = ""
    override: _Override | None = None


class Payload(msgspec.Struct):
    """The claims that are read."""

    sub: Annotated[str, Meta(max_length=LONGEST_USER)] = ""
    channel: str = ""
    client: str = ""
    aud: Any = None
    iss: Any = None
    jti: str = ""
    exp: float | UnsetType = UNSET
    nbf: float = 0
    expire_at: float | None = None
    info: Raw = NO_DATA
    b64info: str = ""
    meta: dict[str, Any] | None = None
    channels: list[str] | None = None
    subs: dict[str, _Subscription] | None = None
    caps: tuple[Entry, ...] | None = None
    allow: frozenset[Capability] | None = None
    override: _Override | None = None

    def expires_at(self, leeway: float) -> int:
        """Return when what the token allows ends, in Unix seconds; 0: never."""
        if self.expire_at is not None:
            return math.ceil(self.expire_at)
        return 0 if self.exp is UNSET else math.ceil(self.exp + leeway)


_decode = msgspec.json.Decoder(Payload).decode


def read_payload(text: bytes) -> Payload:
    """Return the claims; raises Refused."""
    if clean_json(text) is None:  # bounds nesting, for every parser that comes behind
        raise Refused("claims: not JSON")
    try:
        payload = _decode(text)
    except msgspec.DecodeError as error:
        raise Refused(f"claims: {error}") from None
    times = (payload.exp or 0, payload.nbf, payload.expire_at or 0)
    if not all(0 <= time <= MAX_TIME for time in times):
        raise Refused("claims: a time that cannot be")
    return payload


def connection_claims(payload: Payload, leeway: float) -> ConnectionClaims:
    """Return what a connection token says; raises Refused."""
    if payload.channel:  # docs/decisions/0011: one kind of token never stands for the other
        raise Refused("a subscription token: it has the claim channel")
    return ConnectionClaims(
        payload.sub,
        _json("info", payload.info, payload.b64info),
        NO_DATA if payload.meta is None else Raw(msgspec.json.encode(payload.meta)),
        payload.expires_at(leeway),
        payload.jti,
        _subscriptions(payload),
        _capabilities(payload.caps),
    )


def custom_claims(text: bytes, names: frozenset[str]) -> dict[str, str]:
    """Return the claims of these names that are a text, a number or a truth value, as text; of a token that was read before."""
    claims: dict[str, Any] = msgspec.json.decode(text)
    found = {name: claims[name] for name in names if isinstance(claims.get(name), str | int | float)}
    return {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for name, value in found.items()
    }


def subscription_claims(payload: Payload, leeway: float) -> SubscriptionClaims:
    """Return what a subscription token says; raises Refused.

    A connection token, which has no claim `channel`, is for the channel "", which there is not.
    """
    return SubscriptionClaims(
        payload.sub,
        payload.channel,
        payload.client,
        _json("info", payload.info, payload.b64info),
        payload.expires_at(leeway),
        payload.jti,
        _override(payload.override),
        Capabilities.on(payload.channel, payload.allow or frozenset()),
    )


def _subscriptions(payload: Payload) -> dict[str, ServerSubscription]:
    subscriptions = {channel: ServerSubscription() for channel in payload.channels or ()}
    for channel, given in (payload.subs or {}).items():
        subscriptions[channel] = ServerSubscription(
            _json("subs: info", given.info, given.b64info),
            _json("subs: data", given.data, given.b64data),
            _override(given.override),
        )
    if len(subscriptions) > MOST_SUBSCRIPTIONS:
        raise Refused(f"channels and subs: over {MOST_SUBSCRIPTIONS} channels")
    if "" in subscriptions:
        raise Refused("channels and subs: an empty channel")
    return subscriptions


def _override(given: _Override | None) -> Override:
    flags = {} if given is None else msgspec.structs.asdict(given)
    return Override(**{name: flag.value for name, flag in flags.items() if flag is not None})


def _capabilities(caps: tuple[Entry, ...] | None) -> Capabilities:
    if not caps:
        return NONE
    why = flaw(caps)
    if why is not None:
        raise Refused(why)
    return Capabilities(caps)


def _json(claim: str, raw: Raw, base64: str) -> Raw:
    """Return a claim's JSON on one line, detached from the token; null is absent, `b64...` goes first."""
    value = bytes(raw)
    if base64:
        try:
            value = clean_json(b64decode(base64, validate=True)) or b""
        except (binascii.Error, ValueError):
            raise Refused(f"{claim}: not base64") from None
        if not value:  # docs/decisions/0010
            raise Refused(f"{claim}: the base64 holds no JSON")
    return NO_DATA if value in {b"", b"null"} else _compact(claim, value)


def _compact(claim: str, value: bytes) -> Raw:
    try:
        return Raw(msgspec.json.encode(msgspec.json.decode(value)))
    except msgspec.DecodeError as error:  # a number out of range
        raise Refused(f"{claim}: {error}") from None
