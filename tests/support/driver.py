"""A driver: a program with any number of clients of one official SDK, driven through standard input and output.

One JSON object a line in, one a line out; tests/support/node_client/client.mjs shows all of them:

    in:   {"call": 7, "op": "publish", "client": "js-1", ...}    an operation of SdkClient
    out:  {"call": 7, "result": ...} or {"call": 7, "error": {"code", "message", "temporary"}}
    out:  {"client": "js-1", "event": "connected", ...}          an Event

It ends when its input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from tests.support.sdk import Event, Json, OnEvent, SdkError, Tags, Tokens
from tests.support.wait import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
CALL_TIMEOUT = 3 * PATIENCE
"""Seconds; the SDKs themselves give up on a command after 5, but a test with much to do may read late that they did."""
LINE_LIMIT = 4 * 1024 * 1024
C = TypeVar("C", bound="DriverClient")


class Driver(Generic[C]):
    """One driver process with any number of clients. Belongs to one event loop; use `running_driver`."""

    def __init__(self, process: asyncio.subprocess.Process, client: Callable[[Driver[C], str], C]) -> None:
        self._process = process
        self._client = client
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)
        self.clients: dict[str, C] = {}
        self._reading = asyncio.create_task(self._read())

    async def create(
        self,
        url: str,
        *,
        wire: str = "json",
        token: str = "",
        tokens: Tokens = None,
        name: str = "",
        **options: object,
    ) -> C:
        """Create a client, not connected yet; `options` are the SDK's own (in JavaScript: times in milliseconds)."""
        name = name or f"client-{len(self.clients) + 1}"
        client = self.clients[name] = self._client(self, name)
        await client.ask("create", url=url, format=wire, token=token, tokens=tokens, options=options)
        return client

    async def ask(self, op: str, **fields: object) -> Json:
        """Have an operation performed and return its result. Raises SdkError."""
        number = next(self._numbers)
        future = self._calls[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        assert not self._reading.done(), "the driver is gone"
        self._process.stdin.write(msgspec.json.encode({"call": number, "op": op, **fields}) + b"\n")
        async with asyncio.timeout(CALL_TIMEOUT):
            return await future

    async def close(self) -> None:
        """End the process; its clients vanish with it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await self._process.stdin.wait_closed()
        await asyncio.wait_for(self._reading, PATIENCE)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                self._take(line)
        finally:
            for future in self._calls.values():
                if not future.done():
                    future.set_exception(RuntimeError("the driver is gone"))

    def _take(self, line: bytes) -> None:
        message = _decode_line(line)
        if message.client:
            self.clients[message.client].note(_decode_event(line))
            return
        future = self._calls.pop(message.call)
        if future.done():
            return
        if message.error is not None:
            error = message.error
            future.set_exception(SdkError(error.code, error.message, temporary=error.temporary))
        else:
            future.set_result(message.result)


class DriverClient:
    """One client of a driver; see `sdk.SdkClient`."""

    def __init__(self, driver: Driver[Any], name: str) -> None:
        self._driver = driver
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
        return await self._driver.ask(op, client=self.name, **fields)

    async def connect(self) -> None:
        """See SdkClient."""
        await self.ask("connect")

    async def disconnect(self) -> None:
        """See SdkClient."""
        await self.ask("disconnect")

    async def who(self, channel: str) -> dict[str, Json]:
        """See SdkClient."""
        return dict(await self.ask("who", channel=channel))

    async def how_many(self, channel: str) -> tuple[int, int]:
        """See SdkClient."""
        clients, users = await self.ask("how_many", channel=channel)
        return clients, users

    async def close(self) -> None:
        """See SdkClient; the rest goes with the process."""
        await self.disconnect()

    async def subscribe(
        self,
        channel: str,
        *,
        token: str = "",
        tokens: Tokens = None,
        tags: Tags = None,
        delta: bool = False,
        quiet: bool = False,
        recoverable: bool = False,
        join_leave: bool = False,
    ) -> None:
        """See SdkClient."""
        wanted = {
            "token": token,
            "tokens": tokens,
            "tags": tags,
            "delta": delta,
            "quiet": quiet,
            "recoverable": recoverable,
            "join_leave": join_leave,
        }
        await self.ask("subscribe", channel=channel, **wanted)

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

    async def send(self, data: object) -> None:
        """Send a one-way message, where the SDK has them."""
        await self.ask("send", data=data)


class _Error(msgspec.Struct):
    code: int
    message: str
    temporary: bool = False


class _Line(msgspec.Struct):
    client: str = ""
    call: int = 0
    result: Any = None
    error: _Error | None = None


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_event = msgspec.json.Decoder(Event).decode


def _is_hidden(variable: str) -> bool:
    """Edges are on this machine, and not every SDK can be told to leave a proxy out."""
    return variable == "NODE_OPTIONS" or variable.lower().endswith("_proxy")


@contextlib.asynccontextmanager
async def running_driver(
    *command: str,
    client: Callable[[Driver[C], str], C] = DriverClient,  # type: ignore[assignment]
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Driver[C]]:
    """Run a driver, with `environment` on top of ours; its clients are of class `client`."""
    ours = {name: value for name, value in os.environ.items() if not _is_hidden(name)}
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_LIMIT,
        env=ours | dict(environment or {}),
    )
    driver = Driver(process, client)
    try:
        yield driver
    finally:
        await driver.close()
