"""A whole mesh that may lose any of its processes: a NATS cluster, edges behind a balancer, and history services."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.support.balancer import Balancer, running_balancer
from tests.support.checker import record
from tests.support.continuity import Continuity
from tests.support.edges import OPEN, PATIENT, EdgeProcess, edge_config
from tests.support.history import HistoryProcess
from tests.support.links import started
from tests.support.nats_cluster import NatsCluster, nats_cluster
from tests.support.ports import free_ports
from tests.support.storage import migrated
from tidewire.kernel.streams import GENERATION, epoch_of, stream_name
from tidewire.kernel.subjects import channel_of
from tidewire.platform.jetstream import JetStream, JetStreamError

PARTITIONS = 4
NAMESPACE = {
    "name": "chat",
    "history_size": 5000,
    "history_ttl": "1h",
    "recovery_max_publication_limit": 5000,
    "force_recovery": True,
    **OPEN,
}


class ChaosMesh:
    """Made by `running_mesh`."""

    def __init__(self, folder: Path, cluster: NatsCluster, edges: int, histories: int) -> None:
        self.cluster = cluster
        ports = free_ports(2 * edges + 3 * histories)
        self._config = edge_config(
            cluster.urls[0],
            {
                "nats": {"urls": list(cluster.urls), "partitions": PARTITIONS},
                "client": PATIENT,
                "channel": {"namespaces": [NAMESPACE]},
                "storage": {
                    "profiles": [{"name": "default", "replicas": len(cluster.nodes), "max_messages": 100_000}]
                },
                "history": {
                    "target": "ipv4:" + ",".join(f"127.0.0.1:{ports[3 * n]}" for n in range(histories))
                },
            },
        )
        self.histories = [
            HistoryProcess(folder / "history", self._of_history(ports[3 * n : 3 * n + 3]), f"history-{n}")
            for n in range(histories)
        ]
        rest = ports[3 * histories :]
        self._folder = folder
        self._ports = [(rest[2 * n], rest[2 * n + 1]) for n in range(edges)]
        self.edges = [self._edge(n) for n in range(edges)]

    def _of_history(self, ports: list[int]) -> dict[str, Any]:
        port, health, internal = ports
        rpc = {"port": port, "health_port": health, "drain_delay": 0, "drain_timeout": "2s"}
        return {**self._config, "history_service": {"internal_port": internal, "rpc": rpc}}

    def _edge(self, number: int) -> EdgeProcess:
        port, internal = self._ports[number]
        config = {**self._config, "http": {"port": port, "internal_port": internal}}
        return EdgeProcess(self._folder / "edge", config, name=f"edge-{number}")

    @property
    def streams(self) -> list[str]:
        """The names of all streams."""
        return [stream_name("default", number) for number in range(PARTITIONS)]

    async def start(self) -> None:
        """Make the streams, then start everything."""
        self._folder.mkdir(parents=True, exist_ok=True)
        code, out, errors = await asyncio.to_thread(migrated, self._folder, self._config)
        assert code == 0, (out, errors)
        await asyncio.gather(*(asyncio.to_thread(each.start) for each in (*self.histories, *self.edges)))

    def stop(self) -> None:
        """End everything on the spot."""
        for each in (*self.edges, *self.histories):
            each.kill()

    async def replace_edge(self, number: int) -> None:
        """Start an edge that was killed, at the ports it had."""
        self.edges[number] = self._edge(number)
        await asyncio.to_thread(self.edges[number].start)

    # What the streams hold.

    async def read_streams(self, log: Continuity) -> int:
        """Tell the log all that is stored, and return how much that is."""
        node = next(node for node in self.cluster.nodes if node.running)
        count = 0
        async with started(node.url) as (link, _):
            js = JetStream(link)
            for stream in self.streams:
                info = await js.call(f"STREAM.INFO.{stream}")
                epoch = epoch_of(
                    stream, info["created"], int(info["config"]["metadata"].get(GENERATION, "0"))
                )
                async for message in _messages(js, stream, info["state"]):
                    channel = channel_of(message["subject"].encode(), PARTITIONS)
                    assert channel is not None
                    data = json.loads(base64.b64decode(message["data"]))
                    log.stored(record(channel, data, epoch=epoch, offset=message["seq"]))
                    count += 1
        return count


async def _messages(js: JetStream, stream: str, state: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    for sequence in range(max(1, state["first_seq"]), state["last_seq"] + 1):
        with contextlib.suppress(JetStreamError):  # none at this sequence
            yield (await js.call(f"STREAM.MSG.GET.{stream}", {"seq": sequence}))["message"]


@contextlib.asynccontextmanager
async def running_mesh(
    folder: Path, *, edges: int = 2, histories: int = 2
) -> AsyncIterator[tuple[ChaosMesh, Balancer]]:
    """Run a mesh, and a balancer before its edges."""
    with nats_cluster(folder, PARTITIONS) as cluster:
        await cluster.settled()
        mesh = ChaosMesh(folder, cluster, edges, histories)
        try:
            await mesh.start()
            await cluster.settled(mesh.streams)
            async with running_balancer(mesh.edges) as balancer:
                yield mesh, balancer
        finally:
            mesh.stop()
