"""The notebook port in the bucket TW_META: its entries are messages of a stream, replaced by compare and set."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tidewire.history.adapters.batched_gets import BatchedGets
from tidewire.history.adapters.jetstream_store import MOST_SUBJECTS, NOT_FOUND, TIMEOUT
from tidewire.history.messages import Message, published
from tidewire.history.ports import StoreAway
from tidewire.history.records import ABSENT, KINDS, Record
from tidewire.kernel.streams import META_BUCKET, META_STREAM, META_SUBJECT
from tidewire.platform.jetstream import WRONG_SEQUENCE, JetStream, JetStreamError
from tidewire.platform.meta import find_door

if TYPE_CHECKING:
    from tidewire.platform.nats_link import NatsLink

PREFIX: Final = f"{META_SUBJECT}."
EPOCH: Final = "Tw-Epoch"
_EPOCH = re.compile(rb"\r\nTw-Epoch:[ \t]*([^\r\n]*)")
_DELETED = re.compile(rb"\r\nKV-Operation:[ \t]*(DEL|PURGE)")


class MetaNotebook:
    """`ports.Notebook`."""

    def __init__(self, link: NatsLink, inbox_prefix: str) -> None:
        self._js = JetStream(link, TIMEOUT)
        self._batches = BatchedGets(link, inbox_prefix, TIMEOUT)
        self._door = ""
        """Where the bucket is written, once that is known."""

    async def read_all(self, streams: Sequence[str]) -> Mapping[str, Record]:
        """See ports.Notebook."""
        keys = [f"{kind}.{stream}" for stream in streams for kind in KINDS]
        found: dict[str, Record] = {}
        for start in range(0, len(keys), MOST_SUBJECTS):
            names = [PREFIX + key for key in keys[start : start + MOST_SUBJECTS]]
            request = {"multi_last": names, "batch": MOST_SUBJECTS}
            for message in (await self._batches.get(META_STREAM, request))[0]:
                found[message.key.decode().removeprefix(PREFIX)] = _record(message)
        return found

    async def read(self, key: str) -> Record:
        """See ports.Notebook."""
        try:
            answer = await self._js.call(f"STREAM.MSG.GET.{META_STREAM}", {"last_by_subj": PREFIX + key})
        except JetStreamError as error:
            if error.code == NOT_FOUND:
                return ABSENT
            raise StoreAway(f"{META_BUCKET}: {error}") from error
        said = answer["message"]
        lines = published(base64.b64decode(said.get("hdrs", "")))
        return _of(lines, base64.b64decode(said.get("data", "")), said["seq"])

    async def write(self, key: str, value: bytes, revision: int, epoch: str = "") -> bool:
        """See ports.Notebook."""
        lines = f"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: {revision}\r\n{EPOCH}: {epoch}\r\n\r\n"
        try:
            self._door = self._door or await find_door(self._js)
            _, payload = await self._js.ask(f"{self._door}.{key}", value, lines.encode())
            answer = msgspec.json.decode(payload, type=dict[str, Any])
        except (JetStreamError, msgspec.DecodeError) as error:
            self._door = ""  # the bucket may have been made anew
            raise StoreAway(f"{META_BUCKET} did not take {key} ({error})") from error
        refused = answer.get("error")
        if refused is None:
            return True
        if refused.get("err_code") in WRONG_SEQUENCE:
            return False
        raise StoreAway(f"{META_BUCKET} did not take {key} ({refused.get('description', '')})")


def _record(message: Message) -> Record:
    return _of(message.lines, message.data, message.sequence)


def _of(lines: bytes, data: bytes, revision: int) -> Record:
    epoch = _EPOCH.search(lines)
    value = b"" if _DELETED.search(lines) else data
    return Record(value, revision, epoch[1].decode(errors="replace") if epoch else "")
