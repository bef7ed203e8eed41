"""A disk quota that somebody else uses up: the account may have so much, and another stream takes all that is left."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from tests.chaos.mesh import account
from tests.support.links import started
from tests.support.nats_cluster import NatsCluster
from tests.support.wait import eventually
from tidewire.platform.jetstream import JetStream, JetStreamError

FILLER = "FILLER"
SUBJECT = "filler.x"
ROOM = 4 * 1024 * 1024
"""Bytes that are left when the quota begins to hold."""
LARGEST, SMALLEST = 256 * 1024, 64
"""Bytes of a message of the other stream: smaller and smaller ones, until none fits."""
LONG = 60.0


@contextlib.asynccontextmanager
async def filled(cluster: NatsCluster) -> AsyncIterator[None]:
    """Use the quota up until nothing fits any more, and give the room back in the end."""
    node = next(node for node in cluster.nodes if node.running)
    async with started(node.url) as (link, _):
        js = JetStream(link)
        await js.call(
            f"STREAM.CREATE.{FILLER}",
            {"name": FILLER, "subjects": [SUBJECT], "storage": "file", "num_replicas": len(cluster.nodes)},
        )
        used = (await js.call("INFO"))["storage"]
        cluster.reload(account(max_file=used + ROOM))
        try:
            await eventually(lambda: _fill(js), LONG, "a full disk")
            yield
        finally:
            await js.call(f"STREAM.DELETE.{FILLER}")
            cluster.reload(account())


async def _fill(js: JetStream) -> bool:
    """Fill up what is left; whether not even the smallest fits, since there was no room for anything."""
    size, stored = LARGEST, 0
    while size >= SMALLEST:
        try:
            _, answer = await js.ask(SUBJECT, b"x" * size)
        except JetStreamError:
            return False
        if b'"error"' in answer:
            size //= 2
        else:
            stored += 1
    return not stored
