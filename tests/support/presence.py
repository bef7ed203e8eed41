"""Presence processes for tests: `python -m tidewire presence` on free ports, and clients of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from tests.fakes.log import RecordingLog
from tests.support.edges import merged
from tests.support.history import HistoryProcess
from tests.support.wait import eventually
from tidewire.kernel.clock import SystemClock
from tidewire.kernel.config import decode
from tidewire.platform.rpc_client import RpcClient
from tidewire.platform.rpc_client_options import RpcClientConfig
from tidewire.platform.rpc_telemetry import RpcClientMetrics
from tidewire.rpc.presence.v1 import presence_pb2 as pb

FEW = 2
"""Partitions."""
CONFIG: dict[str, Any] = {
    "log": {"format": "json"},
    "channel": {
        "namespaces": [
            {"name": "room", "presence": True, "join_leave": True},
            {"name": "quiet", "presence": True},
        ]
    },
    "presence_service": {
        "internal_port": 0,
        "listening_time": "1s",
        "rpc": {"port": 0, "health_port": 0, "drain_delay": 0, "drain_timeout": "2s"},
    },
}
METHODS = {"Members": pb.MembersReply, "Stats": pb.StatsReply, "UserStatus": pb.UserStatusReply}


def presence_config(nats_url: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the configuration of a presence process on a NATS server."""
    base = merged(CONFIG, {"nats": {"urls": [nats_url], "partitions": FEW, "connect_timeout": "2s"}})
    return merged(base, changes or {})


class PresenceProcess(HistoryProcess):
    """One presence process; `start` blocks until it listens, `is_ready` says whether it answers."""

    command = "presence"
    section = "presence_service"
    told = ".started"

    async def is_ready(self) -> bool:
        """Whether it answers."""
        return (await self.ready()).status == 200

    async def until_ready(self) -> None:
        """Wait for that."""
        await eventually(self.is_ready)


class PresenceClient:
    """Calls presence processes by gRPC; by default one attempt for each call."""

    def __init__(self, *ports: int, timeout: str = "5s", **settings: Any) -> None:
        target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
        log: Any = RecordingLog()
        options = {"target": target, "timeout": timeout, "close_timeout": 0, "attempts": 1, **settings}
        names = [f"/tidewire.rpc.presence.v1.Presence/{name}" for name in METHODS] if settings else []
        config = decode(RpcClientConfig, options)
        self.rpc = RpcClient(config, names, RpcClientMetrics(), log, SystemClock())

    async def start(self) -> None:
        """Have the methods."""
        await self.rpc.start()
        self._methods: dict[str, Any] = {
            name: self.rpc.unary_unary(
                f"/tidewire.rpc.presence.v1.Presence/{name}",
                lambda request: request.SerializeToString(),
                reply.FromString,
            )
            for name, reply in METHODS.items()
        }

    async def members(self, *channels: str, limit: int = 0) -> list[Any]:
        """Return the members of each channel as the reply has them."""
        return list(
            (await self._methods["Members"](pb.MembersRequest(channels=channels, limit=limit))).channels
        )

    async def clients(self, channel: str) -> set[str]:
        """Return the client ids in a channel."""
        (found,) = await self.members(channel)
        assert found.clients == len(found.members)
        return {member.client for member in found.members}

    async def stats(self, *channels: str) -> list[Any]:
        """Return (clients, users) of each, or the problem."""
        reply = await self._methods["Stats"](pb.StatsRequest(channels=channels))
        return [each.problem or (each.clients, each.users) for each in reply.channels]

    async def users(self, *users: str) -> list[Any]:
        """Return the statuses."""
        return list((await self._methods["UserStatus"](pb.UserStatusRequest(users=users))).users)


@contextlib.asynccontextmanager
async def client_of(
    *processes: PresenceProcess, timeout: str = "5s", **settings: Any
) -> AsyncIterator[PresenceClient]:
    """Yield a client of these processes."""
    client = PresenceClient(*(process.port for process in processes), timeout=timeout, **settings)
    await client.start()
    try:
        yield client
    finally:
        await client.rpc.close()
