"""Publications in memory: as they were heard, and from the first time that they are read on as they stand in a reply. Pure.

To write one for a reply costs a quarter of what it costs to hear it, and most are never read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tidewire.history.messages import block_of
from tidewire.rpc.history.v1 import history_pb2 as pb

if TYPE_CHECKING:
    from tidewire.history.messages import Message

_FIELD: Final = bytes((pb.ReadReply.DESCRIPTOR.fields_by_name["publications"].number << 3 | 2,))
"""What begins a publication among a reply's fields: the field's number, and that its length follows."""
_BETWEEN: Final = b"\r\n\r\n"


def heard(message: Message) -> bytes:
    """Return what a publication carries in one piece: header lines, each behind its line end, an empty one, and the data."""
    return message.lines + _BETWEEN + message.data


def is_packed(body: bytes) -> bool:
    """Whether it is what `packed` returns, and not `heard`."""
    return body.startswith(_FIELD)


def packed(message: Message) -> bytes:
    """Return a stored publication as one field of `ReadReply`: fields that follow each other are one message (protobuf)."""
    return _packed(message.sequence, message.time_ns, message.lines, message.data)


def packed_of(sequence: int, time_ns: int, body: bytes) -> bytes:
    """Return the same of what was `heard`."""
    lines, _, data = body.partition(_BETWEEN)
    return _packed(sequence, time_ns, lines, data)


def _packed(sequence: int, time_ns: int, lines: bytes, data: bytes) -> bytes:
    publication = pb.Publication(offset=sequence, data=data, headers=block_of(lines), time_ns=time_ns)
    written = publication.SerializeToString()
    return _FIELD + _varint(len(written)) + written


def _varint(number: int) -> bytes:
    """Return a length as protobuf writes it: seven bits a byte, the lowest first."""
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    return bytes((number & 0x7F | 0x80,)) + _varint(number >> 7)
