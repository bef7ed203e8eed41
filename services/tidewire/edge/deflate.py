"""permessage-deflate (RFC 7692) without context takeover: no compressor or window outlives a message."""

from __future__ import annotations

import zlib

TAIL = b"\x00\x00\xff\xff"
"""What a sender leaves out at the end of each message (section 7.2.1)."""
LARGEST_WINDOW = 15
MEMORY_LEVEL = 5
"""zlib sets itself up in 7 us with it; with its own 8 in 75 us, to save nearly the same."""
LEVEL = 1


def deflate(payload: bytes, window_bits: int) -> bytes:
    """Return the payload of a compressed message (section 7.2.1)."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -window_bits, MEMORY_LEVEL)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


class InflatedTooLarge(Exception):
    """A message inflates to more than it may."""


class Inflater:
    """Inflates one message, frame by frame. It holds up to 40 KiB of zlib's state while the message is incomplete."""

    __slots__ = ("_inflate",)

    def __init__(self) -> None:
        # With the largest window, which reads what was written with any: a window is a bound, not a format.
        self._inflate = zlib.decompressobj(-LARGEST_WINDOW)

    def inflate(self, payload: bytes, room: int, *, final: bool) -> bytes:
        """Return what a frame's payload inflates to.

        Raises:
            InflatedTooLarge: It is more than `room` bytes; one more than that was inflated, whatever the ratio.
            zlib.error: It is not deflated data.
        """
        if self._inflate.eof:  # zlib would hoard whatever comes behind a final block
            return b""
        inflated = self._inflate.decompress(payload + TAIL if final else payload, room + 1)
        if len(inflated) > room:
            raise InflatedTooLarge
        return inflated
