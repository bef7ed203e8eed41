"""A mesh with presence for tests: nats-server, presence processes, edges; and clients that note joins and leaves."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from tests.support.edges import OPEN, PARTITIONS, PATIENT, EdgeProcess, edge_config, mapping, merged, token
from tests.support.nats_server import NatsServer
from tests.support.ports import free_ports
from tests.support.presence import PresenceProcess, presence_config
from tests.support.raw_client import Clients, RawClient

SEEN: Mapping[str, Any] = {**OPEN, "presence": True, "allow_presence_for_subscriber": True}
NAMESPACES: list[dict[str, Any]] = [
    {"name": "room", **SEEN, "join_leave": True},
    {"name": "loud", **SEEN, "join_leave": True, "force_push_join_leave": True},
    {"name": "calm", **SEEN, "join_leave": True, "join_leave_debounce": "1s"},
    {"name": "few", **SEEN, "presence_max_clients": 2},
    {"name": "shy", **OPEN, "presence": True, "join_leave": True},
    {"name": "open", **SEEN, "allow_presence_for_client": True},
    {"name": "live", **OPEN},
]


class Present:
    """What runs. Replicas of the service are started by `replica`, on ports that are theirs from the beginning."""

    def __init__(self, folder: Path, nats: NatsServer, replicas: int) -> None:
        self.nats = nats
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self.ports = free_ports(replicas)
        self.replicas = [self.replica(number) for number in range(replicas)]
        self.edges: list[EdgeProcess] = []

    def replica(self, number: int) -> PresenceProcess:
        """Start a replica; one that was killed begins anew."""
        changes = {
            "nats": {"partitions": PARTITIONS},
            "channel": {"namespaces": NAMESPACES},
            "presence_service": {"rpc": {"port": self.ports[number]}},
        }
        config = presence_config(self.nats.url, changes)
        return self._stack.enter_context(PresenceProcess(self._folder, config, f"presence-{number}"))

    @property
    def target(self) -> str:
        """Where edges find the replicas."""
        return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in self.ports)

    async def until_ready(self) -> Self:
        """Wait until all replicas answer."""
        for replica in self.replicas:
            await replica.until_ready()
        return self

    def edge(self, name: str, changes: Mapping[str, Any] | None = None) -> EdgeProcess:
        """Start an edge."""
        base = {
            "client": {**PATIENT, "command_rate_limit": 0},  # tests ask until it is so
            "channel": {"namespaces": NAMESPACES},
            "presence": {"target": self.target, "timeout": "3s"},
        }
        config = edge_config(self.nats.url, merged(base, changes or {}))
        edge = EdgeProcess(self._folder / name, config, name=name)
        self.edges.append(self._stack.enter_context(edge))
        return edge

    def close(self) -> None:
        """End all."""
        self._stack.close()


@contextlib.contextmanager
def present_mesh(folder: Path, replicas: int = 1) -> Iterator[Present]:
    """Run nats-server and replicas of the presence service; edges are the test's to start."""
    with NatsServer(folder / "nats", config=mapping()) as nats:
        mesh = Present(folder, nats, replicas)
        try:
            yield mesh
        finally:
            mesh.close()


class Guest:
    """A raw client that notes which joins and leaves it was pushed: (change, client, user) of each, by channel."""

    def __init__(self) -> None:
        self.client: RawClient
        self.id = ""
        self.pushes: list[dict[str, Any]] = []

    def _take(self, line: bytes) -> None:
        self.pushes.append(json.loads(line)["push"])

    @classmethod
    async def open(cls, clients: Clients, edge: EdgeProcess, user: str = "alice", **claims: Any) -> Guest:
        """Connect."""
        guest = cls()
        guest.client = await clients.open(edge.ws_url, guest._take)
        guest.id = (await guest.client.connect(token(user, **claims)))["client"]
        return guest

    async def subscribe(self, channel: str, **fields: Any) -> Guest:
        """Subscribe, which must succeed."""
        reply = await self.client.command(subscribe={"channel": channel, **fields})
        assert "subscribe" in reply, reply
        return self

    async def unsubscribe(self, channel: str) -> None:
        """Unsubscribe."""
        await self.client.command(unsubscribe={"channel": channel})

    async def presence(self, channel: str) -> dict[str, Any]:
        """The members by client, or the error."""
        reply = await self.client.command(presence={"channel": channel})
        return dict(reply["presence"]["presence"] if "presence" in reply else reply["error"])

    async def stats(self, channel: str) -> tuple[int, int]:
        """How many clients and users."""
        reply = (await self.client.command(presence_stats={"channel": channel}))["presence_stats"]
        return reply["num_clients"], reply["num_users"]

    def events(self, channel: str) -> list[tuple[str, str]]:
        """What it was told of others, and itself."""
        found = []
        for push in self.pushes:
            if push["channel"] == channel:
                found += [
                    (change, push[change]["info"]["client"]) for change in ("join", "leave") if change in push
                ]
        return found
