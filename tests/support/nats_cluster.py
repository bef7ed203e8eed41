"""Three real nats-servers that are one cluster with JetStream, for one test."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.edges import mapping
from tests.support.nats_server import READY_TIMEOUT, NatsServer
from tests.support.ports import free_ports

NODES = 3


class NatsCluster:
    """The nodes, in order; each can be killed, stopped, paused and started like any server."""

    def __init__(self, nodes: list[NatsServer]) -> None:
        self.nodes = nodes

    @property
    def urls(self) -> list[str]:
        """Where clients connect."""
        return [node.url for node in self.nodes]


@contextlib.contextmanager
def nats_cluster(folder: Path, partitions: int) -> Iterator[NatsCluster]:
    """Start the nodes, wait until they have a leader, and end them."""
    routes = free_ports(NODES)
    peers = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
    with contextlib.ExitStack() as stack:
        nodes = [
            NatsServer(
                folder / f"n{number}",
                config=f"server_name: n{number}\n{mapping(partitions)}\n"
                f'cluster {{ name: c, listen: "127.0.0.1:{port}", routes: [{peers}] }}\n',
                jetstream=True,
            )
            for number, port in enumerate(routes)
        ]
        for node in nodes:
            stack.enter_context(node)
        _until_led(nodes)
        yield NatsCluster(nodes)


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
