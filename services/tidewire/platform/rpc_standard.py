"""The services that every gRPC server has: `grpc.health.v1.Health`, and reflection for tools such as grpcurl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# isort: off
from tidewire.platform.rpc_library import grpc  # before the others, which import the library, too

from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection
# isort: on

HEALTH: Final = "grpc.health.v1.Health"


class Health:
    """What is said of services, by name, and of the server as a whole (""). It begins with all of them serving."""

    def __init__(self, services: Sequence[str]) -> None:
        self._names = ("", *services)
        self._servicer = health.HealthServicer()

    async def add_to(self, servers: Sequence[grpc.aio.Server]) -> None:
        """Serve from these servers, which have not started."""
        for server in servers:
            health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        await self.set(serving=True)

    async def set(self, *, serving: bool) -> None:
        """Say the same of all. Clients that check health hear it at once, and send calls elsewhere."""
        statuses = health_pb2.HealthCheckResponse
        for name in self._names:
            await self._servicer.set(name, statuses.SERVING if serving else statuses.NOT_SERVING)

    async def end(self) -> None:
        """Say NOT_SERVING from now on."""
        await self._servicer.enter_graceful_shutdown()


def add_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Let a server tell what it serves."""
    reflection.enable_server_reflection((*services, HEALTH, reflection.SERVICE_NAME), server)
