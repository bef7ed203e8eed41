"""The files of `tidewire dev` under its data folder: the token key, NATS's configuration, dev.json."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

TOKEN_KEY = "token.key"  # noqa: S105 - a file's name
DEV_JSON = "dev.json"
NATS_CONFIG = "nats-server.conf"
NATS_STORE = "nats"
KEY_BYTES = 32


def create_token_keys(secret_files: Iterable[Path]) -> None:
    """Create each missing file called token.key among the secret files that the configuration names.

    Any other missing secret is the user's to give. Raises OSError where it cannot be written.
    """
    for file in secret_files:
        if file.name == TOKEN_KEY and not file.exists():
            write_private(file, secrets.token_hex(KEY_BYTES).encode() + b"\n")


def write_private(file: Path, content: bytes) -> None:
    """Put `content` in place at once, readable by the user alone, with the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    fresh.touch(0o600)
    fresh.write_bytes(content)
    fresh.replace(file)
