"""How replies become bytes on a connection: a wire format and the frame around it (RFC 6455, section 5.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from tidewire.edge.deflate import deflate
from tidewire.edge.wire.json_codec import JSON
from tidewire.edge.wire.protobuf_codec import PROTOBUF

if TYPE_CHECKING:
    from tidewire.edge.wire.codec import Codec
    from tidewire.edge.wire.replies import Reply

FIN_TEXT = 0x81
FIN_BINARY = 0x82
RSV1 = 0x40
"""Says that the message is compressed (RFC 7692, section 6)."""
MAX_JOINED = 64 * 1024
"""Bytes of joined publications in one frame; a larger single publication gets a frame of its own."""


class Framing:
    """One way of writing; connections that share it are sent the very same bytes."""

    __slots__ = ("codec", "compression", "ping", "wrap")

    def __init__(self, codec: Codec, wrap: Callable[[bytes], bytes], compression: str = "none") -> None:
        """`compression` is its name for logs and metrics."""
        self.codec = codec
        self.compression = compression
        self.wrap = wrap
        self.ping = wrap(codec.PING)

    def replies(self, replies: Sequence[Reply]) -> bytes:
        """Return one frame with these replies."""
        return self.wrap(self.codec.encode(replies))

    def joined(self, items: Sequence[bytes]) -> list[bytes]:
        """Return the encoded items in as few frames as the bound allows, in order."""
        if len(items) == 1:
            return [self.wrap(items[0])]
        if sum(map(len, items)) + len(items) <= MAX_JOINED:
            return [self.wrap(self.codec.join(items))]
        return [self.wrap(self.codec.join(items[run])) for run in runs(items)]


def runs(items: Sequence[bytes]) -> Iterator[slice]:
    """Return which of the items share a frame, in order."""
    start = size = 0
    for index, item in enumerate(items):
        if index > start and size + len(item) > MAX_JOINED:
            yield slice(start, index)
            start, size = index, 0
        size += len(item) + 1
    yield slice(start, len(items))


def websocket_frame(first: int, payload: bytes) -> bytes:
    """Return an unmasked, unfragmented frame; `first` holds FIN and the opcode."""
    length = len(payload)
    if length < 126:
        return bytes((first, length)) + payload
    if length < 65_536:
        return bytes((first, 126)) + length.to_bytes(2, "big") + payload
    return bytes((first, 127)) + length.to_bytes(8, "big") + payload


WEBSOCKET_JSON = Framing(JSON, partial(websocket_frame, FIN_TEXT))
WEBSOCKET_PROTOBUF = Framing(PROTOBUF, partial(websocket_frame, FIN_BINARY))


class _Deflating:
    """Frames with compressed payloads, where that makes them smaller, from `min_size` bytes on.

    The last one is kept: audiences that differ in what they want are mostly sent the same.
    """

    def __init__(self, first: int, window_bits: int, min_size: int) -> None:
        self._first = first
        self._window_bits = window_bits
        self._min_size = min_size
        self._payload = self._frame = b""

    def __call__(self, payload: bytes) -> bytes:
        if len(payload) < self._min_size:
            return websocket_frame(self._first, payload)
        if payload != self._payload:
            self._payload, self._frame = payload, self._wrap(payload)
        return self._frame

    def _wrap(self, payload: bytes) -> bytes:
        deflated = deflate(payload, self._window_bits)
        if len(deflated) >= len(payload):
            return websocket_frame(self._first, payload)
        return websocket_frame(self._first | RSV1, deflated)


@lru_cache(maxsize=64)
def deflated(plain: Framing, window_bits: int, min_size: int) -> Framing:
    """Return the framing that compresses what `plain` sends; the same one for all who agreed on the same window."""
    first = FIN_TEXT if plain is WEBSOCKET_JSON else FIN_BINARY
    return Framing(plain.codec, _Deflating(first, window_bits, min_size), "deflate")
