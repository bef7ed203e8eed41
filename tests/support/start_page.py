"""A mesh that serves the start page: a nats-server and two edges whose ports are known before they start, with history or not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.support.durable import KEPT
from tests.support.edges import (
    OPEN,
    PARTITIONS,
    SECRET,
    Config,
    EdgeProcess,
    edge_config,
    mapping,
    merged,
)
from tests.support.history import HistoryProcess, history_config, migrated
from tests.support.nats_server import NatsServer
from tests.support.ports import free_ports
from tests.support.presence import PresenceProcess, presence_config
from tests.support.ratelimit import RateLimitProcess

WEB = Path(__file__).resolve().parents[2] / "web"
EDGES = 2


class PageMesh:
    """Two edges that know each other's ports, as in `tidewire dev`. `edges[0]` is edge-1."""

    def __init__(
        self, folder: Path, nats_url: str, pages: Path, *, issue_tokens: bool, changes: Config | None = None
    ) -> None:
        """Prepare; nothing runs yet. `changes` are laid over the edges' configuration. Pages of http://127.0.0.1 may connect, those of http://localhost may not."""
        self._folder = folder
        self._nats_url = nats_url
        self._pages = pages
        self._issue_tokens = issue_tokens
        self._changes = changes or {}
        self._ports = free_ports(2 * EDGES)
        self._starts = 0
        self.edges: list[EdgeProcess] = []
        self.service: HistoryProcess | None = None  # the one that a page needs, where a test ends it

    def create(self, index: int, key: str = SECRET) -> EdgeProcess:
        """Return an edge that may be started; each has a folder, and so a log, of its own. `key` signs tokens."""
        self._starts += 1
        public, internal = self._ports[:EDGES], self._ports[EDGES:]
        config = edge_config(
            self._nats_url,
            {
                "http": {
                    "port": public[index],
                    "internal_port": internal[index],
                    "pages": str(self._pages),
                    "issue_tokens": self._issue_tokens,
                },
                "client": {
                    "allowed_origins": [f"http://127.0.0.1:{port}" for port in public],
                    "token": {"hmac_secret_key": key},
                },
                "channel": {"namespaces": [{"name": "chat", **OPEN}]},
                "dev": {
                    "edges": [
                        {"port": port, "internal_port": other}
                        for port, other in zip(public, internal, strict=True)
                    ]
                },
            },
        )
        folder = self._folder / f"start-{self._starts}"
        return EdgeProcess(folder, merged(config, self._changes), name=f"edge-{index + 1}")


@contextlib.contextmanager
def page_mesh(folder: Path, pages: Path = WEB, *, issue_tokens: bool = True) -> Iterator[PageMesh]:
    """Run the mesh; an edge that a test puts into `edges` is ended with it."""
    with (
        NatsServer(folder / "nats", config=mapping()) as nats,
        started(PageMesh(folder, nats.url, pages, issue_tokens=issue_tokens)) as mesh,
    ):
        yield mesh


@contextlib.contextmanager
def keeping_mesh(folder: Path) -> Iterator[PageMesh]:
    """Run one in which `chat` has history and recovery, as `make run` does."""
    kept = {
        "storage": {"profiles": [{"name": "default"}]},
        "channel": {"namespaces": [{"name": "chat", **KEPT, "force_recovery": True}]},
    }
    with NatsServer(folder / "nats", config=mapping(), jetstream=True) as nats:
        settings = history_config(nats.url, {**kept, "nats": {"partitions": PARTITIONS}})
        asyncio.run(migrated(settings))
        with HistoryProcess(folder, settings) as history:
            changes = {**kept, "history": {"target": f"ipv4:127.0.0.1:{history.port}"}}
            with started(PageMesh(folder, nats.url, WEB, issue_tokens=True, changes=changes)) as mesh:
                yield mesh


@contextlib.contextmanager
def seeing_mesh(folder: Path, debounce: str = "4s") -> Iterator[PageMesh]:
    """Run one in which `chat` keeps presence, as `make run` does; a leave is held back for so long."""
    namespaces = [
        {
            "name": "chat",
            **OPEN,
            "presence": True,
            "join_leave": True,
            "join_leave_debounce": debounce,
            "allow_presence_for_subscriber": True,
        }
    ]
    channel = {"channel": {"namespaces": namespaces}}
    with NatsServer(folder / "nats", config=mapping()) as nats:
        settings = presence_config(nats.url, {**channel, "nats": {"partitions": PARTITIONS}})
        with PresenceProcess(folder, settings, "presence") as presence:
            asyncio.run(presence.until_ready())
            changes = {**channel, "presence": {"target": f"ipv4:127.0.0.1:{presence.port}"}}
            with started(PageMesh(folder, nats.url, WEB, issue_tokens=True, changes=changes)) as mesh:
                mesh.service = presence
                yield mesh


@contextlib.contextmanager
def limited_mesh(folder: Path) -> Iterator[PageMesh]:
    """Run one whose edges count presses together, as `make run` does."""
    rule = {
        "name": "presses",
        "command": "publish",
        "key": ["user"],
        "namespaces": ["press"],
        "limit": 1,
        "burst": 5,
    }
    namespaces = [{"name": "chat", **OPEN}, {"name": "press", **OPEN}]
    limits = {"rules": [{**rule, "period": "20s", "close_after": 0}], "connections": [], "envoy": []}
    with (
        NatsServer(folder / "nats", config=mapping()) as nats,
        RateLimitProcess(folder, {"rate_limits": limits}) as service,
    ):
        changes = {
            "channel": {"namespaces": namespaces},
            "rate_limits": {**limits, "replicas": [service.target], "timeout": "2s", "wait": "3s"},
        }
        with started(PageMesh(folder, nats.url, WEB, issue_tokens=True, changes=changes)) as mesh:
            yield mesh


@contextlib.contextmanager
def started(mesh: PageMesh) -> Iterator[PageMesh]:
    """Start its edges, and end them."""
    try:
        mesh.edges = [mesh.create(index).launch() for index in range(EDGES)]
        for edge in mesh.edges:
            edge.wait_ready()
        yield mesh
    finally:
        for edge in mesh.edges:
            edge.kill()
