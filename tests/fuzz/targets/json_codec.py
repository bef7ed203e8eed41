"""The JSON codec beside the standard library's parser. Input: what a client sends as one message, or as one payload."""

from __future__ import annotations

import json
from types import UnionType
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec import Raw

from tests.fuzz.reference_json import PARSER, depth_of, mended, repeats_a_name, value_of
from tidewire.edge.wire.codec import MAX_COMMANDS, MalformedFrame
from tidewire.edge.wire.commands import Command
from tidewire.edge.wire.json_codec import JSON, MAX_DEPTH, clean_json

LONGEST = 320
REFERENCE = PARSER


def check(data: bytes) -> None:
    """Demand the same verdict and meaning, of the bytes as one value and as a frame of commands."""
    lines = data.strip(b" \t\r\n").split(b"\n")
    expected = [_read(line) for line in lines]
    _check_value(data, _read(data) if len(expected) > 1 else expected[0])
    _check_frame(data, lines, expected)


def _read(data: bytes) -> list[Any]:
    """Return the value in a list; an empty one where there is none, or one that is nested too deep."""
    try:
        value = value_of(data.decode())
    except (ValueError, RecursionError):
        return []
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and depth_of(value) > MAX_DEPTH:
        return []
    return [mended(value) if b"\\u" in data else value]


def _check_value(data: bytes, expected: list[Any]) -> None:
    clean = clean_json(data)
    if clean is None:
        assert not expected
    else:
        assert not set(clean) & set(b"\r\n")
        assert repr([json.loads(clean)]) == repr(expected)


def _check_frame(frame: bytes, lines: list[bytes], expected: list[list[Any]]) -> None:
    try:
        commands = JSON.decode(frame)
    except MalformedFrame:
        assert len(expected) > MAX_COMMANDS or not all(
            values and _fits(values[0]) and not repeats_a_name(line.decode())
            for values, line in zip(expected, lines, strict=True)
        )  # of members of one name ours looks at each, and takes the last; the reference sees only that
        return
    assert len(commands) == len(expected)
    for command, values in zip(commands, expected, strict=True):
        assert _same(command, msgspec.convert(values[0], _PLAIN))


def _fits(value: Any) -> bool:
    try:
        msgspec.convert(value, _PLAIN)
    except msgspec.ValidationError:
        return False
    return isinstance(value, dict)


def _same(found: Any, expected: Any) -> bool:
    if isinstance(found, Raw):
        return repr(json.loads(bytes(found)) if bytes(found) else None) == repr(expected)
    if isinstance(found, msgspec.Struct):
        same = (_same(getattr(found, name), getattr(expected, name)) for name in found.__struct_fields__)
        return all(same)
    if isinstance(found, dict):
        return found.keys() == expected.keys() and all(
            _same(each, expected[key]) for key, each in found.items()
        )
    return bool(found == expected)


def _plain(kind: Any) -> Any:
    """Return a type of messages whose payloads are values instead of bytes."""
    if kind is Raw:
        return Any
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if get_origin(kind) is dict:
        return dict[str, _plain(get_args(kind)[1])]  # type: ignore[misc]
    if isinstance(kind, UnionType):
        return _plain(get_args(kind)[0]) | None
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        return msgspec.defstruct(
            kind.__name__,
            [(field.name, _plain(field.type), _default(field)) for field in fields if field.type is not kind],
        )
    return kind


def _default(field: Any) -> Any:
    if field.type is Raw:
        return None
    made = field.default_factory
    return field.default if made is msgspec.NODEFAULT else msgspec.field(default_factory=made)


_PLAIN = _plain(Command)
SEEDS = [
    b"{}",
    b"{}\n",
    b'{"id":1,"connect":{"subs":{"a":{"recover":true,"offset":3,"epoch":"e"}}}}',
    b' {"id":1,"ping":{}} \r\n{"id":2,"send":{"data":null}}',
    b'{"id":1,"connect":{"token":"t","data":{"a":[1,2.5,-3e7,true,false,null]},"name":"js","version":"1","flag":1}}',
    (
        b'{"id":2,"subscribe":{"channel":"a","token":"t","recover":true,"epoch":"e","offset":9,"data":"x",'
        b'"positioned":true,"recoverable":false,"join_leave":true,"delta":"fossil","flag":1,"type":1,'
        b'"tf":{"op":"and","nodes":[{"key":"k","cmp":"in","vals":["a","b"]},{"val":"v"}]}}}'
    ),
    b'{"id":3,"unsubscribe":{"channel":"a"}}\n{"id":4,"publish":{"channel":"a","data":{"x": [1]}}}',
    b'{"id":5,"presence":{"channel":"a"}}\n{"id":6,"presence_stats":{"channel":"a"}}',
    b'{"id":7,"history":{"channel":"a","limit":-1,"since":{"offset":5,"epoch":"e"},"reverse":true}}',
    b'{"id":8,"rpc":{"method":"m","data":"\\ud83d\\ude00 \\ud83d"}}\n{"id":9,"refresh":{"token":"t"}}',
    b'{"id":4294967295,"sub_refresh":{"channel":"\\udc00","token":"\xf0\x9f\x98\x80"}}',
    b'{"id":1.0,"later":[{"x":[1,{"y":null}]}],"id":2e0}',
    b'{"id":[{"x":null}],"id":2}',
    b'{"id":1,"id":2,"publish":{"channel":"a","channel":"b"}}',
    b"[" * 129 + b"]" * 129,
    b"[" * 128 + b"]" * 128,
    b'["\\"[{]}","\\\\",{"\\u005b":"]"}]',
    b'[1e999,-0,-0.0,0.1E+2,123456789012345678901234567890,"\\/\\b\\f\\n\\r\\t\\u00e9\x7f"]',
    b"[NaN,Infinity]",
    b'["\xff","\xed\xa0\x80","\xc0\x80"]',
    b"\xef\xbb\xbf{}",
    b"[1,]",
    b"01",
    b'"a\nb"',
    b"{}\n\n{}",
    b"\x0b{}\x0c",
    b"\x0b{}",
]
