"""Reads from JetStream what a plan needs to know: from the leaders, since followers may be late."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any, Final

from tidewire.kernel.errors import TidewireError
from tidewire.kernel.meta import Held, decode_meta
from tidewire.kernel.streams import META_STREAM, captured, parts_of
from tidewire.platform.jetstream import STREAM_NOT_FOUND, JetStream, JetStreamError
from tidewire.platform.meta import LAYOUT_SUBJECT
from tidewire.storage.found import Found, Stream
from tidewire.storage.wanted import StreamConfig, Wanted

NO_MESSAGE: Final = 10037


class StorageError(TidewireError):
    """JetStream does not let the streams be as they should; the message says which and why."""


async def read_cluster(js: JetStream, wanted: Wanted) -> Found:
    """Return what is there.

    Raises JetStreamError where JetStream does not answer, StorageError where it knows of streams that do not, MetaError
    for a record that cannot be understood.
    """
    infos = {info["config"]["name"]: info async for info in _streams(js)}
    bucket: StreamConfig | None = infos[META_STREAM]["config"] if META_STREAM in infos else None
    held = None if bucket is None else await read_leader(js)
    streams = {
        name: await _stream(js, info, wanted)
        for name, info in sorted(infos.items(), key=lambda item: parts_of(item[0]) or ("", 0))
        if parts_of(name) is not None
    }
    return Found(streams, bucket, held)


async def read_leader(js: JetStream) -> Held | None:
    """Return the record from the one server that knows the newest. None: there is none."""
    message = await _last(js, META_STREAM, LAYOUT_SUBJECT)
    if message is None:
        return None
    return Held(decode_meta(b64decode(message.get("data", ""))), int(message["seq"]))


async def _streams(js: JetStream) -> AsyncIterator[dict[str, Any]]:
    offset = 0
    while True:
        page = await js.call("STREAM.LIST", {"offset": offset})
        silent = [*(page.get("missing") or ()), *(page.get("offline") or ())]
        if silent:
            raise StorageError(
                f"{', '.join(sorted(silent)[:3])}: no leader; wait until all NATS servers are up"
            )
        streams = page.get("streams") or []
        for info in streams:
            yield info
        offset += len(streams)
        if not streams or offset >= page["total"]:
            return


async def _stream(js: JetStream, info: dict[str, Any], wanted: Wanted) -> Stream:
    config: StreamConfig = info["config"]
    stream = Stream(config, info["state"]["messages"])
    profile, partition = parts_of(config["name"]) or ("", 0)
    foreign = (stream.tokens | stream.left) - wanted.tokens(profile)
    if not stream.messages:
        return stream
    holds = [
        token for token in foreign if await _last(js, config["name"], captured(token, partition)) is not None
    ]
    return Stream(config, stream.messages, frozenset(holds))


async def _last(js: JetStream, stream: str, subject: str) -> dict[str, Any] | None:
    try:
        answer = await js.call(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    except JetStreamError as error:
        if error.err_code in (NO_MESSAGE, STREAM_NOT_FOUND):
            return None
        raise
    found: dict[str, Any] = answer["message"]
    return found
