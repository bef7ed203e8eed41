"""A nats-server as `tidewire nats-config` configures it: the edges' user and two backends, with their passwords."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nats
from nats.aio.client import Client

from tidewire.kernel.nats_config import inbox_prefix

PASSWORDS = {"edge": "edge-password", "app": "app-password", "other": "other-password"}
VARIABLES = {f"NATS_PASSWORD_{name.upper()}": password for name, password in PASSWORDS.items()}
OPTIONS = (
    *("--backend", "app:chat,_", "--rpc", "app", "--events", "app"),
    *("--backend", "other:live", "--orders", "other"),
)


def printed(store: Path, partitions: int) -> str:
    """Return the output of `tidewire nats-config`; nats-server needs VARIABLES in its environment."""
    command = (sys.executable, "-m", "tidewire", "nats-config", "--partitions", str(partitions), *OPTIONS)
    arguments = (*command, "--store-dir", str(store))
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout


async def logged_in(url: str, name: str, refused: list[str]) -> Client:
    """Connect as one of the users; what the server refuses it later is added to `refused`."""

    async def note(error: Exception) -> None:
        refused.append(str(error).lower())

    return await nats.connect(
        url, user=name, password=PASSWORDS[name], inbox_prefix=inbox_prefix(name), error_cb=note
    )
