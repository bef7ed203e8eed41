"""The frame reader beside websockets' `ServerProtocol`. Input: a byte of flags, how to cut, then what a client sends."""

from __future__ import annotations

import zlib

from tests.fuzz.cuts import cut
from tests.support.compared_frames import compare

LIMIT = 130
"""Bytes of a message: small enough to be passed by short inputs."""
LONGEST = 260
DEFLATE = 1


def check(data: bytes) -> None:
    """Demand the messages, pongs and verdicts of the reference."""
    flags, pattern = data[:1] or b"\0", data[1:2] or b"\0"
    compare(cut(data[2:], pattern[0]), LIMIT, deflate=bool(flags[0] & DEFLATE))


def _frame(first: int, payload: bytes, mask: bytes = b"\0\0\0\0") -> bytes:
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes((first,)) + length + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def _deflated(text: bytes, strategy: int, flush: int) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, strategy=strategy)
    return (deflate.compress(text) + deflate.flush(flush)).removesuffix(b"\x00\x00\xff\xff")


_PLAIN = [
    _frame(0x81, b"Hello"),
    _frame(0x81, b"Hello", b"\x37\xfa\x21\x3d"),
    _frame(0x82, b"x" * 126),
    _frame(0x82, b"x" * (LIMIT + 1)),
    _frame(0x81, "€😀".encode()),
    _frame(0x01, b"\xe2\x82") + _frame(0x89, b"ping") + _frame(0x80, b"\xac"),
    _frame(0x02, b"a") + _frame(0x00, b"b") + _frame(0x80, b"c") + _frame(0x8A, b""),
    _frame(0x81, b"last") + _frame(0x88, b"\x03\xe8bye"),
    _frame(0x01, b"a") + _frame(0x88, b""),
    _frame(0x82, b"a") + b"\x82\xff\0\0\0\0\0\0\0\x01\0\0\0\0b",
    _frame(0x81, b"\xff"),
    _frame(0x88, b"\x03\xe7"),
    _frame(0x88, b"\x0f\xa0" + "€".encode()),
]
_TEXT = b'{"id":1,"publish":{"channel":"chat:a","data":{"text":"Hello, Hello, Hello"}}}'
_COMPRESSED = [
    _deflated(_TEXT, strategy, flush)
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED)
    for flush in (zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH)
] + [b"\x00\x05\x00\xfa\xffHello\x00", b"", _deflated(bytes(LIMIT + 1), 0, zlib.Z_SYNC_FLUSH)]
SEEDS = (
    [bytes((0, pattern)) + stream for stream in _PLAIN for pattern in (0, 1, 77)]
    + [
        bytes((DEFLATE, pattern)) + stream
        for payload in _COMPRESSED
        for pattern in (0, 77)
        for stream in (
            _frame(0xC1, payload),
            _frame(0xC9, payload[:5]),
            _frame(0x41, payload[:5]) + _frame(0xC0, payload[5:]),
            _frame(0x42, payload[:9]) + _frame(0x89, b"") + _frame(0x80, payload[9:]) + _frame(0xC1, payload),
        )
    ]
    + [
        # A ping of no bytes whose length has the form for 8 bytes.
        bytes((DEFLATE, 77)) + b"\x42\x80\0\0\0\0" + b"\x89\xff" + bytes(80),
        # Data that is spoilt behind the byte that is one too many.
        bytes((DEFLATE, 0))
        + _frame(0xC1, _deflated(bytes(LIMIT + 1), zlib.Z_FIXED, zlib.Z_NO_FLUSH) + b"\xff\xff"),
        # A message that fills the limit in a frame that is not its last, and goes on.
        b"\x01MB\x86\0\0\0\0b\xc8`\x18p\0\0",
    ]
)
