"""A TCP connection without a network: what was written, and whether the peer reads."""

from __future__ import annotations

import asyncio
from typing import Any, cast


class FakeTcp(asyncio.Transport):
    """An asyncio transport. `stall` lets the peer stop reading; `finish` ends the connection as asyncio would.

    No address: the peer reset the connection before it was accepted.
    """

    def __init__(self, protocol: asyncio.Protocol, address: str = "192.0.2.1") -> None:
        super().__init__({"peername": (address, 40_000) if address else None})
        self.protocol = protocol
        self.delivered = b""
        """What the peer has read."""
        self.buffered = b""
        self.closing = False
        self.half_closed = False
        self.aborted = False
        self.stalled = False
        self.reading = True
        self.ended = False
        protocol.connection_made(self)

    # asyncio.Transport

    def write(self, data: Any) -> None:
        assert not self.closing, "a write behind the close"
        assert not self.half_closed, "a write behind the end of the stream"
        if self.stalled:
            self.buffered += bytes(data)
        else:
            self.delivered += bytes(data)

    def get_write_buffer_size(self) -> int:
        return len(self.buffered)

    def close(self) -> None:
        self.closing = True

    def write_eof(self) -> None:
        self.half_closed = True

    def abort(self) -> None:
        self.closing = self.aborted = True
        self.buffered = b""

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = cast("asyncio.Protocol", protocol)

    # What happens outside.

    def receive(self, data: bytes) -> None:
        """Bytes come from the peer; none do once the connection closes."""
        if not self.closing:
            self.protocol.data_received(data)

    def stall(self) -> None:
        """The peer reads no more, and the socket's own buffer is full."""
        self.stalled = True
        self.protocol.pause_writing()

    def read_on(self) -> None:
        """The peer reads again."""
        self.delivered, self.buffered, self.stalled = self.delivered + self.buffered, b"", False
        self.protocol.resume_writing()

    def finish(self) -> None:
        """The connection is gone."""
        assert not self.ended
        self.closing = self.ended = True
        self.protocol.connection_lost(None)

    def taken(self) -> bytes:
        """What the peer has read since the last call."""
        data, self.delivered = self.delivered, b""
        return data
