"""One migration from a configuration: connect, read, plan, carry out."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from tidewire.kernel.meta import Held
from tidewire.options.nats_options import NatsConfig, link_options
from tidewire.platform.jetstream import JetStream
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import DeafListener
from tidewire.storage.apply import Tell, apply
from tidewire.storage.cluster import StorageError, read_cluster
from tidewire.storage.plan import Orders, make_plan
from tidewire.storage.steps import Plan
from tidewire.storage.wanted import Deployment, wanted

ANSWER: Final = 10.0
"""Seconds that JetStream may take for one question: a stream of three replicas needs an election."""
ENTITLED: Final = "$JS.API.STREAM.NAMES"
"""What only the user of migrations may ask."""
SECRET_BYTES: Final = 32


class Migration(msgspec.Struct, frozen=True):
    """A plan, and the record that it was made from."""

    plan: Plan
    held: Held | None

    async def carry_out(self, js: JetStream, tell: Tell) -> None:
        """Do what the plan says, as `apply`."""
        await apply(js, self.plan.work, self.held, tell)


@asynccontextmanager
async def linked(nats: NatsConfig, name: str) -> AsyncIterator[NatsLink]:
    """Yield a connection of its own. Raises LinkError where NATS cannot be used."""
    link = NatsLink(msgspec.structs.replace(link_options(nats, ""), name=name), DeafListener())
    try:
        await link.start()
        yield link
    finally:
        await link.close()


@asynccontextmanager
async def connected(nats: NatsConfig) -> AsyncIterator[JetStream]:
    """Yield JetStream for a migration. Raises LinkError, and StorageError for a user who may not migrate."""
    async with linked(nats, "tidewire-migrate") as link:
        if not await may_migrate(link):
            raise StorageError(
                f"NATS user {nats.user!r} may not use {ENTITLED}: give that of `tidewire nats-config --migrate-user`"
            )
        yield JetStream(link, ANSWER)


async def may_migrate(link: NatsLink) -> bool:
    """Return whether the user has the right: the server would only leave its questions without an answer."""
    verdict: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    link.publish(ENTITLED.encode(), b"")
    link.barrier(verdict.set_result, ANSWER)
    return await verdict or ENTITLED.lower() not in str(link.last_error).lower()


async def prepare(js: JetStream, config: Deployment, orders: Orders) -> Migration:
    """Return what is to be done. Raises what `read_cluster` raises."""
    target = wanted(config)
    found = await read_cluster(js, target)
    return Migration(make_plan(target, found, orders), found.held)


def orders(*, moves: Iterable[str] = (), renewed: Iterable[str] = (), settle: float | None = None) -> Orders:
    """Return orders given now."""
    return Orders(
        secret=secrets.token_hex(SECRET_BYTES),
        now=time.time_ns() // 1_000_000,
        moves=frozenset(moves),
        renewed=frozenset(renewed),
        settle=settle,
    )
