"""Reading WebSocket frames: bytes in, whole messages out (RFC 6455, sections 5 to 7). Pure: nothing here knows a socket.

A connection keeps one reader for its life, so an idle one holds no buffer. Where the RFC leaves a choice, it is that of
websockets' `ServerProtocol`, except that
- a close frame inside a fragmented message is a close like any other (section 5.4), not a violation;
- the room that a message has left says nothing about control frames, which have a bound of their own (section 5.5);
- what is wrong about a frame is said when its head has come, not when its payload has;
- a control frame has the short form of length (section 5.2): one in a longer form is refused, whatever length it says;
- what a compressed message holds back until its last frame counts, too, where no room is left.
"""

from __future__ import annotations

import codecs
import zlib

from websockets.speedups import apply_mask

from tidewire.edge.deflate import InflatedTooLarge, Inflater
from tidewire.kernel.errors import Disconnect

FIN = 0x80
RSV = 0x70
RSV1 = 0x40
MASK = 0x80
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
OPCODES = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
FIN_TEXT, FIN_BINARY = FIN | TEXT, FIN | BINARY
WHOLE = frozenset({FIN_TEXT, FIN_BINARY})
"""First bytes of the common frames, which nothing but their size and place can make wrong."""
CONTROL = 0x8
"""The bit that all opcodes of control frames have, and no other (section 5.5)."""
SHORT = 125
"""Bytes that a frame's first form of length can say, and the most of a control frame."""
NO_STATUS = 1005
ABNORMAL = 1006
CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)})
"""What a close frame may say (section 7.4, and IANA's registry)."""

_utf8 = codecs.getincrementaldecoder("utf-8")


class FrameReader:
    """The reading half of an open WebSocket, and the control frames that it owes the peer.

    `limit`: bytes of a message, as sent and as inflated. `deflate`: whether permessage-deflate was agreed on, without
    context takeover.
    """

    __slots__ = (
        "_limit",
        "_message",
        "_need",
        "_owed",
        "_rest",
        "close_code",
        "closing",
        "deflate",
        "ended",
        "fault",
    )

    def __init__(self, limit: int, *, deflate: bool = False) -> None:
        self._limit = limit
        self.deflate = deflate
        """Whether the peer may compress."""
        self._rest: bytearray | None = None
        """The begin of a frame, of which `_need` bytes are needed to go on."""
        self._need = 0
        self._message: _Message | None = None
        self._owed: bytearray | None = None
        self.closing = False
        """Whether a close frame was sent or received: nothing but the end may follow."""
        self.ended = False
        """Whether the TCP connection should end, once what is owed is written. What still comes is ignored."""
        self.close_code = ABNORMAL
        """The code of the peer's close frame, else of ours, else 1006."""
        self.fault: Disconnect | None = None
        """What was said to a peer that broke the rules of frames; None otherwise."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes from the socket; return the messages that they complete. Never raises on any bytes."""
        if self._rest is not None:
            self._rest += data
            if len(self._rest) < self._need:
                return []
            data, self._rest = bytes(self._rest), None
        # Most reads of a socket are one frame below 64 KiB: this is that, and nothing but a shorter way to the same.
        if len(data) >= 8 and data[0] in WHOLE and self._message is None and not self.ended:
            length, body = data[1] - MASK, 6
            if length == 126:
                length, body = data[2] << 8 | data[3], 8
            elif length > SHORT:
                return self._read(data)
            if body + length == len(data) and length <= self._limit:
                payload = apply_mask(data[body:], data[body - 4 : body])
                if data[0] == FIN_BINARY or payload.isascii():
                    return [payload]
        return self._read(data)

    def eof(self) -> None:
        """Take the peer's end of stream."""
        self._end()

    def outgoing(self) -> bytes:
        """Return the control frames to write now."""
        if self._owed is None:
            return b""
        owed, self._owed = bytes(self._owed), None
        return owed

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; no effect once it has begun."""
        if not self.closing:
            self.close_code = code
            self._owe(CLOSE, code.to_bytes(2, "big") + reason.encode())
            self.closing = True

    def _read(self, data: bytes) -> list[bytes]:
        messages: list[bytes] = []
        at = len(data) if self.ended else 0
        try:
            while at < len(data) and (end := self._frame(data, at, messages)):
                at = end
        except _Violation as violation:
            self._fail(violation.disconnect)
        if not self.ended and at < len(data):
            self._rest = bytearray(data[at:])
        return messages

    def _frame(self, data: bytes, at: int, messages: list[bytes]) -> int:
        """Read the frame that begins at `at`; return where it ends, 0 while bytes are missing."""
        held = len(data) - at
        if held < 2:
            self._need = 2
            return 0
        first, length = data[at], data[at + 1] - MASK
        if length < 0:
            raise _Violation(1002, "incorrect masking")
        if first not in WHOLE:
            _check_opcode(first & 0x0F, length)
        body = at + 6
        if length > SHORT:
            width = 2 if length == 126 else 8
            self._need = 2 + width
            if held < self._need:
                return 0
            length = int.from_bytes(data[at + 2 : at + 2 + width], "big")
            body += width
        if length > self._limit or self._message is not None or first not in WHOLE:
            self._check(first, length)
        end = body + length
        if end > len(data):
            self._need = end - at
            return 0
        payload = apply_mask(data[body:end], data[body - 4 : body])
        if first == FIN_BINARY or (first == FIN_TEXT and payload.isascii()):
            messages.append(payload)
        elif first & CONTROL:
            self._control(first & 0x0F, payload)
        else:
            self._add(first, payload, messages)
        return 0 if self.ended else end

    def _check(self, first: int, length: int) -> None:
        """Raise when a frame may not begin so, at this place (sections 5.2, 5.4, 5.5)."""
        opcode, message = first & 0x0F, self._message
        if not opcode & CONTROL and length > self._limit - (len(message.data) if message is not None else 0):
            raise _Violation(1009, f"a message is {self._limit} bytes at most")
        if first & RSV and not (self.deflate and first & RSV == RSV1 and opcode in {TEXT, BINARY}):
            raise _Violation(1002, "reserved bits must be 0")
        if opcode & CONTROL:
            if not first & FIN:
                raise _Violation(1002, "fragmented control frame")
        elif opcode == CONTINUATION and message is None:
            raise _Violation(1002, "unexpected continuation frame")
        elif opcode != CONTINUATION and message is not None:
            raise _Violation(1002, "expected a continuation frame")

    def _add(self, first: int, payload: bytes, messages: list[bytes]) -> None:
        """Take a frame of data; what it completes goes to `messages`."""
        if first == FIN_TEXT:
            _check_text(payload, "text that is not UTF-8")
            messages.append(payload)
            return
        message = self._message or _Message(text=first & 0x0F == TEXT, deflated=bool(first & RSV1))
        message.add(payload, self._limit, final=bool(first & FIN))
        if first & FIN:
            self._message = None
            messages.append(bytes(message.data))
        else:
            self._message = message

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING and not self.closing:
            self._owe(PONG, payload)
        elif opcode == CLOSE:
            self.close_code = _code_of(payload)
            if not self.closing:
                self._owe(CLOSE, payload)
            self._end()

    def _fail(self, disconnect: Disconnect) -> None:
        """Fail the connection (section 7.1.7)."""
        if not self.closing:
            self.fault = disconnect
            self.close(disconnect.code, disconnect.reason)
        self._end()

    def _end(self) -> None:
        self.closing = self.ended = True
        self._rest = self._message = None

    def _owe(self, opcode: int, payload: bytes) -> None:
        if self._owed is None:
            self._owed = bytearray()
        self._owed += bytes((FIN | opcode, len(payload))) + payload


class _Violation(Exception):
    """The peer broke a rule; the connection fails with this."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.disconnect = Disconnect(code, reason)


class _Message:
    """A message that came in several frames, or compressed. `data`: what they gave so far.

    Not a list of fragments: those may be empty, and no size bounds their number.
    """

    __slots__ = ("_inflater", "_utf8", "data")

    def __init__(self, *, text: bool, deflated: bool) -> None:
        self._utf8 = _utf8() if text else None
        self._inflater = Inflater() if deflated else None
        self.data = bytearray()

    def add(self, payload: bytes, limit: int, *, final: bool) -> None:
        """Take the payload of a frame."""
        try:
            if self._inflater is not None:
                payload = self._inflater.inflate(payload, limit - len(self.data), final=final)
            if self._utf8 is not None:
                self._utf8.decode(payload, final)
        except InflatedTooLarge:
            raise _Violation(1009, f"a message is {limit} bytes at most") from None
        except zlib.error:
            raise _Violation(1002, "decompression failed") from None
        except UnicodeDecodeError:
            raise _Violation(1007, "text that is not UTF-8") from None
        self.data += payload


def _check_opcode(opcode: int, length: int) -> None:
    if opcode not in OPCODES:
        raise _Violation(1002, "invalid opcode")
    if opcode & CONTROL and length > SHORT:
        raise _Violation(1002, "control frame too long")


def _code_of(payload: bytes) -> int:
    """Return what a close frame says (sections 5.5.1, 7.4), 1005 for nothing; raise for what it may not say."""
    if not payload:
        return NO_STATUS
    if len(payload) == 1:
        raise _Violation(1002, "close frame too short")
    _check_text(payload[2:], "a close reason that is not UTF-8")
    code = int.from_bytes(payload[:2], "big")
    if code not in CLOSE_CODES:
        raise _Violation(1002, "invalid status code")
    return code


def _check_text(data: bytes, complaint: str) -> None:
    try:
        data.decode()
    except UnicodeDecodeError:
        raise _Violation(1007, complaint) from None
