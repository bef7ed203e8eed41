"""The official JavaScript SDK in a Node process of the test's own, driven through its standard input and output."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from tests.support.sdk import Event, Json, OnEvent, SdkError

SCRIPT = Path(__file__).parent / "node_client" / "client.mjs"
OLDEST = 20
CALL_TIMEOUT = 20.0
"""Seconds; the SDK itself gives up on a command after 5."""
LINE_LIMIT = 4 * 1024 * 1024


@cache
def program() -> str:
    """Return a Node of version 20 or newer: the system's, else the one that the wheel puts beside this Python."""
    beside = Path(sys.executable).with_name("node")
    for found in (shutil.which("node"), str(beside) if beside.is_file() else None):
        if found is not None and _version(found) >= OLDEST:
            return found
    raise RuntimeError(f"Node {OLDEST} or newer is missing: run `make setup`")


def _version(node: str) -> int:
    try:
        shown = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=10, check=True)
        return int(shown.stdout.lstrip("v").partition(".")[0])
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0


class Node:
    """One Node process with any number of clients. Belongs to one event loop; use `running_node`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)
        self.clients: dict[str, NodeClient] = {}
        self._reading = asyncio.create_task(self._read())

    async def create(
        self,
        url: str,
        *,
        wire: str = "json",
        token: str = "",
        tokens: Sequence[str] | None = None,
        name: str = "",
        **options: object,
    ) -> NodeClient:
        """Create a client, not connected yet; `options` are the SDK's own, times in milliseconds."""
        name = name or f"js-{len(self.clients) + 1}"
        client = self.clients[name] = NodeClient(self, name)
        await client.ask("create", url=url, format=wire, token=token, tokens=tokens, options=options)
        return client

    async def ask(self, op: str, **fields: object) -> Json:
        """Have an operation performed and return its result. Raises SdkError."""
        number = next(self._numbers)
        future = self._calls[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode({"call": number, "op": op, **fields}) + b"\n")
        async with asyncio.timeout(CALL_TIMEOUT):
            return await future

    async def close(self) -> None:
        """End the process; its clients vanish with it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await asyncio.wait({self._reading}, timeout=5)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await self._process.stdin.wait_closed()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        decode = msgspec.json.Decoder(_Line).decode
        decode_event = msgspec.json.Decoder(Event).decode
        while line := await self._process.stdout.readline():
            message = decode(line)
            if message.client:
                self.clients[message.client].note(decode_event(line))
                continue
            future = self._calls.pop(message.call)
            if future.done():
                continue
            if message.error is not None:
                error = message.error
                future.set_exception(SdkError(error.code, error.message, temporary=error.temporary))
            else:
                future.set_result(message.result)
        for future in self._calls.values():
            if not future.done():
                future.set_exception(RuntimeError("the Node process is gone"))


class NodeClient:
    """One client of the JavaScript SDK; see `sdk.SdkClient`."""

    def __init__(self, node: Node, name: str) -> None:
        self._node = node
        self.name = name
        self.events: list[Event] = []
        self.on_event: OnEvent | None = None

    def note(self, event: Event) -> None:
        """Keep an event, or pass it on."""
        if self.on_event is None:
            self.events.append(event)
        else:
            self.on_event(event)

    async def ask(self, op: str, **fields: object) -> Json:
        """Have an operation performed for this client."""
        return await self._node.ask(op, client=self.name, **fields)

    async def connect(self) -> None:
        """See SdkClient."""
        await self.ask("connect")

    async def disconnect(self) -> None:
        """See SdkClient."""
        await self.ask("disconnect")

    async def close(self) -> None:
        """See SdkClient; the rest goes with the process."""
        await self.disconnect()

    async def subscribe(
        self, channel: str, *, token: str = "", tokens: Sequence[str] | None = None, quiet: bool = False
    ) -> None:
        """See SdkClient."""
        await self.ask("subscribe", channel=channel, token=token, tokens=tokens, quiet=quiet)

    async def unsubscribe(self, channel: str) -> None:
        """See SdkClient."""
        await self.ask("unsubscribe", channel=channel)

    async def publish(self, channel: str, data: object) -> None:
        """See SdkClient."""
        await self.ask("publish", channel=channel, data=data)

    async def rpc(self, method: str, data: object) -> Json:
        """See SdkClient."""
        return await self.ask("rpc", method=method, data=data)

    async def call(self, name: str, channel: str) -> None:
        """See SdkClient."""
        await self.ask(name, channel=channel)

    async def stream(self, channel: str, publisher: str, *, limit: int | None = None, pause: int = 0) -> None:
        """Publish {publisher, sequence} one after the other, `pause` ms apart; each outcome is a `published` event."""
        await self.ask("stream", channel=channel, publisher=publisher, limit=limit, pause=pause)

    async def stop_streams(self) -> None:
        """End the streams, each after the publication that is under way; `stream_ended` says when."""
        await self.ask("stop_streams")


class _Error(msgspec.Struct):
    code: int
    message: str
    temporary: bool = False


class _Line(msgspec.Struct):
    client: str = ""
    call: int = 0
    result: Any = None
    error: _Error | None = None


@contextlib.asynccontextmanager
async def running_node() -> AsyncIterator[Node]:
    """Run a Node process for the clients of one test."""
    process = await asyncio.create_subprocess_exec(
        program(),
        str(SCRIPT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_LIMIT,
        env={name: value for name, value in os.environ.items() if name != "NODE_OPTIONS"},
    )
    node = Node(process)
    try:
        yield node
    finally:
        await node.close()
