"""The streams that an edge's configuration asks for, as a migration would leave them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from tests.support.links import started
from tests.support.storage import bucket
from tidewire.edge.config import EdgeConfig
from tidewire.kernel.config import decode
from tidewire.platform.jetstream import JetStream, JetStreamError
from tidewire.platform.meta import Meta, read_held, write_meta
from tidewire.storage.cluster import NO_MESSAGE
from tidewire.storage.wanted import wanted

SECRET = "5e" * 32
IN_TIME = 4.0
"""Seconds within which an edge answers a publication, whatever JetStream does; the SDKs give up after 5."""


async def create_streams(url: str, config: Mapping[str, Any], **changes: Any) -> None:
    """Create all streams, with `changes` of JetStream's own settings, and the record; whatever exists is an error."""
    plan = wanted(decode(EdgeConfig, dict(config)))
    async with started(url) as (link, _):
        js = JetStream(link, timeout=60)
        await bucket(js, plan.replicas)
        meta = Meta(partitions=plan.partitions, namespaces=plan.namespaces, secret=SECRET)
        await write_meta(js, meta, 0)
        for name, stream in plan.streams.items():
            await js.call(f"STREAM.CREATE.{name}", {**stream, **changes})


async def move(url: str, *moving: str) -> None:
    """Say in the record that these namespaces are being moved."""
    async with started(url) as (link, _):
        js = JetStream(link)
        held = await read_held(js)
        assert held is not None
        meta = Meta(
            partitions=held.meta.partitions,
            namespaces=held.meta.namespaces,
            secret=held.meta.secret,
            moving=moving,
        )
        await write_meta(js, meta, held.sequence)


async def stored(url: str, stream: str) -> list[tuple[bytes, bytes, bytes]]:
    """All messages of a stream, oldest first: subject, header block, data.

    One whose lifetime ends between the question for the bounds and its read is not among them.
    """
    async with started(url) as (link, _):
        js = JetStream(link)
        state = (await js.call(f"STREAM.INFO.{stream}"))["state"]
        found = []
        for sequence in range(max(1, state["first_seq"]), state["last_seq"] + 1):
            try:
                message = (await js.call(f"STREAM.MSG.GET.{stream}", {"seq": sequence}))["message"]
            except JetStreamError as error:
                if error.err_code != NO_MESSAGE:
                    raise
                continue
            parts = (base64.b64decode(message.get(name, "")) for name in ("hdrs", "data"))
            found.append((message["subject"].encode(), *parts))
    return found
