"""What can happen to the edge that holds a herd: it dies, it is drained, it dies and is started again at its port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from tests.support.checker import Checker
from tests.support.edges import Config, EdgeProcess, edge_config, merged
from tests.support.herd import Comeback, Herd

DRAIN_WINDOW = 5
SETTINGS: Config = {
    "client": {"connection_limit": 15_000},
    "drain": {"delay": 0, "window": DRAIN_WINDOW},
}


async def comebacks(
    folder: Path, nats_url: str, herd: Herd, size: int, checker: Checker, changes: Config | None = None
) -> AsyncIterator[Comeback]:
    """Bring a herd of `size` clients to an edge, then cut them all in one way after the other.

    Each time a publication made after all are back goes to everyone.
    """
    config = edge_config(nats_url, merged(SETTINGS, changes or {}))

    async def start(name: str, port: int = 0) -> EdgeProcess:
        edge = EdgeProcess(folder, merged(config, {"http": {"port": port}}), name=name)
        edges.append(edge)
        return await asyncio.to_thread(edge.start)

    edges: list[EdgeProcess] = []
    try:
        first, second = await start("first"), await start("second")
        await herd.aim(first)
        await herd.begin(size)

        async def kill() -> EdgeProcess:
            first.kill()
            return second

        await herd.aim(first, second)
        yield await herd.comeback("kill -9", kill, since=second)
        await herd.hears(second, checker)

        third = await start("third")

        async def drain() -> EdgeProcess:
            second.terminate()
            return third

        await herd.aim(third)
        yield await herd.comeback(f"drain over {DRAIN_WINDOW} s", drain, since=third)
        await herd.hears(third, checker)

        async def restart() -> EdgeProcess:
            third.kill()
            return await start("fourth", third.port)

        yield await herd.comeback("kill -9 and start again", restart)
        await herd.hears(edges[-1], checker)
    finally:
        for edge in edges:
            edge.kill()
