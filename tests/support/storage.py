"""Streams and the bucket TW_META for tests."""

from __future__ import annotations

from typing import Any

from tidewire.platform.jetstream import JetStream
from tidewire.storage.wanted import bucket_config


async def bucket(js: JetStream, replicas: int = 1) -> dict[str, Any]:
    """Create the bucket TW_META, empty; return its configuration."""
    config = bucket_config(replicas)
    await js.call(f"STREAM.CREATE.{config['name']}", config)
    return config
