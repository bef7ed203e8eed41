"""What the streams hold, read from JetStream itself: the truth that everybody's log is compared with."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

from tests.chaos.mesh import PARTITIONS, ChaosMesh
from tests.support.checker import record
from tests.support.continuity import Continuity
from tests.support.links import started
from tidewire.kernel.streams import GENERATION, META_STREAM, META_SUBJECT, epoch_of
from tidewire.kernel.subjects import channel_of
from tidewire.platform.jetstream import JetStream, JetStreamError

AT_ONCE = 200
"""Messages that are asked for together."""
NOT_FOUND = 10037
TRIES = 5


async def tell_stored(mesh: ChaosMesh, log: Continuity, profile: str = "") -> int:
    """Tell the log all that the streams (of a profile) hold, and return how much that is."""
    node = next(node for node in mesh.cluster.nodes if node.running)
    count = 0
    async with started(node.url) as (link, _):
        js = JetStream(link, timeout=10)
        for stream in mesh.streams:
            if stream.startswith(f"TW_{profile}"):
                count += await _tell(js, stream, log)
    return count


async def _tell(js: JetStream, stream: str, log: Continuity) -> int:
    info = await js.call(f"STREAM.INFO.{stream}")
    generation = int(info["config"]["metadata"].get(GENERATION, "0"))
    epoch = epoch_of(stream, info["created"], generation, await _nonce(js, stream))
    messages = await _messages(js, stream, info["state"])
    for message in messages:
        channel = channel_of(message["subject"].encode(), PARTITIONS)
        assert channel is not None
        data = json.loads(base64.b64decode(message["data"]))
        log.stored(record(channel, data, epoch=epoch, offset=message["seq"]))
    return len(messages)


async def _nonce(js: JetStream, stream: str) -> str:
    """What the history service has noted of a stream that went back; "" where it has not."""
    found = await _message(js, META_STREAM, {"last_by_subj": f"{META_SUBJECT}.nonce.{stream}"})
    return base64.b64decode(found.get("data", "")).decode() if found else ""


async def _messages(js: JetStream, stream: str, state: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    wanted = range(max(1, state["first_seq"]), state["last_seq"] + 1)
    for first in wanted[::AT_ONCE]:
        some = range(first, min(first + AT_ONCE, wanted.stop))
        answers = await asyncio.gather(*(_message(js, stream, {"seq": number}) for number in some))
        found += [each for each in answers if each is not None]
    return found


async def _message(js: JetStream, stream: str, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """Return a message; None where there is none. What fails otherwise is asked again."""
    for left in reversed(range(TRIES)):
        try:
            answer: dict[str, Any] = (await js.call(f"STREAM.MSG.GET.{stream}", wanted))["message"]
            return answer
        except JetStreamError as error:
            if error.err_code == NOT_FOUND:
                return None
            if not left:
                raise
    return None
