"""A token taken apart: JSON Web Signature in its compact form (RFC 7515, section 7.1), before anything in it is believed.

Of the header only `alg` and `kid` are read. What names or carries a key (`jku`, `jwk`, `x5u`, `x5c`) is never followed,
since its writer is who must prove himself.
"""

from __future__ import annotations

import binascii
import re

import msgspec
from msgspec import UNSET, Raw, UnsetType

from tidewire.edge.policies.verdicts import Refused
from tidewire.edge.wire.json_codec import clean_json

LONGEST_TOKEN = 16_384
"""Characters. Cookies and HTTP heads end at 4 to 16 KiB, so nobody's tokens are longer."""

_PARTS = re.compile(r"(([\w-]+)\.([\w-]+))\.([\w-]+)", re.ASCII)


class Jws(msgspec.Struct, frozen=True):
    """The parts of a token; `signed` is what the signature covers."""

    algorithm: str
    kid: str
    signed: bytes
    payload: bytes
    signature: bytes


class _Header(msgspec.Struct):
    alg: str
    kid: str = ""
    crit: Raw | UnsetType = UNSET


_TO_BASE64 = str.maketrans("-_", "+/")
_header = msgspec.json.Decoder(_Header).decode


def take_apart(token: str) -> Jws:
    """Return the parts; raises Refused where there is no telling them."""
    if len(token) > LONGEST_TOKEN:
        raise Refused(f"longer than {LONGEST_TOKEN} characters")
    parts = _PARTS.fullmatch(token)
    if parts is None:
        raise Refused("not three parts of base64url")
    signed, head, payload, signature = parts.groups()
    header = _read_header(_decode(head))
    if header.crit is not UNSET:  # RFC 7515, section 4.1.11: who does not know an extension must refuse
        raise Refused("header: crit")
    return Jws(header.alg, header.kid, signed.encode(), _decode(payload), _decode(signature))


def _decode(part: str) -> bytes:
    try:
        return binascii.a2b_base64(part.translate(_TO_BASE64) + "=" * (-len(part) % 4))
    except binascii.Error:
        raise Refused("not three parts of base64url") from None


def _read_header(text: bytes) -> _Header:
    if clean_json(text) is None:  # bounds nesting
        raise Refused("header: not JSON")
    try:
        return _header(text)
    except msgspec.DecodeError as error:
        raise Refused(f"header: {error}") from None
