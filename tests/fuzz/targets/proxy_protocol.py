"""Headers of the PROXY protocol. Input: how to cut, then what comes from a proxy's socket first."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from tests.fuzz.cuts import cut
from tidewire.edge.proxy_protocol import LONGEST_V1, LONGEST_V2, SIGNATURE, Header, Malformed, parse

LONGEST = 140
TEXT = re.compile(rb"PROXY TCP([46]) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) (\d{1,5}) (\d{1,5})\r\n")
FAMILIES = {b"4": AF_INET, b"6": AF_INET6, 0x11: AF_INET, 0x21: AF_INET6}


def check(data: bytes) -> None:
    """Demand the address that the system's own functions read, as soon as the header is whole and not before."""
    stream = data[1:]
    found = parse(stream)
    came = b""
    for piece in cut(stream, data[0] if data else 0):
        came += piece
        _check_step(parse(came), found, came)
    if isinstance(found, Header):
        _check_header(found, stream)
    elif found is None:
        assert len(stream) < (LONGEST_V2 if stream.startswith(SIGNATURE) else LONGEST_V1)


def _check_step(step: Header | Malformed | None, last: Header | Malformed | None, came: bytes) -> None:
    """A verdict comes once and stays; a good one comes with the last byte of the header."""
    assert step is None or step == last
    if isinstance(last, Header):
        assert (step is None) == (len(came) < last.size)


def _check_header(header: Header, stream: bytes) -> None:
    assert 0 < header.size <= len(stream)
    if not header.address:
        assert header.port == 0
        return
    whole = stream[: header.size]
    text = TEXT.fullmatch(whole)
    if text is not None:
        family = FAMILIES[text[1]]
        packed, port = inet_pton(family, text[2].decode()), int(text[4])
    else:
        family = FAMILIES[whole[13]]
        width = 4 if family == AF_INET else 16
        packed, port = whole[16 : 16 + width], int.from_bytes(whole[16 + 2 * width : 18 + 2 * width], "big")
    assert header.port == port <= 0xFFFF
    assert inet_pton(family, header.address) == packed
    made = IPv4Address(packed) if family == AF_INET else IPv6Address(packed)
    assert header.address == str(made), inet_ntop(family, packed)


_V4 = bytes([192, 0, 2, 1, 198, 51, 100, 2, 0x9C, 0x40, 1, 0xBB])
_V6 = bytes.fromhex("20010db8000000000000000000000001" * 2) + b"\x9c\x40\x01\xbb"
_HEADERS = [
    b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r\nGET / HTTP/1.1\r\n",
    b"PROXY TCP6 2001:db8::1 2001:db8::2 0 443\r\n",
    b"PROXY TCP6 ::ffff:192.0.2.1 fe80::1 65535 65535\r\n",
    b"PROXY UNKNOWN whatever it says 1 2\r\n",
    b"PROXY TCP4 192.0.2.01 192.0.2.2 65536 +2\r\n",
    SIGNATURE + b"\x21\x11\x00\x0c" + _V4 + b"\x16\x03\x01",
    SIGNATURE + b"\x21\x21\x00\x24" + _V6,
    SIGNATURE + b"\x21\x11\x00\x12" + _V4 + b"\x04\x00\x03abc",
    SIGNATURE + b"\x20\x00\x00\x00",
    SIGNATURE + b"\x21\x31\x00\x04path",
    SIGNATURE + b"\x21\x12\x00\x0c" + _V4,
    SIGNATURE + b"\x11\x11\x00\x0c" + _V4,
    SIGNATURE + b"\x21\x11\xff\xff",
    b"GET / HTTP/1.1\r\n",
    # A zone (RFC 4007) is no part of an address that a proxy sends.
    b"PROXY TCP6 fe80::1%\x1b[31m ::1 1 2\r\n",
]
SEEDS = [bytes((pattern,)) + header for pattern in (0, 1, 90) for header in _HEADERS]
