from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.wait import PATIENCE
from tidewire.platform.nats_server import ServerInfo, find_program, wait_until_ready

INFO = b'INFO {"version":"2.15.1","max_payload":262144,"jetstream":true}\r\n'


@asynccontextmanager
async def greeting(*greetings: bytes) -> AsyncIterator[int]:
    """A server that says the given greetings, one a connection (the last one again and again); yields its port."""
    waiting = list(greetings)

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(waiting.pop(0) if len(waiting) > 1 else waiting[0])
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_returns_what_the_server_says() -> None:
    """Ready means that it answers as a nats-server."""
    async with greeting(INFO) as port:
        assert await wait_until_ready("127.0.0.1", port, PATIENCE) == ServerInfo("2.15.1", True, 262144)


async def test_tries_until_it_answers_properly() -> None:
    """A connection that is closed or talks nonsense is tried again."""
    async with greeting(b"", b"HTTP/1.1 400\r\n", b"INFO nonsense\r\n", INFO) as port:
        assert (await wait_until_ready("127.0.0.1", port, PATIENCE)).jetstream


async def test_gives_up_in_time() -> None:
    """What never becomes a nats-server is a TimeoutError."""
    async with greeting(b"SSH-2.0\r\n") as port:
        with pytest.raises(TimeoutError):
            await wait_until_ready("127.0.0.1", port, 0.2)


def test_program_beside_this_python_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel's program serves before whatever is on the PATH; without both there is none."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert find_program() == "/usr/bin/nats-server"
    (tmp_path / "nats-server").touch()
    assert find_program() == str(tmp_path / "nats-server")
