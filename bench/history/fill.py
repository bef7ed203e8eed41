"""Publications into streams, pipelined: what channels hold before it is measured."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from bench.load.servers import PREFIX
from tests.support.edges import PARTITIONS
from tests.support.links import started
from tidewire.kernel.subjects import in_subject

WINDOW = 1_024
HEADER = b'NATS/1.0\r\nTw-V: 1\r\nTw-Time: 1800000000000000\r\nTw-Info: {"user":"42","client":"c"}\r\n\r\n'
"""As an edge writes it."""


def channels(count: int, times: int = 1) -> Iterator[str]:
    """Yield so many channels' names, all of them so often."""
    for _ in range(times):
        for number in range(count):
            yield f"{PREFIX}{number}"


async def fill(url: str, names: Iterable[str], payload: bytes, header: bytes = HEADER) -> int:
    """Publish once to each channel that is named; return how many publications JetStream acknowledged.

    Raises:
        RuntimeError: JetStream refused one.
    """
    async with started(url, max_pending=1 << 28) as (link, _):
        inbox, room, acked = b"_INBOX.fill.", asyncio.Semaphore(WINDOW), 0
        refused: list[bytes] = []

        def answered(_subject: bytes, _reply: bytes, _header: bytes, answer: bytes) -> None:
            nonlocal acked
            acked += 1
            if b'"error"' in answer:
                refused.append(answer)
            room.release()

        link.subscribe(inbox + b"*", answered)
        for name in names:
            await room.acquire()
            link.publish(in_subject(name, PARTITIONS), payload, header, inbox + b"1")
        for _ in range(WINDOW):
            await room.acquire()
    if refused:
        raise RuntimeError(f"{len(refused)} were refused, first {refused[0]!r}")
    return acked
