"""Asks JetStream, with the user of the configuration, for what namespaces with history need; nothing there is changed."""

from __future__ import annotations

import asyncio
from typing import Final

from tidewire.doctor.facts import StorageFacts
from tidewire.edge.config import EdgeConfig
from tidewire.kernel.errors import TidewireError
from tidewire.options.stored import stored
from tidewire.platform.jetstream import JetStream
from tidewire.platform.meta import read_meta, verify
from tidewire.storage.migration import linked, may_migrate, orders, prepare
from tidewire.storage.report import lines

TIMEOUT: Final = 20.0
"""Seconds for all questions."""


async def read_storage(config: EdgeConfig) -> StorageFacts:
    """Return the facts; none where no namespace has history, since nothing is needed then."""
    namespaces = stored(config)
    if not namespaces:
        return StorageFacts()
    names = tuple(sorted(namespaces))
    try:
        async with asyncio.timeout(TIMEOUT), linked(config.nats, "tidewire-doctor") as link:
            js = JetStream(link)
            differing = tuple(verify(await read_meta(js), config.nats.partitions, namespaces))
            if not await may_migrate(link):
                return StorageFacts(namespaces=names, differing=differing)
            plan = (await prepare(js, config, orders())).plan
    except TimeoutError:
        return StorageFacts(
            namespaces=names, problem=f"JetStream did not answer every question within {TIMEOUT:g} s"
        )
    except TidewireError as error:
        return StorageFacts(namespaces=names, problem=str(error))
    return StorageFacts(namespaces=names, differing=differing, work=tuple(lines(plan.work)))
