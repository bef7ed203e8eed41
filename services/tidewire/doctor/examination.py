"""Collects the facts of this machine, of a configuration, and of its NATS servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from tidewire.doctor.edge_facts import read_edge
from tidewire.doctor.facts import Facts
from tidewire.doctor.host_facts import read_host
from tidewire.doctor.nats_facts import read_nats
from tidewire.doctor.service_facts import read_history, read_presence, read_ratelimit
from tidewire.doctor.storage_facts import read_storage
from tidewire.edge.config import EdgeConfig


async def examine(config: EdgeConfig, file: Path | None, environ: Mapping[str, str]) -> Facts:
    """Return the facts. `config` was read from `file` and `environ`. Every question has a timeout, nothing is changed."""
    edge, nats, storage, history, presence, ratelimit = await asyncio.gather(
        read_edge(config, file, environ),
        read_nats(config.nats),
        read_storage(config),
        read_history(config),
        read_presence(config),
        read_ratelimit(config),
    )
    return Facts(
        now=time.time(),
        host=read_host(),
        edge=edge,
        nats=nats,
        storage=storage,
        history=history,
        presence=presence,
        ratelimit=ratelimit,
    )
