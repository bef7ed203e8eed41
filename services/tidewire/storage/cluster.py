"""Reads from JetStream what a plan needs to know: from the leaders, since followers may be late."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from tidewire.kernel.errors import TidewireError
from tidewire.kernel.meta import Held, decode_meta
from tidewire.kernel.streams import META_STREAM, captured, parts_of
from tidewire.platform.jetstream import (
    STREAM_NOT_FOUND,
    JetStream,
    JetStreamError,
    NoJetStream,
    NoLeaderError,
    UnansweredError,
    said_by_leader,
)
from tidewire.platform.meta import LAYOUT_SUBJECT
from tidewire.storage.found import Found, Stream
from tidewire.storage.wanted import StreamConfig, Wanted

NO_MESSAGE: Final = 10037
AT_ONCE: Final = 32
"""Questions on their way at the same time."""
TRIES: Final = 3
"""How often JetStream is asked for the same: while a cluster has no leader it drops what it is asked, without an answer."""

ELECTION_PAUSE: Final = 5.0
"""Seconds before a stream that elects its leader is asked again."""


class StorageError(TidewireError):
    """JetStream does not let the streams be as they should; the message says which and why."""


async def ask(
    js: JetStream,
    name: str,
    request: object = None,
    before_again: Callable[[], Awaitable[None]] | None = None,
) -> dict[str, Any]:
    """Return JetStream's answer to what can be asked twice. Raises what `JetStream.call` raises."""
    for _ in range(TRIES - 1):
        try:
            return await js.call(name, request)
        except UnansweredError:
            if before_again is not None:
                await before_again()
    return await js.call(name, request)


async def read_cluster(js: JetStream, wanted: Wanted) -> Found:
    """Return what is there.

    Raises JetStreamError where JetStream does not answer, StorageError where it knows of streams that do not, MetaError
    for a record that cannot be understood.
    """
    try:
        infos = {info["config"]["name"]: info for info in await _streams(js)}
    except NoJetStream:
        if wanted.namespaces:
            raise
        return Found({}, None, None)
    bucket: StreamConfig | None = infos[META_STREAM]["config"] if META_STREAM in infos else None
    held = None if bucket is None else await read_leader(js)
    streams = {
        name: await _stream(js, info, wanted)
        for name, info in sorted(infos.items(), key=lambda item: parts_of(item[0]) or ("", 0))
        if name != META_STREAM
    }
    return Found(streams, bucket, held)


async def read_leader(js: JetStream) -> Held | None:
    """Return the record from the one server that knows the newest. None: there is none."""
    message = await _last(js, META_STREAM, LAYOUT_SUBJECT)
    if message is None:
        return None
    return Held(decode_meta(b64decode(message.get("data", ""))), int(message["seq"]))


async def _streams(js: JetStream) -> list[dict[str, Any]]:
    """Return what STREAM.INFO says of the bucket and of each stream of ours.

    One by one: STREAM.LIST answers with hundreds of them in one message, which may be longer than max_payload.
    """
    names = [name async for name in _names(js) if name == META_STREAM or parts_of(name) is not None]
    infos: list[dict[str, Any] | None] = []
    for start in range(0, len(names), AT_ONCE):
        infos += await asyncio.gather(*(_info(js, name) for name in names[start : start + AT_ONCE]))
    return [info for info in infos if info is not None]


async def _names(js: JetStream) -> AsyncIterator[str]:
    offset = 0
    while True:
        page = await ask(js, "STREAM.NAMES", {"offset": offset})
        names = page.get("streams") or []
        for name in names:
            yield name
        offset += len(names)
        if not names or offset >= page["total"]:
            return


async def _info(js: JetStream, name: str) -> dict[str, Any] | None:
    try:
        return await _led_info(js, f"STREAM.INFO.{name}")
    except JetStreamError as error:
        if error.err_code == STREAM_NOT_FOUND:
            return None  # somebody deletes it at this moment
        raise StorageError(f"{name}: {error}: are all NATS servers up?") from error


async def _led_info(js: JetStream, name: str) -> dict[str, Any]:
    """Return what the leader says: another copy may be empty, and a stream that looks so may be deleted."""
    for _ in range(TRIES - 1):
        try:
            return said_by_leader(await ask(js, name))
        except NoLeaderError:
            await asyncio.sleep(ELECTION_PAUSE)
    return said_by_leader(await ask(js, name))


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
        answer = await ask(js, f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    except JetStreamError as error:
        if error.err_code in (NO_MESSAGE, STREAM_NOT_FOUND):
            return None
        raise
    found: dict[str, Any] = answer["message"]
    return found
