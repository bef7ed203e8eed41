"""A mesh with presence and rate limits of which anything may fail: three edges, three presence and two rate-limit replicas."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.support.edges import OPEN, PARTITIONS, PATIENT, EdgeProcess, edge_config, mapping
from tests.support.nats_server import NatsServer
from tests.support.ports import free_ports
from tests.support.presence import PresenceProcess, presence_config
from tests.support.ratelimit import RateLimitProcess
from tests.support.tcp_proxy import TcpProxy
from tidewire.kernel.config import decode
from tidewire.options.rate_limit_rules import RateLimitRule

EDGES, PRESENCE, LIMITS = 3, 3, 2
NAMESPACES: list[dict[str, Any]] = [
    {
        "name": "room",
        **OPEN,
        "presence": True,
        "allow_presence_for_subscriber": True,
        "join_leave": True,
    },
    {"name": "live", **OPEN},
]
RULE: dict[str, Any] = {
    "name": "publications",
    "command": "publish",
    "key": ["user"],
    "limit": 40,
    "period": "2s",
    "close_after": 0,
    "when_down": "deny",
}
TERMS = decode(RateLimitRule, RULE).terms
PLACES = {"name": "places", "key": "user", "limit": 1000}


class AttendanceMesh:
    """Made by `attendance_mesh`. All stay at their ports. The first edge is the one that is killed."""

    def __init__(self, folder: Path, nats: NatsServer) -> None:
        ports = iter(free_ports(2 * EDGES + PRESENCE + LIMITS))
        of_presence = [next(ports) for _ in range(PRESENCE)]
        of_limits = [next(ports) for _ in range(LIMITS)]
        self.nats = nats
        self._folder = folder
        self._of_edges = [(next(ports), next(ports)) for _ in range(EDGES)]
        self._lives = 0
        self._rules = {
            "replicas": [f"ipv4:127.0.0.1:{port}" for port in of_limits],
            "rules": [RULE],
            "connections": [PLACES],
            "envoy": [],
        }
        self._target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in of_presence)
        self._of_presence = of_presence
        self.ways = [TcpProxy(nats.port) for _ in of_presence]
        """Between each presence replica and NATS."""
        self.presence: list[PresenceProcess] = []
        self.limits = [
            RateLimitProcess(
                folder,
                {"rate_limits": self._rules, "rate_limit_service": {"rpc": {"port": port}}},
                f"limits-{number}",
            )
            for number, port in enumerate(of_limits)
        ]
        self.edges = [self._edge(number) for number in range(EDGES)]

    def _replica(self, number: int) -> PresenceProcess:
        changes = {
            "nats": {"partitions": PARTITIONS},
            "channel": {"namespaces": NAMESPACES},
            "presence_service": {"listening_time": "4500ms", "rpc": {"port": self._of_presence[number]}},
        }
        return PresenceProcess(
            self._folder, presence_config(self.ways[number].url, changes), f"presence-{number}"
        )

    def _edge(self, number: int) -> EdgeProcess:
        port, internal = self._of_edges[number]
        changes = {
            "http": {"port": port, "internal_port": internal},
            "client": {**PATIENT, "command_rate_limit": 0},
            "channel": {"namespaces": NAMESPACES},
            "presence": {"target": self._target, "timeout": "1500ms"},
            "rate_limits": {"timeout": "2s", "wait": "3s", **self._rules},
        }
        self._lives += 1
        folder = self._folder / f"life-{self._lives}"
        return EdgeProcess(folder, edge_config(self.nats.url, changes), name=f"edge-{number}")

    async def start(self) -> None:
        """Return when everything is ready."""
        for way in self.ways:
            await way.start()
        self.presence = [self._replica(number) for number in range(PRESENCE)]
        processes = [*self.presence, *self.limits]
        await asyncio.gather(*(asyncio.to_thread(process.start) for process in processes))
        await asyncio.gather(*(asyncio.to_thread(edge.start) for edge in self.edges))
        for replica in self.presence:
            await replica.until_ready()

    async def stop(self) -> None:
        """End everything on the spot."""
        for process in (*self.edges, *self.presence, *self.limits):
            process.kill()
        for way in self.ways:
            await way.stop()

    async def replace_full_edge(self) -> None:
        """Start another one in the place of the first edge, which was killed."""
        self.edges[0] = self._edge(0)
        await asyncio.to_thread(self.edges[0].start)

    async def limits_up(self) -> list[int]:
        """How many rate-limit replicas answer each edge."""
        told = await asyncio.gather(*(edge.metrics() for edge in self.edges))
        return [int(each.value("tidewire_rate_limit_replica_up")) for each in told]

    async def counted(self) -> float:
        """Return the connections that rate-limit replicas count together."""
        metrics = [await replica.metrics() for replica in self.limits]
        return sum(each.value("tidewire_ratelimit_connections", rule=PLACES["name"]) for each in metrics)


@contextlib.asynccontextmanager
async def attendance_mesh(folder: Path) -> AsyncIterator[AttendanceMesh]:
    """Run it."""
    with NatsServer(folder / "nats", config=mapping()) as nats:
        mesh = AttendanceMesh(folder, nats)
        try:
            await mesh.start()
            yield mesh
        finally:
            await mesh.stop()
