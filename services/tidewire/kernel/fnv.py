"""The hash by which NATS partitions subjects. A module of its own, since fuzzing has nothing to learn from its loop."""

from __future__ import annotations


def fnv1a32(data: bytes) -> int:
    """Return the 32-bit FNV-1a hash, the one that nats-server's `partition()` mapping applies to a whole subject."""
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value
