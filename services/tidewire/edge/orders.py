"""Orders to edges, as they travel on `tw.ctl.all` and `tw.ctl.<edge>`: JSON objects with a version and a type.

`{"v": 1, "type": "disconnect", "user": "42", "code": 3503, "reason": "force disconnect"}`. An order names a user, and
may name one connection of that user by its client id. Only edges and the mesh's own services may write these subjects.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Raw

from tidewire.edge.policies.claims import LONGEST_USER
from tidewire.edge.wire.commands import NO_DATA
from tidewire.edge.wire.json_codec import clean_json
from tidewire.kernel import errors
from tidewire.kernel.errors import TidewireError

MAX_ORDER: Final = 64 * 1024
"""Bytes of one order."""

User = Annotated[str, Meta(min_length=1, max_length=LONGEST_USER)]
Name = Annotated[str, Meta(min_length=1, max_length=255)]
Reason = Annotated[
    str, Meta(pattern=r"^(?!(true|false|null)$)[^\W\d_]", min_length=1, max_length=errors.MAX_REASON)
]
"""Plain words: the JavaScript SDK reads a reason that is a JSON value as an instruction, and then never comes back."""


LONGEST_WHY: Final = 200
"""Characters of the reason why an order is malformed, which may hold a key of it."""


class OrderError(TidewireError):
    """An order that cannot be understood; the message says why, and may repeat a key or a type of it."""


class Order(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    """Base of the orders. `v` is the version of the form.

    A field that is unknown makes an order malformed: with a misspelt `client` it would be about all of a user's.
    """

    v: Literal[1]


class Targeted(Order, frozen=True, kw_only=True):
    """An order about the connections of a user, or about one of them."""

    user: User
    client: str = ""


class Disconnect(Targeted, frozen=True, kw_only=True, tag="disconnect"):
    """Close them, except the `spare`d ones. From code 3500 to 3999 and 4500 to 4999 the SDKs do not come back."""

    code: Annotated[int, Meta(ge=3000, le=4999)] = errors.FORCE_DISCONNECT.code
    reason: Reason = errors.FORCE_DISCONNECT.reason
    spare: tuple[str, ...] = ()


class Replace(Targeted, frozen=True, kw_only=True, tag="replace"):
    """A user who may have one connection has a new one: it authenticated at `since` (Unix microseconds)."""

    since: Annotated[int, Meta(ge=0, le=2**53)]


class Yield(Targeted, frozen=True, kw_only=True, tag="yield"):
    """A user who may have one connection has had one since `since` (Unix microseconds): later ones are closed with 3504."""

    since: Annotated[int, Meta(ge=0, le=2**53)]


class Subscribe(Targeted, frozen=True, kw_only=True, tag="subscribe"):
    """Subscribe them to a channel, whatever their rights. `info` and `data` are JSON values."""

    channel: Name
    info: Raw = NO_DATA
    data: Raw = NO_DATA


class Unsubscribe(Targeted, frozen=True, kw_only=True, tag="unsubscribe"):
    """End their subscription to a channel: below code 2500 for good, from there on the SDKs subscribe again."""

    channel: Name
    code: Annotated[int, Meta(ge=2000, le=2999)] = errors.UNSUBSCRIBED_BY_SERVER.code
    reason: Reason = errors.UNSUBSCRIBED_BY_SERVER.reason


class Refresh(Targeted, frozen=True, kw_only=True, tag="refresh"):
    """Let them expire at another time (Unix seconds, 0 = never); one in the past closes them with 3005."""

    expire_at: Annotated[int, Meta(ge=0, le=2**53)] = 0


class Reload(Order, frozen=True, kw_only=True, tag="reload"):
    """Read the configuration again."""


AnyOrder = Disconnect | Replace | Yield | Subscribe | Unsubscribe | Refresh | Reload
_ANY = msgspec.json.Decoder(AnyOrder)
_ENCODER = msgspec.json.Encoder()


def decode(data: bytes) -> AnyOrder:
    """Return the order that `data` holds. Raises OrderError."""
    if len(data) > MAX_ORDER or clean_json(data) is None:
        raise OrderError("not one JSON value, or too large")
    try:
        order: AnyOrder = _ANY.decode(data)
    except msgspec.DecodeError as error:
        raise OrderError(_printable(str(error))) from None
    return order


def _printable(text: str) -> str:
    shown = text if len(text) <= LONGEST_WHY else f"{text[:LONGEST_WHY]}..."
    return shown if shown.isprintable() else repr(shown)


def encode(order: Order) -> bytes:
    """Return the bytes of an order."""
    return _ENCODER.encode(order)


def kind(order: Order) -> str:
    """Return the order's `type`."""
    return str(type(order).__struct_config__.tag)
