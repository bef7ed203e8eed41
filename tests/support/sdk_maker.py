"""Creates clients of the official SDKs as they are installed, JavaScript and Python, JSON and Protobuf."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.support.node import Node, running_node
from tests.support.sdk import FORMATS, Make, SdkClient, Tokens
from tests.support.sdk_python import PythonClient

KINDS = [f"{language}-{wire}" for language in ("js", "python") for wire in FORMATS]


@contextlib.asynccontextmanager
async def maker(kind: str) -> AsyncIterator[Make]:
    """Yield a function that creates clients of one SDK and format, and end them all afterwards."""
    language, _, wire = kind.partition("-")
    clients: list[SdkClient] = []
    async with contextlib.AsyncExitStack() as stack:
        node: Node | None = None
        if language == "js":
            node = await stack.enter_async_context(running_node())

        async def make(url: str, *, token: str = "", tokens: Tokens = None) -> SdkClient:
            client: SdkClient
            if node is not None:
                client = await node.create(url, wire=wire, token=token, tokens=tokens)
            else:
                client = PythonClient(url, wire=wire, token=token, tokens=tokens)
            clients.append(client)
            return client

        try:
            yield make
        finally:
            for client in clients:
                await client.close()


@contextlib.asynccontextmanager
async def all_kinds() -> AsyncIterator[list[Make]]:
    """Yield a creating function for each SDK and format, for tests that wait for the clock and can do so at once."""
    async with contextlib.AsyncExitStack() as stack:
        makes = [await stack.enter_async_context(maker(kind)) for kind in KINDS]
        await asyncio.gather(*(make("ws://127.0.0.1:1/") for make in makes))  # so that all have started up
        yield makes
