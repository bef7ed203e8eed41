"""The Protobuf encoding by hand, where that is faster than the library: varints, lengths and the keys of fields. Pure."""

from __future__ import annotations

from typing import Final

from tidewire.edge.wire.codec import MalformedFrame

MAX_PREFIX: Final = 5
"""Bytes of a length prefix, enough for 32 GiB."""


def long_prefix(frame: bytes, start: int) -> tuple[int, int]:
    """Return the varint at `start` and the position after it."""
    size = 0
    for index, byte in enumerate(frame[start : start + MAX_PREFIX]):
        size |= (byte & 0x7F) << (7 * index)
        if byte < 128:
            if not byte:
                break  # not the shortest form
            return size, start + index + 1
    raise MalformedFrame("a length prefix is cut off or overlong")


def delimited(message: bytes) -> bytes:
    """Return a message behind its length."""
    size = len(message)
    return (_SHORT[size] if size < 128 else varint(size)) + message


def varint(number: int) -> bytes:
    """Return a number in groups of seven bits, the least first."""
    digits = bytearray()
    while number > 127:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def key(number: int) -> bytes:
    """Return what goes before a length-delimited field of that number (below 16)."""
    return bytes([number << 3 | 2])


_SHORT = tuple(bytes([size]) for size in range(128))
