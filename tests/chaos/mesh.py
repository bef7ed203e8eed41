"""A whole mesh that may lose any of its processes: a NATS cluster, edges behind a balancer, and history services.

Each edge reaches each node by a proxy of its own, so that the network between them can be cut, and a test knows where it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random
from typing import Any

from tests.support.balancer import Balancer, running_balancer
from tests.support.edges import OPEN, PATIENT, EdgeProcess, edge_config, mapping
from tests.support.history import HistoryProcess
from tests.support.nats_cluster import NatsCluster, nats_cluster, start_together
from tests.support.nats_losses import Losses
from tests.support.nats_server import NatsServer
from tests.support.ports import free_ports
from tests.support.storage import migrated
from tests.support.tcp_proxy import TcpProxy
from tidewire.kernel.streams import stream_name

PARTITIONS = 4
KEPT = {"history_size": 5000, "history_ttl": "1h", **OPEN}
NAMESPACES = [
    {"name": "chat", **KEPT, "recovery_max_publication_limit": 5000, "force_recovery": True},
    {"name": "ram", **KEPT, "storage_profile": "memory", "allow_history_for_client": True},
]
MOST = 100_000
"""Publications of a channel that its stream keeps: none is lost for want of room."""
UNLIMITED = -1
STARTS = 3
"""Of an edge, until one succeeds."""


def account(*, max_file: int = UNLIMITED, mapped: bool = True) -> str:
    """Return the account that everybody is in, with its quota of disk."""
    lines = mapping(PARTITIONS) if mapped else ""
    return (
        f"accounts {{ mesh {{ jetstream {{ max_file: {max_file} }}, {lines} users [ {{ user: all, password: all }} ] }} }}\n"
        "no_auth_user: all"
    )


class ChaosMesh:
    """Made by `running_mesh`."""

    def __init__(
        self, folder: Path, cluster: NatsCluster, dice: Random, *, edges: int, histories: int
    ) -> None:
        self.cluster = cluster
        self._folder = folder
        self._starts = 0
        nodes = len(cluster.nodes)
        ports = iter(free_ports((2 + nodes) * edges + 3 * histories))
        self._of_histories = [[next(ports) for _ in range(3)] for _ in range(histories)]
        self._of_edges = [(next(ports), next(ports)) for _ in range(edges)]
        self.losses = [Losses(b"tw.out.", dice) for _ in range(edges)]
        """What each edge is not sent of the live messages."""
        self.ways = [
            [TcpProxy(node.port, next(ports), lost.connection) for node in cluster.nodes]
            for lost in self.losses
        ]
        """The proxies of each edge, in the order of nodes."""
        self._config = self._shared()
        self.histories = [
            HistoryProcess(folder / "history", self._of_history(number, *found), f"history-{number}")
            for number, found in enumerate(self._of_histories)
        ]
        self.edges = [self._edge(number) for number in range(edges)]

    def _shared(self) -> dict[str, Any]:
        """Return what all processes are told; each edge has ways of its own to NATS."""
        replicas = {"replicas": len(self.cluster.nodes), "max_messages": MOST}
        profiles = [{"name": "default", **replicas}, {"name": "memory", "storage": "memory", **replicas}]
        target = ",".join(f"127.0.0.1:{port}" for port, *_ in self._of_histories)
        return edge_config(
            self.cluster.urls[0],
            {
                "nats": {"urls": list(self.cluster.urls), "partitions": PARTITIONS},
                "client": PATIENT,
                "channel": {"namespaces": NAMESPACES},
                "storage": {"profiles": profiles},
                "history": {"target": f"ipv4:{target}"},
            },
        )

    def _of_history(self, number: int, port: int, health: int, internal: int) -> dict[str, Any]:
        """All but the first have so little memory that they ask the streams again and again."""
        rpc = {"port": port, "health_port": health, "drain_delay": 0, "drain_timeout": "2s"}
        own = {"internal_port": internal, "rpc": rpc, **({"cache_size": 1 << 20} if number else {})}
        return {**self._config, "history_service": own}

    def _edge(self, number: int) -> EdgeProcess:
        port, internal = self._of_edges[number]
        urls = [f"nats://127.0.0.1:{way.port}" for way in self.ways[number]]
        config = {
            **self._config,
            "nats": {**self._config["nats"], "urls": urls},
            "http": {"port": port, "internal_port": internal},
        }
        self._starts += 1  # each with a log of its own: that of a long life is long to read while others wait
        return EdgeProcess(self._folder / "edge" / f"{self._starts}", config, name=f"edge-{number}")

    @property
    def streams(self) -> list[str]:
        """The names of all streams."""
        return self.streams_of("default", "memory")

    def streams_of(self, *profiles: str) -> list[str]:
        """The names of the streams of these profiles."""
        return [stream_name(profile, number) for profile in profiles for number in range(PARTITIONS)]

    def node_of(self, edge: int) -> NatsServer | None:
        """Return the node that an edge is connected to."""
        ways = zip(self.ways[edge], self.cluster.nodes, strict=True)
        return next((node for way, node in ways if way.joined), None)

    # Its life.

    async def start(self) -> None:
        """Make the streams, then start everything."""
        self._folder.mkdir(parents=True, exist_ok=True)
        await self.migrate()
        for way in self._all_ways():
            await way.start()
        await self.start_services()

    async def stop(self) -> None:
        """End everything on the spot."""
        await self.kill_services()
        for way in self._all_ways():
            await way.stop()

    def _all_ways(self) -> Iterator[TcpProxy]:
        return (way for ways in self.ways for way in ways)

    async def start_services(self) -> None:
        """Start history services and edges, none of which runs."""
        await asyncio.gather(
            *(asyncio.to_thread(each.start) for each in self.histories),
            *(self.replace_edge(number) for number in range(len(self.edges))),
        )

    async def kill_services(self) -> None:
        """End all edges and history services on the spot."""
        for each in (*self.edges, *self.histories):
            each.kill()

    async def replace_edge(self, number: int) -> None:
        """Start an edge that does not run, at the ports it had; as a supervisor would, again where NATS was too slow for it."""
        for left in reversed(range(STARTS)):
            self.edges[number] = self._edge(number)
            try:
                await asyncio.to_thread(self.edges[number].start)
            except AssertionError:
                if not left:
                    raise
            else:
                return

    async def cut_edges_off(self) -> None:
        """Cut all edges off NATS."""
        for way in self._all_ways():
            await way.reset()

    async def join_edges(self) -> None:
        """Have all edges reach NATS again."""
        for way in self._all_ways():
            await way.mend()

    async def migrate(self, *arguments: str) -> None:
        """Run `tidewire migrate`."""
        code, out, errors = await asyncio.to_thread(migrated, self._folder, self._config, *arguments)
        assert code == 0, (out, errors)

    # All nodes at once.

    async def stop_nodes(self) -> None:
        """End all nodes in order."""
        await asyncio.gather(*(asyncio.to_thread(node.stop) for node in self.cluster.nodes))

    def kill_nodes(self) -> None:
        """End all nodes on the spot."""
        for node in self.cluster.nodes:
            node.kill()

    async def start_nodes(self) -> None:
        """Start all nodes, and wait until every stream is served again."""
        await asyncio.to_thread(start_together, self.cluster.nodes)
        await self.settled()

    async def settled(self) -> None:
        """Wait until every stream has a leader and current followers."""
        await self.cluster.settled(self.streams)

    async def copy(self) -> None:
        """Copy the folders of all nodes, none of which runs."""
        for node in self.cluster.nodes:
            await asyncio.to_thread(shutil.copytree, node.store, self._copy_of(node))

    async def put_back(self) -> None:
        """Replace the folders of all nodes, none of which runs, by their copies."""
        for node in self.cluster.nodes:
            await asyncio.to_thread(shutil.rmtree, node.store)
            await asyncio.to_thread(shutil.move, self._copy_of(node), node.store)

    def _copy_of(self, node: NatsServer) -> Path:
        return self._folder / "copy" / node.folder.name


@contextlib.asynccontextmanager
async def running_mesh(
    folder: Path, dice: Random, *, edges: int = 2, histories: int = 2
) -> AsyncIterator[tuple[ChaosMesh, Balancer]]:
    """Run a mesh, and a balancer before its edges."""
    with nats_cluster(folder, PARTITIONS, account()) as cluster:
        await cluster.settled()
        mesh = ChaosMesh(folder, cluster, dice, edges=edges, histories=histories)
        try:
            await mesh.start()
            await mesh.settled()
            async with running_balancer(mesh.edges) as balancer:
                yield mesh, balancer
        finally:
            await mesh.stop()
