"""What waits for a slow peer: whole frames, in order, up to a bound in bytes."""

from __future__ import annotations

FRAME_COST = 64
"""Bytes that a frame takes besides its content: the object and its place in the list."""


class Outbox:
    """Frames that the socket would not take yet. It exists only while a connection is slow."""

    __slots__ = ("_frames", "_limit", "size")

    def __init__(self, limit: int) -> None:
        self._frames: list[bytes] = []
        self._limit = limit
        self.size = 0

    def put(self, frame: bytes) -> bool:
        """Keep a frame; False, and not kept, when that would exceed the bound, which counts what a frame costs to keep."""
        if self.size + (len(self._frames) + 1) * FRAME_COST + len(frame) > self._limit:
            return False
        self._frames.append(frame)
        self.size += len(frame)
        return True

    def take(self) -> bytes:
        """Return everything that waits, as one run of bytes, and forget it."""
        data = b"".join(self._frames)
        self._frames.clear()
        self.size = 0
        return data
