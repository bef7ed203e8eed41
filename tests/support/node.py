"""The official JavaScript SDK in a Node process of the test's own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from tests.support.driver import Driver, DriverClient, running_driver

SCRIPT = Path(__file__).parent / "node_client" / "client.mjs"
OLDEST = 20


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


class HistoryPage(msgspec.Struct, frozen=True):
    """Publications, and where the channel was then. Of each, `data` and `offset` tell what it is."""

    epoch: str
    offset: int
    publications: list[dict[str, Any]]


class NodeClient(DriverClient):
    """One client of the JavaScript SDK, which can also publish on its own."""

    async def stream(
        self,
        channel: str,
        publisher: str,
        *,
        limit: int | None = None,
        pause: int = 0,
        window: int = 1,
        burst: int = 1,
    ) -> None:
        """Publish {publisher, sequence}, at most `window` unanswered; each outcome is a `published` event.

        After each `burst` there is a pause of `pause` ms.
        """
        wanted = {"limit": limit, "pause": pause, "window": window, "burst": burst}
        await self.ask("stream", channel=channel, publisher=publisher, **wanted)

    async def read_history(
        self, channel: str, *, since: tuple[int, str] | None = None, limit: int = 0
    ) -> HistoryPage:
        """Read so many publications behind a position, or just the position. Raises SdkError."""
        position = None if since is None else {"offset": since[0], "epoch": since[1]}
        page = await self.ask("read_history", channel=channel, since=position, limit=limit)
        return msgspec.convert(page, HistoryPage)

    async def stop_streams(self) -> None:
        """End the streams, each after the publication that is under way; `stream_ended` says when."""
        await self.ask("stop_streams")


Node = Driver[NodeClient]


@contextlib.asynccontextmanager
async def running_node(sdk: str = "centrifuge") -> AsyncIterator[Node]:
    """Run a Node process for the clients of one test; `sdk` is the SDK's name in package.json."""
    async with running_driver(program(), str(SCRIPT), sdk, client=NodeClient) as node:
        yield node
