"""A service's gRPC server, with a health port beside it: started, reloaded, drained and stopped like everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tidewire.platform.certificates import CertificateError
from tidewire.platform.lifecycle import StartError
from tidewire.platform.ports import why_not
from tidewire.platform.rpc_credentials import ServerCertificates, read_server
from tidewire.platform.rpc_library import grpc
from tidewire.platform.rpc_serving import Serving
from tidewire.platform.rpc_standard import Health, add_reflection

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.kernel.clock import Clock
    from tidewire.platform.rpc_options import RpcConfig
    from tidewire.platform.rpc_telemetry import RpcServerMetrics
    from tidewire.platform.tracing import Tracer

MIN_PING_INTERVAL_MS: Final = 5000
"""Between pings of a client; the third that comes sooner closes the connection."""
HEALTH_STREAMS: Final = 16
"""Probes at once on one connection to the health port."""
HEALTH_REQUEST: Final = 1024
"""Bytes of a probe, which holds no more than a service's name."""


class Service(msgspec.Struct, frozen=True):
    """A service by its full name (`package.Service`), and what adds it to a server (a call of the generated `add_..._to_server`)."""

    name: str
    add: Callable[[Any], None]


class RpcServer:
    """A server of unary methods. `port` and `health_port` are known once it has started."""

    def __init__(
        self,
        config: RpcConfig,
        services: Sequence[Service],
        metrics: RpcServerMetrics,
        log: FilteringBoundLogger,
        clock: Clock,
        tracer: Tracer | None = None,
    ) -> None:
        """Open nothing yet; to be called in the running loop."""
        self._config = config
        self._services = services
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._names = [service.name for service in services]
        self._health = Health(self._names)
        self._certificates: ServerCertificates | None = None
        self._server = grpc.aio.server(
            interceptors=[Serving(config, metrics, log, clock, tracer)], options=_options(config)
        )
        self._probes = grpc.aio.server(options=_probe_options())
        self._started = False
        self.port = self.health_port = 0

    async def start(self) -> None:
        """Listen and serve. Raises StartError: a port cannot be had, a certificate cannot be used."""
        credentials = await self._credentials()
        for service in self._services:
            service.add(self._server)
        self._health.add_to([self._server, self._probes])
        if self._config.reflection:
            add_reflection(self._server, self._names)
        self.port = _listen(self._server, self._config.address, self._config.port, credentials, "rpc.port")
        self.health_port = _listen(
            self._probes, self._config.health_address, self._config.health_port, None, "rpc.health_port"
        )
        if credentials is None and not _is_loopback(self._config.address):
            self._log.warning("rpc.open", address=self._config.address, port=self.port, cure="rpc.tls")
        await self._begin()

    def set_serving(self, *, serving: bool) -> None:
        """Tell clients and probes whether to come."""
        self._health.set(serving=serving)

    async def reload(self) -> None:
        """Read the certificates again. One that cannot be used is logged, and the old one stays."""
        if self._certificates is None:
            return
        try:
            pem = await asyncio.to_thread(read_server, self._config.tls, self._clock.wall())
        except CertificateError as error:
            self._log.error("rpc.certificate_refused", side="server", problem=str(error))
            return
        self._certificates.replace(pem)
        self._metrics.certificate_ends = pem.ends

    async def drain(self) -> None:
        """Say NOT_SERVING, go on for `drain_delay`, then end the calls that there are within `drain_timeout`."""
        self._health.end()
        await asyncio.sleep(self._config.drain_delay)
        await self._server.stop(self._config.drain_timeout)
        await self._probes.stop(None)

    async def stop(self) -> None:
        """End at once. gRPC closes no listener of a server that has not begun, as where the other one's port was taken."""
        if not self._started:
            await self._begin()
        await self._server.stop(None)
        await self._probes.stop(None)

    async def _begin(self) -> None:
        self._started = True
        await self._server.start()
        await self._probes.start()

    async def _credentials(self) -> grpc.ServerCredentials | None:
        tls = self._config.tls
        if not tls.cert_file:
            return None
        try:
            pem = await asyncio.to_thread(read_server, tls, self._clock.wall())
        except CertificateError as error:
            raise StartError(f"rpc.tls.{error}") from error
        self._certificates = ServerCertificates(pem)
        self._metrics.certificate_ends = pem.ends
        return self._certificates.credentials()


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _listen(
    server: grpc.aio.Server, address: str, port: int, credentials: grpc.ServerCredentials | None, setting: str
) -> int:
    """Return the port, which `port` may leave open with 0; raises StartError."""
    place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    try:
        if credentials is None:
            return server.add_insecure_port(place)
        return server.add_secure_port(place, credentials)
    except RuntimeError as error:
        raise StartError(
            f"cannot listen on {place} ({setting}): {why_not(address, port) or error}"
        ) from error


def _options(config: RpcConfig) -> list[tuple[str, int]]:
    def ms(seconds: float) -> int:
        return round(seconds * 1000)

    return [
        ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a second server
        ("grpc.max_concurrent_streams", config.max_connection_streams),
        ("grpc.max_receive_message_length", config.max_request_size),
        ("grpc.max_send_message_length", config.max_reply_size),
        ("grpc.max_connection_age_ms", ms(config.max_connection_age)),
        ("grpc.max_connection_age_grace_ms", ms(config.max_connection_age_grace)),
        ("grpc.keepalive_time_ms", ms(config.keepalive_interval)),
        ("grpc.keepalive_timeout_ms", ms(config.keepalive_timeout)),
        # A ping for flow control would otherwise be waited for a minute, and keepalive's own stand behind it.
        ("grpc.http2.ping_timeout_ms", ms(config.keepalive_timeout)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
    ]


def _probe_options() -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", HEALTH_STREAMS),
        ("grpc.max_receive_message_length", HEALTH_REQUEST),
        ("grpc.max_connection_age_ms", 60_000),
        ("grpc.max_connection_age_grace_ms", 5_000),
    ]
