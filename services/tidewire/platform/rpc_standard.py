"""The services that every gRPC server has: `grpc.health.v1.Health`, and reflection for tools such as grpcurl."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

# isort: off
from tidewire.platform.rpc_library import grpc  # before the others, which import the library, too

from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
# isort: on

HEALTH: Final = "grpc.health.v1.Health"


class Health(health_pb2_grpc.HealthServicer):
    """What is said of services, by name, and of the server as a whole (""). It begins with all of them serving.

    The library's own servicer holds a lock while it writes to a watcher, so that one who opens no window for the answer
    keeps the status from changing, and the server from its drain. Here nobody waits for a watcher.
    """

    def __init__(self, services: Sequence[str]) -> None:
        self._names = ("", *services)
        self._serving = True
        self._over = False
        self._changed = asyncio.Event()

    def add_to(self, servers: Sequence[grpc.aio.Server]) -> None:
        """Serve from these servers, which have not started."""
        for server in servers:
            health_pb2_grpc.add_HealthServicer_to_server(self, server)

    def set(self, *, serving: bool) -> None:
        """Say the same of all. Clients that check health hear a change at once, and send calls elsewhere."""
        if self._over or serving is self._serving:
            return
        self._serving = serving
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def end(self) -> None:
        """Say NOT_SERVING from now on."""
        self.set(serving=False)
        self._over = True

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802, ANN401 - as the protocol names it
        """Tell how a service is; NOT_FOUND for one that is not here."""
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802, ANN401
        """Tell how a service is, and again whenever it changes; what is missed between two writes is no news."""
        told = None
        while True:
            changed, status = self._changed, self._status(request.service)
            if status != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            await changed.wait()

    def _status(self, service: str) -> int:
        statuses = health_pb2.HealthCheckResponse
        if service not in self._names:
            return int(statuses.SERVICE_UNKNOWN)
        return int(statuses.SERVING if self._serving else statuses.NOT_SERVING)


def add_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Let a server tell what it serves."""
    reflection.enable_server_reflection((*services, HEALTH, reflection.SERVICE_NAME), server)
