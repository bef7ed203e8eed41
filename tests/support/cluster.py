"""A cluster of real nats-servers with JetStream, whose nodes can be killed, frozen and brought back one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.links import started
from tests.support.nats_server import NatsServer
from tests.support.ports import free_ports
from tests.support.wait import eventually
from tidewire.platform.jetstream import JetStream, JetStreamError
from tidewire.platform.nats_types import LinkError


class NatsCluster:
    """Nodes `n0`, `n1`, ...; as a context manager all run, and are gone on exit. `common` is configuration for each of them."""

    def __init__(self, folder: Path, common: str, size: int = 3) -> None:
        routes, clients = free_ports(size), free_ports(size)
        listed = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        self.nodes = [
            NatsServer(
                folder / f"n{number}",
                config=f"{common}\nserver_name: n{number}\ncluster {{ name: c, listen: 127.0.0.1:{route}, routes: [{listed}] }}\n",
                jetstream=True,
                port=port,
            )
            for number, (route, port) in enumerate(zip(routes, clients, strict=True))
        ]

    @property
    def urls(self) -> Sequence[str]:
        """Where clients connect."""
        return [node.url for node in self.nodes]

    def node(self, name: str) -> NatsServer:
        """Return a node by its name."""
        return self.nodes[int(name.removeprefix("n"))]

    def __enter__(self) -> Self:
        for node in self.nodes:
            node.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes:
            node.kill()

    async def settled(self, streams: Sequence[str] = ()) -> None:
        """Wait until all nodes are in, JetStream answers, and each of these streams has a leader and current followers."""

        async def good() -> bool:
            try:
                return await self._is_good(streams)
            except (JetStreamError, LinkError):
                return False

        await eventually(good, 120, "a settled cluster")

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


def _is_current(cluster: dict[str, Any]) -> bool:
    return bool(cluster.get("leader")) and all(
        each.get("current") and not each.get("offline") for each in cluster.get("replicas", ())
    )
