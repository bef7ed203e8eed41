from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fakes.nats import FakeLink
from tidewire.history.adapters.batched_gets import BatchedGets
from tidewire.history.ports import StoreAway
from tidewire.platform.nats_types import LinkAway

SAID = b"\r\nNats-Stream: S\r\nNats-Subject: a\r\nNats-Sequence: %d\r\nNats-Time-Stamp: 2026-01-01T00:00:00Z\r\n\r\n"


async def asked(timeout: float = 5.0) -> tuple[FakeLink, asyncio.Future[Any]]:
    """A request that waits for its answers."""
    link: Any = FakeLink()
    gets = BatchedGets(link, "_INBOX_x", timeout)
    work = asyncio.ensure_future(gets.get("S", {}))
    await asyncio.sleep(0)
    return link, work


async def test_answers_until_the_last() -> None:
    """A publication that looks like a status is none: JetStream says where it is stored."""
    link, work = await asked()
    inbox = link.published[0].reply
    link.deliver(inbox, b"x", b"NATS/1.0" + SAID % 1)
    link.deliver(inbox, b"y", b"NATS/1.0 204 EOB\r\nTw-V: 1" + SAID % 2)
    link.deliver(inbox + b"9", b"", b"NATS/1.0 204 EOB\r\n\r\n")
    assert not work.done()
    link.deliver(inbox, b"", b"NATS/1.0 204 EOB\r\nNats-UpTo-Sequence: 7\r\n\r\n")
    link.deliver(inbox, b"late", b"NATS/1.0" + SAID % 3)
    messages, up_to = await work
    assert ([message.sequence for message in messages], up_to) == ([1, 2], 7)


async def test_nothing_is_an_answer() -> None:
    """404 is none found."""
    link, work = await asked()
    link.deliver(link.published[0].reply, b"", b"NATS/1.0 404 Message Not Found\r\n\r\n")
    assert await work == ([], 0)


@pytest.mark.parametrize(
    "header", [b"NATS/1.0 503\r\n\r\n", b"NATS/1.0 408 Bad Request\r\n\r\n", b"", b"NATS/1.0\r\nX: y\r\n\r\n"]
)
async def test_other_answers(header: bytes) -> None:
    """Are errors, never nothing."""
    link, work = await asked()
    link.deliver(link.published[0].reply, b"", header)
    with pytest.raises(StoreAway):
        await work


async def test_no_answer() -> None:
    """In time, or no link at all."""
    _, work = await asked(0.01)
    with pytest.raises(StoreAway, match=r"did not answer within 0\.01 s"):
        await work
    link: Any = FakeLink()
    link.fails["publish"] = LinkAway("away")
    with pytest.raises(StoreAway, match="away"):
        await BatchedGets(link, "_INBOX_x", 1.0).get("S", {})
