from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewire.edge.proxy_protocol import LONGEST_V1, LONGEST_V2, SIGNATURE, Header, Malformed, parse

V4 = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 40_000, 443)
V6 = bytes.fromhex("20010db8000000000000000000000001" * 2) + struct.pack("!HH", 40_000, 443)


def version_2(body: bytes, *, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    """A binary header."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(body) if length is None else length) + body


GOOD = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r\n", "192.0.2.1", 40_000),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255", 65_535),
    (b"PROXY TCP6 2001:db8::1 2001:db8::2 0 443\r\n", "2001:db8::1", 0),
    (
        b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n",
        ":".join(["ffff"] * 8),
        65_535,
    ),
    (b"PROXY UNKNOWN\r\n", "", 0),
    (b"PROXY UNKNOWN whatever it says 1 2\r\n", "", 0),
    (version_2(V4), "192.0.2.1", 40_000),
    (version_2(V4 + b"\x04\x00\x03abc"), "192.0.2.1", 40_000),
    (version_2(V6, family=0x21), "2001:db8::1", 40_000),
    (version_2(V4 + b"\x04" + struct.pack("!H", 521) + b"a" * 521), "192.0.2.1", 40_000),
    (version_2(b"", command=0x20, family=0x00), "", 0),
    (version_2(V4, command=0x20), "", 0),
    (version_2(b"", family=0x00), "", 0),
    (version_2(b"a" * 216, family=0x31), "", 0),
]


@pytest.mark.parametrize(("data", "address", "port"), GOOD)
def test_header_is_read_however_it_comes(data: bytes, address: str, port: int) -> None:
    """Byte by byte nothing is decided before it is whole, and what follows is not touched."""
    for end in range(len(data)):
        assert parse(data[:end]) is None
    assert parse(data) == Header(len(data), address, port)
    assert parse(data + b"\x16\x03\x01PROXY ") == Header(len(data), address, port)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n", "no PROXY header"),
        (b"\x16\x03\x01", "no PROXY header"),
        (b"PROXY\t", "no PROXY header"),
        (b"proxy TCP4 ", "no PROXY header"),
        (b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n", "four fields"),
        (b"PROXY \r\n", "four fields"),
        (b"PROXY UNKNOWNX\r\n", "four fields"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "four fields"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", "four fields"),
        (b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", "four fields"),
        (b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", "an address"),
        (b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n", "an address"),
        (b"PROXY TCP4 192.0.2.1 192.0.2 1 2\r\n", "an address"),
        (b"PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n", "an address"),
        (b"PROXY TCP6 192.0.2.1 2001:db8::1 1 2\r\n", "an address"),
        (b"PROXY TCP6 fe80::1%\x1b[31m ::1 1 2\r\n", "an address"),
        (b"PROXY TCP6 ::1 fe80::1%eth0 1 2\r\n", "an address"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", "a port"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", "a port"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 +2\r\n", "a port"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 \xb2\r\n", "a port"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 -1\r\n", "a port"),
        (b"PROXY UNKNOWN" + b"x" * LONGEST_V1, "longer than 107"),
        (b"PROXY UNKNOWN" + b"x" * (LONGEST_V1 - 14) + b"\r\n", "longer than 107"),
        (version_2(V4, command=0x11), "a version"),
        (version_2(V4, command=0x22), "a version"),
        (version_2(b"", length=LONGEST_V2 - 15), f"longer than {LONGEST_V2}"),
        (version_2(b"", length=0xFFFF), f"longer than {LONGEST_V2}"),
        (version_2(V4, family=0x12), "no TCP"),
        (version_2(V4, family=0x41), "no TCP"),
        (version_2(V4[:11]), "too short"),
        (version_2(b""), "too short"),
        (version_2(V4, family=0x21), "too short"),
    ],
)
def test_what_is_not_as_the_specification_says_is_refused(data: bytes, why: str) -> None:
    """With the reason, for whoever debugs a proxy."""
    found = parse(data)
    assert isinstance(found, Malformed)
    assert why in found.why


@given(
    st.binary(max_size=LONGEST_V2 + 8), st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11"])
)
def test_any_bytes_are_decided_within_the_bound(data: bytes, start: bytes) -> None:
    """Without an exception, and with no more than the longest header."""
    found = parse(start + data)
    if len(start + data) >= LONGEST_V2:
        assert found is not None
    if isinstance(found, Header):
        assert found.size <= len(start + data)
