"""The Protobuf codec beside the types of the official SDK. Input: what a client sends as one message."""

from __future__ import annotations

from typing import Any

import msgspec
from centrifuge.protocol import client_pb2 as sdk  # type: ignore[import-untyped]
from google.protobuf.internal.decoder import _DecodeVarint  # type: ignore[attr-defined]
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]
from google.protobuf.message import DecodeError
from msgspec import Raw

from tidewire.edge.wire.codec import MalformedFrame
from tidewire.edge.wire.commands import Command
from tidewire.edge.wire.protobuf_codec import PROTOBUF
from tidewire.edge.wire.protobuf_fields import MAX_PREFIX
from tidewire.rpc.centrifuge.v2 import client_pb2 as newer

LONGEST = 300
METHODS = Command.__struct_fields__[1:]
NEWER = frozenset({"type"})
"""What we read of the fields that the SDK's types do not have yet."""


def check(data: bytes) -> None:
    """Demand the commands that the reference reads, or a refusal where it refuses."""
    try:
        messages = _messages(data)
        expected = [sdk.Command.FromString(message) for message in messages]
        for message in messages:  # of the fields that the SDK does not have yet, some are texts
            newer.Command.FromString(message)
    except (DecodeError, ValueError):
        expected = []
    try:
        commands = PROTOBUF.decode(data)
    except MalformedFrame:
        commands = []
    assert len(commands) == len(expected)
    for command, message in zip(commands, expected, strict=True):
        assert command.id == message.id
        method = next((name for name in METHODS if message.HasField(name)), None)
        assert [name for name in METHODS if getattr(command, name) is not None] == [method] * (
            method is not None
        )
        assert method is None or _same(getattr(command, method), getattr(message, method))


def _messages(data: bytes) -> list[bytes]:
    """Cut a frame at its length prefixes. Raises ValueError for one that is cut off or not in its shortest form."""
    found, at = [], 0
    while at < len(data):
        try:
            size, begin = _DecodeVarint(data, at)
        except IndexError:
            raise ValueError(data) from None
        at, prefix = begin + size, data[at:begin]
        if at > len(data) or prefix != _VarintBytes(size) or len(prefix) > MAX_PREFIX:
            raise ValueError(data)
        found.append(data[begin:at])
    return found


def _same(found: Any, expected: Any) -> bool:
    if isinstance(found, msgspec.Struct):
        names = (name for name in found.__struct_fields__ if name not in NEWER)
        return all(_same_field(getattr(found, name), expected, name) for name in names)
    return bool(found == expected)


def _same_field(found: Any, message: Any, name: str) -> bool:
    expected = getattr(message, name)
    if found is None:
        return not message.HasField(name)
    if isinstance(found, dict):
        return found.keys() == set(expected) and all(
            _same(each, expected[key]) for key, each in found.items()
        )
    if isinstance(found, tuple):
        return len(found) == len(expected) and all(map(_same, found, expected))
    return _same(bytes(found) if isinstance(found, Raw) else found, expected)


def _seed(*commands: Any) -> bytes:
    messages = [command.SerializeToString() for command in commands]
    return b"".join(_VarintBytes(len(message)) + message for message in messages)


_TREE = {"op": "and", "nodes": [{"key": "k", "cmp": "in", "vals": ["a", "b"]}, {"op": "not", "val": "v"}]}
SEEDS = [
    _seed(sdk.Command()),
    _seed(sdk.Command(id=1, connect={"token": "t", "data": b"\xff", "name": "js", "version": "1"})),
    _seed(sdk.Command(id=1, connect={"subs": {"a": {"recover": True}}, "headers": {"a": "b"}, "flag": 1})),
    _seed(
        sdk.Command(
            id=2**32 - 1,
            subscribe={"channel": "a", "token": "t", "recover": True, "epoch": "e", "offset": 2**64 - 1},
        ),
        sdk.Command(
            id=3, subscribe={"data": b"x", "positioned": True, "recoverable": True, "join_leave": True}
        ),
        sdk.Command(id=4, subscribe={"delta": "fossil", "tf": _TREE, "flag": -1}),
    ),
    _seed(sdk.Command(id=4, unsubscribe={"channel": "a"}), sdk.Command(id=5, ping={})),
    _seed(sdk.Command(id=5, publish={"channel": "a", "data": b"{}"}), sdk.Command(send={"data": b"1"})),
    _seed(
        sdk.Command(id=6, presence={"channel": "a"}), sdk.Command(id=7, presence_stats={"channel": "\u20ac"})
    ),
    _seed(sdk.Command(id=8, history={"channel": "a", "limit": -1, "since": {"offset": 5}, "reverse": True})),
    _seed(sdk.Command(id=9, rpc={"data": b"x" * 130, "method": "m"})),
    _seed(sdk.Command(id=9, refresh={"token": "t"}), sdk.Command(sub_refresh={"channel": "a", "token": "t"})),
    _seed(sdk.Command(id=1, ping={}, history={"since": {"epoch": "e"}})),
    *(
        bytes((len(unknown) + 2,)) + b"\x08\x07" + unknown
        for unknown in (
            bytes.fromhex("a00101"),
            bytes.fromhex("a20103616263"),
            bytes.fromhex("a1010000000000000000"),
            bytes.fromhex("a50100000000"),
            bytes.fromhex("a3010801a401"),
            bytes.fromhex("0a0161"),
        )
    ),
    b"\x05\x22\x03\x42\x01\x80",
    b"\x80\x00",
    b"\x03\x08\x01",
    b"\xff\xff\xff\xff\x7f",
    b"",
]
