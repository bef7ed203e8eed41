"""Three real nats-servers that are one cluster with JetStream, for one test."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.support.edges import mapping
from tests.support.http import request
from tests.support.links import started
from tests.support.nats_server import READY_TIMEOUT, NatsServer
from tests.support.ports import free_ports
from tests.support.wait import eventually
from tidewire.platform.jetstream import JetStream, JetStreamError
from tidewire.platform.nats_types import LinkError

NODES = 3


class Ports(msgspec.Struct, frozen=True):
    """Of each node: where other nodes connect, and where it says whether it is well."""

    routes: list[int]
    monitors: list[int]


class NatsCluster:
    """The nodes, in order; each can be killed, stopped, paused and started like any server."""

    def __init__(self, nodes: list[NatsServer], ports: Ports) -> None:
        self.nodes = nodes
        self._ports = ports

    def config(self, number: int, body: str) -> str:
        """Return the configuration of a node: `body`, and what makes it this node of this cluster."""
        return _config(number, self._ports, body)

    def reload(self, body: str) -> None:
        """Have all running nodes read a new configuration."""
        for number, node in enumerate(self.nodes):
            node.reload(self.config(number, body))

    @property
    def urls(self) -> list[str]:
        """Where clients connect."""
        return [node.url for node in self.nodes]

    def node(self, name: str) -> NatsServer:
        """Return a node by its name."""
        return self.nodes[int(name.removeprefix("n"))]

    async def settled(self, streams: Sequence[str] = ()) -> None:
        """Wait until all nodes are in, JetStream answers, and each of these streams has a leader and current followers.

        Each running node says of itself that it has caught up, too: to a leader, a follower that has been started again is
        as current as it was before, until the stream's next message, although its log in memory is empty.
        """

        async def good() -> bool:
            try:
                return await self.healthy() and await self._is_good(streams)
            except (JetStreamError, LinkError):
                return False

        await eventually(good, 120, "a settled cluster")

    async def healthy(self) -> bool:
        """Whether each node that runs has caught up with all that it holds a copy of, as its /healthz says."""
        running = (number for number, node in enumerate(self.nodes) if node.running)
        return all([await _is_healthy(self._ports.monitors[number]) for number in running])

    async def _is_good(self, streams: Sequence[str]) -> bool:
        async with started(self._running.url) as (link, _):
            js = JetStream(link, timeout=2)
            await js.call("INFO")
            clusters = [(await js.call(f"STREAM.INFO.{stream}")).get("cluster", {}) for stream in streams]
        return all(_is_current(cluster) for cluster in clusters)

    async def led(self, streams: Sequence[str]) -> None:
        """Wait until each of these streams has a leader that runs, though not all followers may be there."""
        for stream in streams:
            await eventually(lambda stream=stream: self._has_leader(stream), 60, f"a leader of {stream}")

    async def _has_leader(self, stream: str) -> bool:
        return (await self.leader(stream)).running

    async def leader(self, stream: str) -> NatsServer:
        """Return the node that leads a stream."""
        found: list[NatsServer] = []

        async def led() -> bool:
            try:
                async with started(self._running.url) as (link, _):
                    cluster = (await JetStream(link, timeout=2).call(f"STREAM.INFO.{stream}"))["cluster"]
            except (JetStreamError, LinkError):
                return False
            found[:] = [self.node(cluster["leader"])] if cluster.get("leader") else []
            return bool(found)

        await eventually(led, 60, f"a leader of {stream}")
        return found[0]

    @property
    def _running(self) -> NatsServer:
        return next(node for node in self.nodes if node.running)


@contextlib.contextmanager
def nats_cluster(folder: Path, partitions: int, body: str = "") -> Iterator[NatsCluster]:
    """Start the nodes, wait until they have a leader, and end them. `body` is their configuration, or just the mapping."""
    free = free_ports(2 * NODES)
    ports = Ports(routes=free[:NODES], monitors=free[NODES:])
    with contextlib.ExitStack() as stack:
        nodes = [
            NatsServer(
                folder / f"n{number}",
                config=_config(number, ports, body or mapping(partitions)),
                jetstream=True,
            )
            for number in range(NODES)
        ]
        for node in nodes:
            stack.enter_context(node)
        _until_led(nodes)
        yield NatsCluster(nodes, ports)


def _config(number: int, ports: Ports, body: str) -> str:
    """Clients are not told of other nodes, so that a test knows all their ways."""
    peers = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports.routes)
    return (
        f'server_name: n{number}\nhttp: "127.0.0.1:{ports.monitors[number]}"\n{body}\n'
        f'cluster {{ name: c, listen: "127.0.0.1:{ports.routes[number]}", routes: [{peers}], no_advertise: true }}\n'
    )


def start_together(nodes: list[NatsServer]) -> None:
    """Start nodes that were stopped: none of them leads before the others are there."""
    for node in nodes:
        node.start()


def _until_led(nodes: list[NatsServer]) -> None:
    """A leader of the cluster's own says so in its log."""
    end = time.monotonic() + READY_TIMEOUT
    while not any("JetStream cluster new metadata leader" in node.log for node in nodes):
        assert time.monotonic() < end, "the cluster found no leader"
        time.sleep(0.05)


async def _is_healthy(monitor: int) -> bool:
    try:
        return (await request(f"http://127.0.0.1:{monitor}/healthz", timeout=2)).status == 200
    except (OSError, TimeoutError):
        return False


def _is_current(cluster: dict[str, Any]) -> bool:
    return bool(cluster.get("leader")) and all(
        each.get("current") and not each.get("offline") for each in cluster.get("replicas", ())
    )
