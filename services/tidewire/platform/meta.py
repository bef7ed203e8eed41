"""Reads and writes what all processes of a deployment must agree on: the record `layout` of the bucket TW_META.

`tidewire migrate` writes it, by compare and set; every other process reads it and refuses to work against it.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from tidewire.kernel.meta import (
    DIRECT_GET,
    LAYOUT_SUBJECT,
    MIGRATE,
    Held,
    Meta,
    MetaError,
    decode_meta,
    verify,
)
from tidewire.kernel.streams import META_BUCKET, META_STREAM, door_of
from tidewire.platform.jetstream import STREAM_NOT_FOUND, WRONG_SEQUENCE, JetStream, JetStreamError

__all__ = [
    "DIRECT_GET",
    "LAYOUT_SUBJECT",
    "Held",
    "Meta",
    "MetaError",
    "decode_meta",
    "find_door",
    "read_held",
    "read_meta",
    "verify",
    "write_meta",
]

TRIES: Final = 3
_MISSING: Final = (b"NATS/1.0 404", b"NATS/1.0 503")
_SEQUENCE: Final = re.compile(rb"\r\nNats-Sequence: (\d+)\r\n")


async def read_meta(js: JetStream) -> Meta | None:
    """Return the record from any server that has it: it may be seconds old. None: there is no record, or no bucket.

    Raises JetStreamError where NATS does not answer, MetaError for a record of another version.
    """
    held = await read_held(js)
    return None if held is None else held.meta


async def read_held(js: JetStream) -> Held | None:
    """Return the record and its sequence, as `read_meta`."""
    header, payload = await _copy(js)
    if header.startswith(_MISSING):
        return None
    sequences = _SEQUENCE.findall(header)
    if not sequences:
        raise JetStreamError(503, 0, "no answer of JetStream's to the question for TW_META")
    return Held(decode_meta(payload), int(sequences[-1]))


async def find_door(js: JetStream) -> str:
    """Return under which subject keys of the bucket are written. Raises JetStreamError where it cannot be."""
    door = None
    try:
        door = door_of((await js.call(f"STREAM.INFO.{META_STREAM}"))["config"])
    except JetStreamError as error:
        if error.err_code != STREAM_NOT_FOUND:
            raise
    if door is None:
        raise JetStreamError(503, 0, f"there is no {META_BUCKET} that could be written: run {MIGRATE}")
    return door


async def _copy(js: JetStream) -> tuple[bytes, bytes]:
    """Ask for the record: one of its copies may stand still, while others would answer."""
    for _ in range(TRIES - 1):
        try:
            return await js.ask(DIRECT_GET, b"")
        except JetStreamError:
            continue
    return await js.ask(DIRECT_GET, b"")


async def write_meta(js: JetStream, meta: Meta, after: int) -> int:
    """Put the record in place of the one with sequence `after` (0: where there is none) and return its sequence.

    Raises MetaError where somebody else has written one, JetStreamError where nobody knows.
    """
    header = f"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: {after}\r\n\r\n".encode()
    _, payload = await js.ask(f"{await find_door(js)}.layout", msgspec.json.encode(meta), header)
    try:
        answer = msgspec.json.decode(payload, type=dict[str, Any])
    except msgspec.DecodeError:
        raise JetStreamError(
            503, 0, f"{META_BUCKET} did not take the record: is there no such bucket?"
        ) from None
    error = answer.get("error")
    if error is None:
        return int(answer["seq"])
    if error.get("err_code") in WRONG_SEQUENCE:
        raise MetaError(f"{META_BUCKET} was written by somebody else meanwhile: run {MIGRATE} again")
    raise JetStreamError(error.get("code", 500), error.get("err_code", 0), error.get("description", ""))
