"""The PROXY protocol, versions 1 and 2: bytes that a proxy sends before its client's. Pure.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt. The parser is strict: whoever sends this is a program.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import msgspec

LONGEST_V1: Final = 107
"""Bytes of a version 1 header with its line end (section 2.1)."""
LONGEST_V2: Final = 16 + 536
"""Bytes of a version 2 header: addresses, and the additions (TLVs) that balancers make, which are skipped."""
SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V1: Final = b"PROXY "
_V2_HEAD: Final = 16
_LOCAL, _PROXY = 0x20, 0x21
"""Version and command, in one byte."""
_UNSPECIFIED, _UNIX = 0x00, 0x31
_INET: Final = {0x11: (IPv4Address, 4), 0x21: (IPv6Address, 16)}
"""Family and transport (TCP): the type of an address and its bytes. Anything else came by no TCP connection."""
_V1_FAMILIES: Final = {"TCP4": IPv4Address, "TCP6": IPv6Address}
_PORT: Final = re.compile(r"0|[1-9][0-9]{0,4}", re.ASCII)


class Header(msgspec.Struct, frozen=True):
    """A whole header of `size` bytes. Without an `address` the connection is the proxy's own, such as a health check."""

    size: int
    address: str = ""
    port: int = 0


class Malformed(msgspec.Struct, frozen=True):
    """These bytes begin no header; `why` is one phrase."""

    why: str


def parse(data: bytes) -> Header | Malformed | None:
    """Read the header at the beginning of `data`; None: more bytes are needed. Never needs more than LONGEST_V2."""
    if data.startswith(SIGNATURE):
        return _version_2(data)
    if data.startswith(_V1):
        return _version_1(data)
    if SIGNATURE.startswith(data) or _V1.startswith(data):
        return None
    return Malformed("no PROXY header")


def _version_1(data: bytes) -> Header | Malformed | None:
    end = data.find(b"\r\n", 0, LONGEST_V1)
    if end < 0:
        return None if len(data) < LONGEST_V1 else Malformed("longer than 107 bytes")
    kind, *fields = data[len(_V1) : end].decode("latin-1").split(" ")
    if kind == "UNKNOWN":
        return Header(end + 2)
    if kind not in _V1_FAMILIES or len(fields) != 4:
        return Malformed("not TCP4, TCP6 or UNKNOWN with four fields")
    source, target, *ports = fields
    if "%" in source + target:  # a zone (RFC 4007) is any text, and means something on the proxy's host only
        return Malformed("an address that is none")
    try:
        address = str(_V1_FAMILIES[kind](source))
        _V1_FAMILIES[kind](target)
    except ValueError:
        return Malformed("an address that is none")
    if not all(_PORT.fullmatch(port) and int(port) <= 0xFFFF for port in ports):
        return Malformed("a port that is none")
    return Header(end + 2, address, int(ports[0]))


def _version_2(data: bytes) -> Header | Malformed | None:
    if len(data) < _V2_HEAD:
        return None
    command, family, length = struct.unpack_from("!BBH", data, len(SIGNATURE))
    size = _V2_HEAD + length
    if command not in {_LOCAL, _PROXY}:
        return Malformed("a version or command that is none")
    if size > LONGEST_V2:
        return Malformed(f"longer than {LONGEST_V2} bytes")
    if len(data) < size:
        return None
    if command == _LOCAL or family in {_UNSPECIFIED, _UNIX}:
        return Header(size)
    if family not in _INET:
        return Malformed("no TCP connection")
    kind, width = _INET[family]
    if length < 2 * width + 4:
        return Malformed("too short for its addresses")
    source = data[_V2_HEAD : _V2_HEAD + width]
    (port,) = struct.unpack_from("!H", data, _V2_HEAD + 2 * width)
    return Header(size, str(kind(source)), port)
