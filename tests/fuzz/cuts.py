"""The bytes of an input as TCP may cut them: a part of the input says how."""

from __future__ import annotations

from collections.abc import Iterator

MOST = 10
"""Pieces: what is cut into more is slow to feed, and tells nothing new."""


def cut(data: bytes, pattern: int) -> Iterator[bytes]:
    """Cut bytes by a pattern of 0 to 255: 0 not at all, 1 to 31 into pieces of that size, others into pieces of many sizes."""
    at = 0
    for _ in range(MOST - 1 if pattern else 0):
        size = pattern
        if pattern > 31:
            size = 1 + pattern % 31
            pattern = 32 + (pattern * 5 + 3) % 224
        yield data[at : at + size]
        at += size
    yield data[at:]
