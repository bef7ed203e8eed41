"""websockets' own `ServerProtocol` as a frame reader: what ours is compared with, in its verdicts and its cost."""

from __future__ import annotations

import codecs

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

OPCODES_OF_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})


class ReferenceReader:
    """The methods of `FrameReader`. What ServerProtocol leaves to its user is done here: joining fragments, and UTF-8."""

    def __init__(self, limit: int, *, deflate: bool = False) -> None:
        self.protocol = ServerProtocol(state=State.OPEN, max_size=limit)
        if deflate:
            self.protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
        self.incomplete = bytearray()
        """What came of a message whose end has not come."""
        self._utf8: codecs.IncrementalDecoder | None = None
        self._refused = False

    def feed(self, data: bytes) -> list[bytes]:
        """See FrameReader."""
        self.protocol.receive_data(data)
        messages: list[bytes] = []
        for event in self.protocol.events_received():
            if self._refused:
                break
            if isinstance(event, Frame) and event.opcode in OPCODES_OF_DATA:
                messages += self._join(event)
        return messages

    def eof(self) -> None:
        """See FrameReader."""
        self.protocol.receive_eof()

    def outgoing(self) -> bytes:
        """See FrameReader."""
        return b"".join(self.protocol.data_to_send())

    @property
    def closing(self) -> bool:
        """See FrameReader."""
        return self.protocol.state is not State.OPEN

    def _join(self, frame: Frame) -> list[bytes]:
        if frame.opcode is not Opcode.CONT:
            self._utf8 = codecs.getincrementaldecoder("utf-8")() if frame.opcode is Opcode.TEXT else None
        try:
            if self._utf8 is not None:
                self._utf8.decode(bytes(frame.data), frame.fin)
        except UnicodeDecodeError:
            self._refused = True
            self.protocol.fail(CloseCode.INVALID_DATA, "text that is not UTF-8")
            return []
        self.incomplete += frame.data
        if not frame.fin:
            return []
        message = bytes(self.incomplete)
        self.incomplete.clear()
        return [message]
