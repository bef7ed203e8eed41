"""A NATS link for tests: patient but for its watchdog where that is wanted, a listener that notes what it hears, answers as awaitables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from tests.support.wait import PATIENCE
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import LinkOptions, LinkState

FAST = {"connect_timeout": 1.0, "watchdog_timeout": 3.0}
"""For links that are to leave a server which hangs, and not one that the machine held up for a second."""


class NotingListener:
    """Notes what the link tells, in order; `log` may be shared with message callbacks."""

    def __init__(self) -> None:
        """Begin with nothing heard."""
        self.log: list[str] = []

    def link_away(self) -> None:
        """Note it."""
        self.log.append("away")

    def link_back(self) -> None:
        """Note it."""
        self.log.append("back")

    def chunk_end(self) -> None:
        """Note it, once for any number in a row."""
        if not self.log or self.log[-1] != "chunk":
            self.log.append("chunk")

    def link_error(self, kind: str) -> None:
        """Note the kind."""
        self.log.append(f"error:{kind}")

    def heard(self, what: str) -> int:
        """How often."""
        return self.log.count(what)


class Received:
    """A message callback that keeps what it gets."""

    def __init__(self) -> None:
        """Begin empty."""
        self.messages: list[tuple[bytes, bytes, bytes, bytes]] = []

    def __call__(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        """Keep one message."""
        self.messages.append((subject, reply, header, payload))

    @property
    def payloads(self) -> list[bytes]:
        """The payloads alone."""
        return [message[3] for message in self.messages]


def options(*urls: str, **changes: object) -> LinkOptions:
    """Options whose watchdog looks often; FAST makes it impatient, too, which a busy machine may not stand."""
    base = LinkOptions(urls=urls, watchdog_interval=0.5, watchdog_timeout=PATIENCE)
    return msgspec.structs.replace(base, **changes)


@asynccontextmanager
async def started(
    *urls: str, listener: NotingListener | None = None, **changes: object
) -> AsyncIterator[tuple[NatsLink, NotingListener]]:
    """A connected link, closed at the end, and its listener."""
    listener = listener or NotingListener()
    link = NatsLink(options(*urls, **changes), listener)
    try:
        await link.start()
        yield link, listener
    finally:
        await link.close()
        assert link.state is LinkState.CLOSED


def settling(link: NatsLink, timeout: float = PATIENCE) -> asyncio.Future[bool]:
    """Set a barrier now; the future is its verdict."""
    verdict: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    link.barrier(verdict.set_result, timeout)
    return verdict


async def settled(link: NatsLink, timeout: float = PATIENCE) -> bool:
    """Whether the server has processed all that the link was given."""
    return await settling(link, timeout)


async def asked(
    link: NatsLink, subject: bytes, payload: bytes = b"", *, header: bytes = b"", timeout: float = PATIENCE
) -> tuple[bytes | None, bytes]:
    """The answer to a request: header and payload, (None, b"") when there was none."""
    answer: asyncio.Future[tuple[bytes | None, bytes]] = asyncio.get_running_loop().create_future()
    link.request(subject, payload, header, timeout, lambda head, body: answer.set_result((head, body)))
    return await answer
