"""The JSON format: one JSON object per line, payloads embedded as raw JSON values.

In subscriptions with deltas they are JSON strings, which hold the JSON text or the delta to it.

msgspec checks the grammar, of payloads and of unknown fields too. It leaves out what this module adds, because one
payload that a subscriber's parser refuses would end the connections of a whole channel:

- UTF-8 inside payloads and skipped fields (msgspec copies those bytes unseen);
- nesting (it stops where the Python stack ends, elsewhere each time; so does the Python SDK) and the length of numbers
  (CPython refuses integers of more than 4300 digits);
- lone surrogates, the one thing it refuses although the grammar allows it: `JSON.stringify` writes them when a text
  was cut inside an emoji. They become U+FFFD, as other parsers read them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import ClassVar

import msgspec
from msgspec import Raw

from tidewire.edge.wire.codec import MAX_COMMANDS, MalformedFrame
from tidewire.edge.wire.commands import Command
from tidewire.edge.wire.replies import ClientInfo, Reply

MAX_DEPTH = 128  # arrays and objects inside each other, of a payload or of a whole line
MAX_DIGITS = 4300  # in one number: sys.int_info.default_max_str_digits of CPython
MAX_CACHED_INFO = 1024  # bytes: bounds the cache of ClientInfos together with their number

_COMMAND = msgspec.json.Decoder(Command)
_INFO = msgspec.json.Decoder(ClientInfo)
_VALUE = msgspec.json.Decoder(Raw)
_encode = msgspec.json.Encoder().encode

_SPACE = b" \t\r\n"
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
# These two never fail after their quote, closed or not: else a match would be tried again at each quote inside it.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_STRING_OF_BRACKETS = re.compile(rb'"[^"]*+"?')
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_TOO_MANY_DIGITS = b"0" * (MAX_DIGITS + 1)
_BRACES_TO_BRACKETS = bytes.maketrans(b"{}", b"[]")
_BRACKETS_TO_STEPS = bytes.maketrans(b"[]", b"\x01\xff")
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))


def clean_json(data: bytes) -> bytes | None:
    """Return the JSON value safe to embed in a line of a JSON frame, None when there is no such value.

    `data` must be exactly one JSON value in valid UTF-8, nested at most `MAX_DEPTH` deep, no number longer than
    `MAX_DIGITS`. Line breaks, which in JSON can only be white space, are taken out.
    """
    try:
        if not data.isascii():
            data.decode()
        if not _within_bounds(data):
            return None
        try:
            _VALUE.decode(data)
        except msgspec.DecodeError:
            data = _mend_surrogates(data)
            _VALUE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return data.translate(None, b"\r\n")


def parse_info(info: bytes) -> tuple[bytes, ClientInfo] | None:
    """Return a ClientInfo in JSON, cleaned as by `clean_json`, and parsed; None when it is not a ClientInfo."""
    clean = clean_json(info)
    try:
        return None if clean is None else (clean, _INFO.decode(clean))
    except msgspec.DecodeError:
        return None


class JsonCodec:
    """The JSON format of the client protocol."""

    name: ClassVar[str] = "json"
    PING: ClassVar[bytes] = b"{}"

    def decode(self, frame: bytes) -> list[Command]:
        """Return the commands of one frame; see `Codec.decode`. Space around lines is allowed, a blank line is not."""
        if not frame.isascii():
            try:
                frame.decode()
            except UnicodeDecodeError:
                raise MalformedFrame(
                    "not valid UTF-8"
                ) from None  # the error would carry the whole frame along
        lines = frame.strip(_SPACE).split(b"\n")
        if len(lines) > MAX_COMMANDS:
            raise MalformedFrame(f"more than {MAX_COMMANDS} commands")
        return [_command(line) for line in lines]

    def burst(self, frames: Sequence[bytes]) -> list[Command] | None:
        """Return the commands of several frames; see `Codec.burst`.

        msgspec's `decode_lines` does not insist on lines: values may share one, or go on in the next. But where every line
        end stands between a `}` and a `{`, which inside a value and inside a string is an error, each line holds a value at
        least, and as many values as lines are one in each.
        """
        text = frames[0] if len(frames) == 1 else b"\n".join(frames)
        ends = text.count(b"\n")
        if ends and not (ends < MAX_COMMANDS and _between_objects(text) == ends):
            return None
        if not _within_bounds(text):
            return None
        try:
            if not text.isascii():
                text.decode()
            commands = _COMMAND.decode_lines(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return commands if len(commands) == ends + 1 else None

    def encode(self, replies: Sequence[Reply]) -> bytes:
        """Return the frame that holds `replies`; see `Codec.encode`."""
        return b"\n".join([_encode(reply) for reply in replies])

    def published(self, numbers: Sequence[int]) -> bytes:
        """Return the item that answers publish commands; see `Codec.published`."""
        return (b'{"id":%d,"publish":{}}\n' * len(numbers))[:-1] % tuple(numbers)

    def publication(
        self,
        place: str | int,
        data: bytes,
        info: bytes | None,
        tags: Mapping[str, str] | None,
        channel: str = "",
        offset: int = 0,
        *,
        delta: bool | None = None,
    ) -> bytes:
        """Return the item that pushes a publication; see `Codec.publication`."""
        if delta is not None:
            data = _encode(data.decode())
        name = b'{"push":{"id":' if isinstance(place, int) else b'{"push":{"channel":'
        parts = [name, _encode(place), b',"pub":{"data":', data]
        if delta:
            parts.append(b',"delta":true')
        if info is not None and (sender := _info(info)) is not None:
            parts += b',"info":', sender
        if offset:
            parts.append(b',"offset":%d' % offset)
        if tags:
            parts += b',"tags":', _encode(dict(tags))
        if channel:
            parts += b',"channel":', _encode(channel)
        parts.append(b"}}}")
        return b"".join(parts)

    def join(self, items: Sequence[bytes]) -> bytes:
        """Return the frame that holds `items`; see `Codec.join`."""
        return b"\n".join(items)


JSON = JsonCodec()


def _command(line: bytes) -> Command:
    if not _within_bounds(line):
        raise MalformedFrame(f"nested deeper than {MAX_DEPTH}, or a number of more than {MAX_DIGITS} digits")
    try:
        try:
            return _COMMAND.decode(line)
        except msgspec.DecodeError:
            return _COMMAND.decode(_mend_surrogates(line))
    except msgspec.DecodeError as error:  # msgspec names places and types, never values
        raise MalformedFrame(str(error)) from None
    except RecursionError:
        raise MalformedFrame("nested too deep") from None


def _between_objects(text: bytes) -> int:
    """Return how many line ends stand between what may be two objects; 0 where the text does not begin and end with one."""
    return text.count(b"}\n{") if text.startswith(b"{") and text.endswith(b"}") else 0


def _info(info: bytes) -> bytes | None:
    return known_info(info) if len(info) <= MAX_CACHED_INFO else _clean_info(info)


def _clean_info(info: bytes) -> bytes | None:
    parsed = parse_info(info)
    return None if parsed is None else parsed[0]


known_info = lru_cache(maxsize=1024)(_clean_info)


def _within_bounds(text: bytes) -> bool:
    """Return False for JSON beyond `MAX_DEPTH` or `MAX_DIGITS`; text that is not JSON may pass."""
    size = len(text)
    if size <= 2 * MAX_DEPTH:  # every level takes two bytes
        return True
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        return False
    return size <= MAX_DIGITS or not _has_long_number(text) or not _has_long_number(_STRING.sub(b"", text))


def _has_long_number(text: bytes) -> bool:
    return _TOO_MANY_DIGITS in text.translate(_DIGITS_TO_ZERO)


def _depth(text: bytes) -> int:
    """Return how deep JSON is nested; built of calls that run in C, since wide payloads come here too."""
    if b"\\" in text:
        text = text.replace(rb"\\", b"").replace(rb"\"", b"")
    brackets = text.translate(_BRACES_TO_BRACKETS, _NOT_STRUCTURE).replace(b'""', b"")
    if b'"' in brackets:  # only strings with brackets in them are left
        brackets = _STRING_OF_BRACKETS.sub(b"", brackets)
    leaves = 0
    while b"[]" in brackets and leaves < 4:  # most of a wide payload is gone after one or two levels
        brackets = brackets.replace(b"[]", b"")
        leaves += 1
    steps = memoryview(brackets.translate(_BRACKETS_TO_STEPS)).cast("b")
    return leaves + max(accumulate(steps), default=0)


def _mend_surrogates(text: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: rb"\ufffd" if match[1] else match[0], text)
