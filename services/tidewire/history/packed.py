"""Publications as they stand in a reply of the service: written once, when they come, and copied into every reply. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tidewire.rpc.history.v1 import history_pb2 as pb

if TYPE_CHECKING:
    from tidewire.history.messages import Message

_FIELD: Final = bytes((pb.ReadReply.DESCRIPTOR.fields_by_name["publications"].number << 3 | 2,))
"""What begins a publication among a reply's fields: the field's number, and that its length follows."""


def packed(message: Message) -> bytes:
    """Return a stored publication as one field of `ReadReply`: fields that follow each other are one message (protobuf)."""
    data, header = message.kept
    publication = pb.Publication(offset=message.sequence, data=data, headers=header, time_ns=message.time_ns)
    written = publication.SerializeToString()
    return _FIELD + _varint(len(written)) + written


def _varint(number: int) -> bytes:
    """Return a length as protobuf writes it: seven bits a byte, the lowest first."""
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    return bytes((number & 0x7F | 0x80,)) + _varint(number >> 7)
