"""A nats-server as `tidewire nats-config` configures it: the users of edges, history and presence service and migrations, and two backends, with their passwords."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from nats.aio.client import Client

from tests.support.nats_client import connected
from tidewire.kernel.nats_config import inbox_prefix

PASSWORDS = {name: f"{name}-password" for name in ("edge", "history", "migrate", "presence", "app", "other")}
VARIABLES = {f"NATS_PASSWORD_{name.upper()}": password for name, password in PASSWORDS.items()}
OPTIONS = (
    *("--history-user", "history", "--migrate-user", "migrate", "--presence-user", "presence"),
    *("--backend", "app:chat,_", "--rpc", "app", "--events", "app"),
    *("--backend", "other:live", "--orders", "other"),
)


def printed(store: Path, partitions: int) -> str:
    """Return the output of `tidewire nats-config`; nats-server needs VARIABLES in its environment."""
    command = (sys.executable, "-m", "tidewire", "nats-config", "--partitions", str(partitions), *OPTIONS)
    arguments = (*command, "--store-dir", str(store))
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout


@contextlib.asynccontextmanager
async def logged_in(url: str, name: str, refused: list[str]) -> AsyncIterator[Client]:
    """Connect as one of the users, who comes back when NATS was away; what it is refused is added to `refused`."""

    async def note(error: Exception) -> None:
        refused.append(str(error).lower())

    login = {"user": name, "password": PASSWORDS[name], "inbox_prefix": inbox_prefix(name)}
    async with connected(url, error_cb=note, max_reconnect_attempts=-1, **login) as client:
        yield client
