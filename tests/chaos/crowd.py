"""SDK clients that publish and read channels with history, and report everything to the checker."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Sequence

import msgspec

from tests.support.checker import Record, payload, record
from tests.support.continuity import Continuity
from tests.support.edges import token
from tests.support.node import Node, NodeClient, running_node
from tests.support.sdk import FORMATS, Event, SdkError
from tests.support.wait import eventually

CLIENTS_A_PROCESS = 50
CHAT = [f"chat:room-{number}" for number in range(4)]
"""Of a file profile: with positions and recovery."""
RAM = ["ram:ticker"]
"""Of a memory profile: no positions, but history."""
LONG = 150.0
"""Seconds for what takes some, on a machine with other work."""
PAGE = 500
PAGE_PAUSE = 0.3
UNRECOVERABLE = 112
NOT_STORED = "not stored"
"""In the text of an error it says for certain that there is no such publication."""


class Size(msgspec.Struct, frozen=True):
    """How many clients there are, and what they do."""

    readers: int
    writers: int
    channels_each: int = len(CHAT)
    """That a reader is subscribed to."""
    pause: int = 20
    """Milliseconds between two bursts of a writer."""
    burst: int = 1


class Crowd:
    """One in ten of the writers publishes to the channels in memory, and one in twenty of the readers pages through them."""

    def __init__(self, url: str, size: Size, log: Continuity) -> None:
        self._url = url
        self._size = size
        self._log = log
        self._numbers = itertools.count()
        self._writers: list[NodeClient] = []
        self._ended = 0
        self._live: set[tuple[str, str]] = set()
        self._wanted: set[tuple[str, str]] = set()
        self._paging: list[asyncio.Task[None]] = []
        self._said: dict[Record, float] = {}
        self._failures: dict[str, int] = {}
        self.outcomes = {"acknowledged": 0, "unknown": 0, "refused": 0}
        self.last_ack = 0.0
        self.longest_silence = 0.0
        """Seconds without any acknowledgement, over all writers."""
        self.farthest_behind = 0.0
        """Seconds between the first word of a publication, to anybody, and its delivery to a reader."""
        self.surprises: list[str] = []
        """What no fault excuses."""

    # From the beginning to the end.

    async def begin(self, nodes: Sequence[Node]) -> None:
        """Connect all, let the readers subscribe, then let the writers publish."""
        size = self._size
        pagers = max(1, size.readers // 20)
        readers = [await self._client(nodes) for _ in range(size.readers - pagers)]
        for number, reader in enumerate(readers):
            for step in range(size.channels_each):
                channel = CHAT[(number + step) % len(CHAT)]
                self._wanted.add((reader.name, channel))
                await reader.subscribe(channel, recoverable=True)
        for _ in range(pagers):
            pager = await self._client(nodes)
            self._paging += [asyncio.create_task(self._page(pager, channel)) for channel in RAM]
        await self.all_subscribed()
        self._writers = [await self._client(nodes) for _ in range(size.writers)]
        self.last_ack = time.monotonic()
        for number, writer in enumerate(self._writers):
            channels = CHAT if number % 10 else RAM
            channel = channels[number % len(channels)]
            await writer.stream(channel, writer.name, pause=size.pause, window=4, burst=size.burst)

    async def _client(self, nodes: Sequence[Node]) -> NodeClient:
        number = next(self._numbers)
        client = await nodes[number % len(nodes)].create(
            self._url,
            wire=FORMATS[number % 2],
            token=token(f"user-{number}"),
            name=f"client-{number}",
            maxReconnectDelay=2000,
            minReconnectDelay=50,
            timeout=5000,
        )
        client.on_event = lambda event: self._note(client.name, event)
        await client.connect()
        return client

    async def all_subscribed(self) -> None:
        """Wait until every reader is subscribed to all that it wants."""
        await eventually(lambda: self._live == self._wanted, LONG, "all subscriptions")

    async def end_writing(self) -> None:
        """Let each writer have its last answer."""
        for writer in self._writers:
            await writer.stop_streams()
        await eventually(lambda: self._ended == len(self._writers), LONG, "the last answers")

    async def end_reading(self) -> None:
        """Let all who page stop."""
        for task in self._paging:
            task.cancel()
        for result in await asyncio.gather(*self._paging, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    # How it goes.

    async def calm(self) -> None:
        """Wait until the mesh works again: there are new acknowledgements."""
        before = self.outcomes["acknowledged"]
        await eventually(lambda: self.outcomes["acknowledged"] >= before + 50, LONG, "acknowledgements again")

    async def silenced(self) -> None:
        """Wait, while nothing can be acknowledged, until no acknowledgement is on its way to us any more."""
        before = dict(self._failures)

        def all_failed() -> bool:
            return all(self._failures.get(each.name, 0) > before.get(each.name, 0) for each in self._writers)

        await eventually(all_failed, LONG, "a failure of each writer")

    # What becomes of publications.

    def acknowledged(self, sent: Record) -> None:
        """A publisher was told so."""
        now = time.monotonic()
        self.longest_silence = max(self.longest_silence, now - self.last_ack)
        self.last_ack = now
        self._said.setdefault(sent, now)
        self._log.acknowledged(sent)
        self.outcomes["acknowledged"] += 1

    def refused(self, sent: Record) -> None:
        """A publisher was told for certain that it is not stored."""
        self._log.refused(sent)
        self.outcomes["refused"] += 1

    def unknown(self) -> None:
        """A publisher was told nothing for certain."""
        self.outcomes["unknown"] += 1

    def _published(self, event: Event) -> None:
        sent = record(event.channel, payload(event.publisher, event.sequence))
        if event.code == 0:
            self.acknowledged(sent)
            return
        self._failures[event.publisher] = self._failures.get(event.publisher, 0) + 1
        if event.code >= 100 and (NOT_STORED in event.message or not event.temporary):
            self.refused(sent)
        else:
            self.unknown()

    # What readers see.

    def _note(self, name: str, event: Event) -> None:
        match event.event:
            case "publication":
                if not event.offset:
                    self.surprises.append(f"{name}: a publication without an offset in {event.channel}")
                self._received(name, event.channel, event.data, event.offset)
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

    def _received(self, name: str, channel: str, data: dict[str, object], offset: int) -> None:
        got = record(channel, data, offset=offset)
        now = time.monotonic()
        said = self._said.setdefault(got._replace(offset=0), now)
        self.farthest_behind = max(self.farthest_behind, now - said)
        self._log.received(name, got)

    async def _page(self, client: NodeClient, channel: str) -> None:
        """Page through a channel for ever. A page behind a position says that nothing is missing, as a recovery does."""
        place: tuple[int, str] | None = None
        while True:
            try:
                place = await self._next_page(client, channel, place)
            except SdkError as error:
                if error.code == UNRECOVERABLE:
                    self._log.unsubscribed(client.name, channel)
                    place = None
            await asyncio.sleep(PAGE_PAUSE)

    async def _next_page(
        self, client: NodeClient, channel: str, since: tuple[int, str] | None
    ) -> tuple[int, str]:
        page = await client.read_history(channel, since=since, limit=PAGE if since else 0)
        self._log.subscribed(client.name, channel, page.epoch, page.offset, recovered=since is not None)
        for each in page.publications:
            self._received(client.name, channel, each["data"], each["offset"])
        last = page.publications[-1]["offset"] if page.publications else None
        return last or (since[0] if since else page.offset), page.epoch


@contextlib.asynccontextmanager
async def node_processes(clients: int) -> AsyncIterator[list[Node]]:
    """Run as many Node processes as that many clients need."""
    async with contextlib.AsyncExitStack() as stack:
        count = max(2, -(-clients // CLIENTS_A_PROCESS))
        yield list(await asyncio.gather(*(stack.enter_async_context(running_node()) for _ in range(count))))
