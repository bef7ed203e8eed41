"""What durable channels are measured on: nats-server with the streams of one profile, history processes, an edge."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.load.servers import PREFIX, Target, Tools
from tests.support.edges import OPEN, PARTITIONS, EdgeProcess, edge_config, mapping, merged
from tests.support.history import HistoryProcess, history_config, migrated
from tests.support.nats_server import NatsServer

KEPT = 100
"""Publications of a channel that are kept."""
NAMESPACE: dict[str, Any] = {
    "name": PREFIX.removesuffix(":"),
    **OPEN,
    "history_size": KEPT,
    "history_ttl": "1h",
    "force_recovery": True,
    "recovery_max_publication_limit": KEPT,
}
STORED: dict[str, Any] = {
    "storage": {"profiles": [{"name": "default", "max_messages": KEPT}]},
    "channel": {"namespaces": [NAMESPACE]},
}
UNLIMITED: dict[str, Any] = {
    "client": {"command_rate_limit": 0, "connection_rate_limit": 0, "max_loop_lag": "0s"}
}
"""The limits that a load is there to exceed."""


@contextlib.contextmanager
def streams(folder: Path) -> Iterator[NatsServer]:
    """A nats-server with the streams: file storage, one replica, `sync_interval` as it is by default."""
    with NatsServer(folder / "nats", config=mapping(), jetstream=True) as nats, migrate(nats):
        yield nats


@contextlib.contextmanager
def migrate(nats: NatsServer) -> Iterator[None]:
    """Create the streams."""
    asyncio.run(migrated(service_config(nats)))
    yield


def service_config(nats: NatsServer, **own: Any) -> dict[str, Any]:  # noqa: ANN401 - any setting
    """Return the configuration of a history process; `own` are settings of its section."""
    changes = {**STORED, "nats": {"partitions": PARTITIONS}, "history_service": own}
    return history_config(nats.url, changes)


def edge(folder: Path, nats: NatsServer, history: HistoryProcess, **changes: Any) -> EdgeProcess:  # noqa: ANN401 - any setting
    """Return an edge that asks a history process."""
    asks = {**UNLIMITED, **STORED, "history": {"target": f"ipv4:127.0.0.1:{history.port}"}}
    return EdgeProcess(folder, edge_config(nats.url, merged(asks, changes)))


@contextlib.contextmanager
def durable(tools: Tools) -> Iterator[Target]:
    """One edge whose channels have history, with what it needs; the same as `servers.tidewire` otherwise."""
    with (
        streams(tools.folder) as nats,
        HistoryProcess(tools.folder, service_config(nats)) as history,
        edge(tools.folder, nats, history) as running,
    ):
        yield Target(
            running.port, running.pid, brokers=(nats.pid,), services=(history.pid,), tokens=tools.tokens
        )
