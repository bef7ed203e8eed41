"""Reading WebSocket frames: bytes in, whole messages out (RFC 6455, sections 5 and 7).

The port is small so that the reader can be replaced; this one stands on websockets' Sans-I/O `ServerProtocol`, which
checks masks, reserved bits, lengths, fragments and close frames, and answers pings. What it leaves to its user is done
here: joining fragments, and refusing text that is not UTF-8 (1007).
"""

from __future__ import annotations

from typing import Protocol

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from tidewire.kernel.errors import Disconnect

OPCODES_OF_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})


class FrameReader(Protocol):
    """The reading half of an open WebSocket, and the control frames that it owes the peer."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes from the socket; return the messages that they complete. Never raises on any bytes."""

    def eof(self) -> None:
        """Take the peer's end of stream."""

    def outgoing(self) -> list[bytes]:
        """Return control frames to write now; an empty item says that the TCP connection should end after them."""

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; no effect once it has begun."""

    @property
    def closing(self) -> bool:
        """Whether a close frame was sent or received: nothing but the end may follow."""

    @property
    def close_code(self) -> int:
        """The code of the peer's close frame, else of ours, else 1006."""

    @property
    def fault(self) -> Disconnect | None:
        """What was said to a peer that broke the rules of frames; None otherwise."""


class ServerProtocolReader:
    """FrameReader on websockets' `ServerProtocol`, after its handshake."""

    __slots__ = ("_closed_by_us", "_message", "_protocol", "_refused", "_text")

    def __init__(self, protocol: ServerProtocol) -> None:
        self._protocol = protocol
        self._message = bytearray()  # not a list: fragments may be empty, and no size bounds their number
        self._text = False
        self._refused = False
        self._closed_by_us = False

    def feed(self, data: bytes) -> list[bytes]:
        """See FrameReader."""
        self._protocol.receive_data(data)
        messages: list[bytes] = []
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode in OPCODES_OF_DATA:
                message = self._join(event)
                if self._refused:
                    break
                if message is not None:
                    messages.append(message)
        return messages

    def eof(self) -> None:
        """See FrameReader."""
        self._protocol.receive_eof()

    def outgoing(self) -> list[bytes]:
        """See FrameReader."""
        return self._protocol.data_to_send()

    def close(self, code: int, reason: str) -> None:
        """See FrameReader."""
        if self._protocol.state is State.OPEN:
            self._closed_by_us = True
            self._protocol.send_close(code, reason)

    @property
    def closing(self) -> bool:
        """See FrameReader."""
        return self._protocol.state is not State.OPEN

    @property
    def close_code(self) -> int:
        """See FrameReader."""
        protocol = self._protocol
        frame = protocol.close_rcvd or protocol.close_sent
        return int(frame.code) if frame is not None else int(CloseCode.ABNORMAL_CLOSURE)

    @property
    def fault(self) -> Disconnect | None:
        """See FrameReader."""
        sent = self._protocol.close_sent
        if sent is None or self._closed_by_us or self._protocol.close_rcvd is sent:
            return None
        return Disconnect(int(sent.code), sent.reason)

    def _join(self, frame: Frame) -> bytes | None:
        """Return the message that `frame` completes; None while fragments are missing or when it is refused."""
        if frame.opcode is not Opcode.CONT:
            self._text = frame.opcode is Opcode.TEXT
        if frame.fin and not self._message:
            message = bytes(frame.data)
        else:
            self._message += frame.data
            if not frame.fin:
                return None
            message = bytes(self._message)
            self._message.clear()
        if self._text and not message.isascii():
            try:
                message.decode()
            except UnicodeDecodeError:
                self._refused = True
                self._protocol.fail(CloseCode.INVALID_DATA, "text that is not UTF-8")
                return None
        return message
