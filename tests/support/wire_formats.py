"""Commands and replies as rows of the wire table write them, in both formats of the client protocol.

The Protobuf side stands on the generated types and the descriptors alone, so it shares nothing with the edge's codec.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from tidewire.rpc.centrifuge.v2 import client_pb2 as pb

Plain = dict[str, Any]
PING: Plain = {}


class Format(Protocol):
    """One format: what a WebSocket message holds, and how to ask for it."""

    subprotocol: str | None

    def frame(self, commands: Iterable[Plain]) -> str | bytes:
        """Return the message that carries these commands."""

    def lines(self, frame: str | bytes) -> list[Plain]:
        """Return the replies that a message carries; a ping is an empty one."""

    def form(self, reply: Plain) -> Plain:
        """Return a reply of the table as this format writes it."""


class Json:
    """Text, one object per line."""

    subprotocol = None

    def frame(self, commands: Iterable[Plain]) -> str:
        """See Format."""
        return "\n".join(map(json.dumps, commands))

    def lines(self, frame: str | bytes) -> list[Plain]:
        """See Format."""
        assert isinstance(frame, str), "JSON goes in text frames"
        lines = frame.split("\n")
        assert all(lines), "an empty frame or a blank line"
        return [json.loads(line) for line in lines]

    def form(self, reply: Plain) -> Plain:
        """See Format."""
        return reply


class Protobuf:
    """Binary, messages behind their lengths."""

    subprotocol = "centrifuge-protobuf"

    def frame(self, commands: Iterable[Plain]) -> bytes:
        """See Format."""
        messages = (
            json_format.ParseDict(_encodable(pb.Command.DESCRIPTOR, each), pb.Command()) for each in commands
        )
        return b"".join(_delimited(message.SerializeToString()) for message in messages)

    def lines(self, frame: str | bytes) -> list[Plain]:
        """See Format."""
        assert isinstance(frame, bytes), "Protobuf goes in binary frames"
        found = []
        while frame:
            size, frame = _length(frame)
            assert len(frame) >= size, "a length prefix reaches beyond the frame"
            found.append(_plain(pb.Reply.FromString(frame[:size])))
            frame = frame[size:]
        return found

    def form(self, reply: Plain) -> Plain:
        """Leave out what is at its default; JSON writes a user id even when it is empty."""
        return _without_defaults(reply, pb.Reply.DESCRIPTOR)


FORMATS: Mapping[str, Format] = {"json": Json(), "protobuf": Protobuf()}


def _encodable(kind: Descriptor, message: Plain) -> Plain:
    """Return a message for `ParseDict`: payloads are JSON values in a row, and base64 there."""
    return {name: _encodable_field(kind.fields_by_name[name], value) for name, value in message.items()}


def _encodable_field(field: FieldDescriptor, value: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        payload = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.b64encode(payload).decode()
    if field.message_type is None:
        return value
    if isinstance(value, list):
        return [_encodable(field.message_type, each) for each in value]
    if _is_map(field):
        inner = field.message_type.fields_by_name["value"]
        return {key: _encodable_field(inner, each) for key, each in value.items()}
    return _encodable(field.message_type, value)


def _plain(message: Message) -> Plain:
    return {field.name: _plain_field(field, value) for field, value in message.ListFields()}


def _plain_field(field: FieldDescriptor, value: Any) -> Any:
    if _is_map(field):
        return {key: _plain(each) if isinstance(each, Message) else each for key, each in value.items()}
    if field.is_repeated:
        return [_plain(each) if isinstance(each, Message) else each for each in value]
    if isinstance(value, Message):
        return _plain(value)
    return _payload(value) if isinstance(value, bytes) else value


def _payload(data: bytes) -> Any:
    """Return the JSON value that a payload is, or else its bytes."""
    try:
        return json.loads(data)
    except ValueError:
        return data


def _without_defaults(message: Plain, kind: Descriptor) -> Plain:
    found = {}
    for name, value in message.items():
        field = kind.fields_by_name[name]
        if isinstance(value, dict) and field.message_type is not None and not _is_map(field):
            found[name] = _without_defaults(value, field.message_type)
        elif value or field.message_type is not None or field.type == FieldDescriptor.TYPE_BYTES:
            found[name] = value
    return found


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _delimited(message: bytes) -> bytes:
    size, prefix = len(message), bytearray()
    while size > 127:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*prefix, size]) + message


def _length(frame: bytes) -> tuple[int, bytes]:
    size = 0
    for index, byte in enumerate(frame):
        size |= (byte & 0x7F) << (7 * index)
        if byte < 128:
            return size, frame[index + 1 :]
    raise AssertionError("a length prefix is cut off")
