"""SDK clients that publish and read channels with history, and report everything to the checker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from tests.support.checker import payload, record
from tests.support.continuity import Continuity
from tests.support.edges import token
from tests.support.node import Node, NodeClient, running_node
from tests.support.sdk import FORMATS, Event
from tests.support.wait import eventually

CLIENTS_A_PROCESS = 50
SDK_SECONDS = 10
"""The SDK itself gives up on a command after 5 s; then its outcome is unknown."""


class Crowd:
    """`readers` clients on all `channels`, and `writers` more, each of which publishes on one of them."""

    def __init__(self, url: str, channels: Sequence[str], log: Continuity) -> None:
        self._url = url
        self._channels = channels
        self._log = log
        self._clients: list[NodeClient] = []
        self._writers: list[NodeClient] = []
        self._ended = 0
        self._live: set[tuple[str, str]] = set()
        self.outcomes = {"acknowledged": 0, "unknown": 0, "refused": 0}
        self.last_ack = 0.0
        self.longest_gap = 0.0
        """Seconds without any acknowledgement, over all writers."""
        self.surprises: list[str] = []
        """What no fault excuses."""

    async def begin(
        self, nodes: Sequence[Node], readers: int, writers: int, *, pause: int, window: int
    ) -> None:
        """Connect all, let the readers subscribe, then let the writers publish."""
        for number in range(readers + writers):
            client = await nodes[number % len(nodes)].create(
                self._url,
                wire=FORMATS[number % 2],
                token=token(f"user-{number}"),
                name=f"client-{number}",
                maxReconnectDelay=2000,
                minReconnectDelay=50,
                timeout=5000,
            )
            client.on_event = lambda event, name=client.name: self._note(name, event)
            self._clients.append(client)
            await client.connect()
        for reader in self._clients[:readers]:
            for channel in self._channels:
                await reader.subscribe(channel, recoverable=True)
        await eventually(lambda: len(self._live) == readers * len(self._channels), 120, "all subscriptions")
        self._writers = self._clients[readers:]
        self.last_ack = time.monotonic()
        for number, writer in enumerate(self._writers):
            channel = self._channels[number % len(self._channels)]
            await writer.stream(channel, writer.name, pause=pause, window=window)

    async def end_writing(self) -> None:
        """Let each writer have its last answer."""
        for writer in self._writers:
            await writer.stop_streams()
        await eventually(lambda: self._ended == len(self._writers), 60, "the last answers")

    async def all_subscribed(self, readers: int) -> None:
        """Wait until every reader is subscribed everywhere."""
        await eventually(
            lambda: len(self._live) == readers * len(self._channels), 120, "all subscriptions, again"
        )

    def _note(self, name: str, event: Event) -> None:
        match event.event:
            case "publication":
                offset = event.offset
                if not offset:
                    self.surprises.append(f"{name}: a publication without an offset in {event.channel}")
                self._log.received(name, record(event.channel, event.data, offset=offset))
            case "subscribed":
                self._live.add((name, event.channel))
                self._log.subscribed(
                    name, event.channel, event.epoch, event.offset, recovered=event.recovered
                )
            case "subscribing":
                self._live.discard((name, event.channel))
            case "unsubscribed":
                self._live.discard((name, event.channel))
                self._log.unsubscribed(name, event.channel)
                self.surprises.append(
                    f"{name}: unsubscribed from {event.channel}: {event.code} {event.reason}"
                )
            case "disconnected":
                self.surprises.append(f"{name}: disconnected for good: {event.code} {event.reason}")
            case "published":
                self._published(event)
            case "stream_ended":
                self._ended += 1

    def _published(self, event: Event) -> None:
        sent = record(event.channel, payload(event.publisher, event.sequence))
        if event.code == 0:
            now = time.monotonic()
            self.longest_gap = max(self.longest_gap, now - self.last_ack)
            self.last_ack = now
            self._log.acknowledged(sent)
            outcome = "acknowledged"
        elif event.code < 100 or event.temporary:
            outcome = "unknown"
        else:
            self._log.refused(sent)
            outcome = "refused"
        self.outcomes[outcome] += 1


@contextlib.asynccontextmanager
async def node_processes(clients: int) -> AsyncIterator[list[Node]]:
    """Run as many Node processes as that many clients need."""
    async with contextlib.AsyncExitStack() as stack:
        count = max(2, -(-clients // CLIENTS_A_PROCESS))
        yield list(await asyncio.gather(*(stack.enter_async_context(running_node()) for _ in range(count))))
