"""A mesh with history for one test: nats-server with streams, history processes, edges."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.edges import OPEN, PARTITIONS, PATIENT, EdgeProcess, edge_config, mapping, merged
from tests.support.history import HistoryProcess, history_config, migrated
from tests.support.nats_server import NatsServer

KEPT: Mapping[str, Any] = {**OPEN, "history_size": 1000, "history_ttl": "1h"}
NAMESPACES: list[dict[str, Any]] = [
    {"name": "log", **KEPT, "force_recovery": True, "allow_history_for_client": True},
    {"name": "ask", **KEPT, "allow_recovery": True, "allow_positioning": True},
    {"name": "last", **KEPT, "force_recovery": True, "force_recovery_mode": "cache"},
    {
        "name": "edits",
        **KEPT,
        "force_recovery": True,
        "allowed_delta_types": ["fossil"],
        "delta_publish": True,
    },
    {"name": "raw", **KEPT, "force_recovery": True, "publication_data_format": "binary"},
    {"name": "batch", **KEPT, "force_recovery": True, "batch_max_delay": "50ms"},
    {"name": "stocks", **KEPT, "force_recovery": True, "allow_wildcards": True},
    {"name": "brief", **KEPT, "storage_profile": "brief"},
    {"name": "live", **OPEN},
]
PROFILES: list[dict[str, Any]] = [
    {"name": "default", "max_messages": 1000},
    {"name": "brief", "message_ttl": True, "max_messages": 1000},
]


class Durable:
    """What runs. `config` is what history processes and edges have in common."""

    def __init__(self, folder: Path, nats: NatsServer, config: dict[str, Any]) -> None:
        self.nats = nats
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._config = config
        self.history = self._stack.enter_context(HistoryProcess(folder, self._shared(history=True)))
        self.edges: list[EdgeProcess] = []

    def _shared(self, *, history: bool) -> dict[str, Any]:
        shared = {name: self._config[name] for name in ("storage", "channel")}
        if not history:
            return shared
        return history_config(self.nats.url, {**shared, "nats": {"partitions": PARTITIONS}})

    async def migrate(self) -> None:
        """Make the streams, as `tidewire migrate` does."""
        await migrated(self._shared(history=True))

    def another_history(self, name: str, changes: Mapping[str, Any]) -> HistoryProcess:
        """Start another history process."""
        config = merged(self._shared(history=True), {"history_service": changes})
        return self._stack.enter_context(HistoryProcess(self._folder, config, name))

    def edge(self, name: str, changes: Mapping[str, Any] | None = None) -> EdgeProcess:
        """Start an edge."""
        target = f"ipv4:127.0.0.1:{self.history.port}"
        config = merged({**self._shared(history=False), "history": {"target": target}}, changes or {})
        edge = EdgeProcess(
            self._folder / name, edge_config(self.nats.url, {"client": PATIENT, **config}), name=name
        )
        self.edges.append(self._stack.enter_context(edge))
        return edge

    def close(self) -> None:
        """End all."""
        self._stack.close()


@contextlib.contextmanager
def durable_mesh(folder: Path, namespaces: list[dict[str, Any]] = NAMESPACES) -> Iterator[Durable]:
    """Run nats-server with streams and a history process; edges are the test's to start."""
    config = {
        "storage": {"profiles": PROFILES},
        "channel": {"namespaces": namespaces},
    }
    with NatsServer(folder / "nats", config=mapping(), jetstream=True) as nats:
        migrate = history_config(nats.url, {**config, "nats": {"partitions": PARTITIONS}})
        asyncio.run(migrated(migrate))
        mesh = Durable(folder, nats, config)
        try:
            yield mesh
        finally:
            mesh.close()
