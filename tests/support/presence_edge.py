"""An edge that a test plays: it announces on NATS what the test says, answers questions, beats, and can lose, lie and die."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from typing import Any, Self

from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.support.nats_client import connected
from tidewire.kernel.presence_wire import (
    HEARTBEAT,
    Ask,
    Bye,
    Change,
    Chunk,
    Connected,
    Delta,
    Disconnected,
    Heartbeat,
    Joined,
    Left,
    Occupied,
    PartitionState,
    Vacated,
    encode,
    reader,
    user_partition,
)
from tidewire.kernel.subjects import encode_channel, partition_of
from tidewire.platform.tasks import ended

ENTRIES = 500
"""Of one chunk."""


class Truth:
    """What an edge has in one partition."""

    def __init__(self) -> None:
        self.last = 0
        self.members: dict[tuple[str, str], Joined] = {}
        self.users: dict[tuple[str, str], Connected] = {}
        self.channels: dict[str, Occupied] = {}

    def take(self, changes: Iterable[Change]) -> None:
        """Take changes, and count them."""
        for change in changes:
            self.last += 1
            match change:
                case Joined():
                    self.members[change.channel, change.client] = change
                case Left():
                    self.members.pop((change.channel, change.client), None)
                case Connected():
                    self.users[change.user, change.client] = change
                case Disconnected():
                    self.users.pop((change.user, change.client), None)
                case Occupied():
                    self.channels[change.channel] = change
                case Vacated():
                    self.channels.pop(change.channel, None)

    @property
    def entries(self) -> list[Change]:
        """What a snapshot holds."""
        return [*self.members.values(), *self.users.values(), *self.channels.values()]

    def state(self, partition: int) -> PartitionState:
        """What a heartbeat says."""
        counts = map(len, (self.members, self.users, self.channels))
        return PartitionState(partition, self.last, *counts)

    def chunks(self, edge: str, incarnation: int, partition: int, entries: int = ENTRIES) -> list[Chunk]:
        """A snapshot."""
        found = self.entries
        parts = [tuple(found[start : start + entries]) for start in range(0, len(found), entries)] or [()]
        return [
            Chunk(1, incarnation, edge, partition, self.last, index, index == len(parts) - 1, part)
            for index, part in enumerate(parts)
        ]


class ScriptedEdge:
    """One life of an edge on a NATS connection."""

    def __init__(self, client: Client, name: str, incarnation: int = 1, partitions: int = 2) -> None:
        self.client = client
        self.name = name
        self.incarnation = incarnation
        self.partitions = partitions
        self.truth: defaultdict[int, Truth] = defaultdict(Truth)
        self.asked = 0
        self.answering = True
        self.losing = False
        """Whether what it announces does not arrive."""
        self._subscription: Any = None
        self._beating: asyncio.Task[None] | None = None

    async def start(self) -> Self:
        """Begin to beat and to answer."""
        self._subscription = await self.client.subscribe(f"tw.pres.s.{self.name}", cb=self._on_ask)
        self._hello = await self.client.subscribe("tw.pres.s.all", cb=self._on_hello)
        await self.beat()
        self._beating = asyncio.create_task(self._beat())
        return self

    async def freeze(self) -> None:
        """Say nothing more, like a process that was killed."""
        if self._beating is not None:
            await ended([self._beating])
            self._beating = None
        self.answering = False

    async def thaw(self) -> None:
        """Go on."""
        self.answering = True
        await self.beat()
        self._beating = asyncio.create_task(self._beat())

    async def bye(self) -> None:
        """End in order."""
        await self.freeze()
        await self.publish(f"tw.pres.h.{self.name}", Bye(1, self.incarnation))

    def partition(self, channel: str) -> int:
        """That of a channel."""
        return partition_of(encode_channel(channel), self.partitions)

    async def announce(self, partition: int, *changes: Change) -> None:
        """Say something on a partition."""
        truth = self.truth[partition]
        first = truth.last + 1
        truth.take(changes)
        if not self.losing:
            delta = Delta(1, self.incarnation, first, changes)
            await self.publish(f"tw.pres.d.{partition}.{self.name}", delta)

    async def join(self, channel: str, *clients: str, user: str = "", info: bytes = b"") -> None:
        """Connections subscribe; by default each is its own user's."""
        here = self.partition(channel)
        changes: list[Change] = [Joined(channel, each, user or f"u-{each}", info) for each in clients]
        await self.announce(here, *self._first(channel, here), *changes)

    async def leave(self, channel: str, *clients: str) -> None:
        """They leave."""
        here = self.partition(channel)
        await self.announce(here, *(Left(channel, each) for each in clients))
        if not any(name == channel for name, _ in self.truth[here].members):
            await self.announce(here, Vacated(channel))

    async def connect(self, user: str, client: str, since_ms: int = 1) -> None:
        """A user's connection is there."""
        await self.announce(user_partition(user, self.partitions), Connected(user, client, since_ms))

    async def disconnect(self, user: str, client: str, at_ms: int) -> None:
        """It is gone."""
        await self.announce(user_partition(user, self.partitions), Disconnected(user, client, at_ms))

    async def beat(self) -> None:
        """Give a sign of life."""
        states = tuple(truth.state(partition) for partition, truth in self.truth.items() if truth.last)
        await self.publish(f"tw.pres.h.{self.name}", Heartbeat(1, self.incarnation, states))

    async def publish(self, subject: str, message: object, reply: str = "") -> None:
        """Say whatever a test likes."""
        payload = message if isinstance(message, bytes) else encode(message)
        await self.client.publish(subject, payload, reply=reply)
        await self.client.flush()

    def _first(self, channel: str, partition: int) -> list[Change]:
        return [] if channel in self.truth[partition].channels else [Occupied(channel)]

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            with contextlib.suppress(Exception):
                await self.beat()

    async def _on_hello(self, _message: Msg) -> None:
        if self.answering:
            await self.beat()

    async def _on_ask(self, message: Msg) -> None:
        if not self.answering:
            return
        ask = reader(Ask).decode(message.data)
        self.asked += 1
        for partition in ask.partitions or tuple(self.truth):
            for chunk in self.truth[partition].chunks(self.name, self.incarnation, partition):
                await self.publish(message.reply, chunk)


@contextlib.asynccontextmanager
async def scripted_edge(url: str, name: str, **options: Any) -> AsyncIterator[ScriptedEdge]:
    """Yield an edge that lives; afterwards it is silent."""
    async with connected(url, max_reconnect_attempts=-1) as client:
        edge = await ScriptedEdge(client, name, **options).start()
        try:
            yield edge
        finally:
            await edge.freeze()
