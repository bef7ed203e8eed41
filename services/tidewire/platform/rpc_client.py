"""A client of one gRPC service: spread over its healthy replicas, and never more patient than it was told to be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection
from random import Random
from typing import TYPE_CHECKING, Any, Final

from tidewire.kernel.call_errors import BUSY_HERE, UNAVAILABLE, CallError
from tidewire.kernel.retries import Retries
from tidewire.kernel.subjects import encode_token
from tidewire.platform import rpc_tracing
from tidewire.platform.certificates import CertificateError
from tidewire.platform.lifecycle import StartError
from tidewire.platform.rpc_call import CALLER, Method, Reply, Request
from tidewire.platform.rpc_client_options import RpcClientConfig, retry_policy
from tidewire.platform.rpc_credentials import channel_credentials, read_client
from tidewire.platform.rpc_library import grpc

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.kernel.clock import Clock
    from tidewire.platform.rpc_credentials import Pem
    from tidewire.platform.rpc_telemetry import RpcClientMetrics
    from tidewire.platform.tracing import Tracer

SERVICE_CONFIG: Final = json.dumps(
    {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
)
"""Calls go in turn to each replica whose health is SERVING. Retries are ours: those of the library have no count."""
RECONNECT_MS: Final = 100
"""Least pause before a replica that does not answer is tried again; it grows up to `retry_within`. gRPC's own goes up to two minutes."""
ATTEMPT_MS: Final = 5000
"""How long one attempt to connect may take."""
RETRY_WITHIN: Final = 5.0
LOOK_UP_MS: Final = 1000
"""Least time between two look-ups of a name; gRPC's own is half a minute."""


class RpcClient:
    """Stands where a generated stub wants a channel (`PresenceStub(client)`). Implements `rpc_telemetry.Measured`.

    `repeatable` are the paths (`/package.Service/Method`) of the methods that may be carried out twice; `retry_within` the
    seconds after which a replica that does not answer is tried again at the latest, give or take a fifth.
    """

    def __init__(
        self,
        config: RpcClientConfig,
        repeatable: Collection[str],
        metrics: RpcClientMetrics,
        log: FilteringBoundLogger,
        clock: Clock,
        tracer: Tracer | None = None,
        caller: str = "",
        retry_within: float = RETRY_WITHIN,
    ) -> None:
        """Connect to nothing yet. `caller` is what this process is called, "" where it does not say."""
        self.target = config.target
        self.timeout = float(config.timeout)
        self.in_flight = 0
        self.metrics = metrics
        self.tracer = tracer
        self.introduction: rpc_tracing.Pairs = ((CALLER, encode_token(caller)),) if caller else ()
        self.now = clock.monotonic
        self.retries = Retries(retry_policy(config), Random().random)  # noqa: S311 - spreads load, protects nothing
        self.certificate_ends: float | None = None
        self._config = config
        self._retry_within = retry_within
        self._repeatable = frozenset(repeatable)
        self._log = log
        self._clock = clock
        self._methods: list[Method[Any, Any]] = []
        self._channel: grpc.aio.Channel | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> str:
        """The state of the channel as gRPC names it, in lower case."""
        if self._channel is None:
            return "shutdown"
        return self._channel.get_state().name.lower()

    async def start(self) -> None:
        """Begin to connect, without waiting for it. Raises StartError: a certificate cannot be used."""
        try:
            self._open(await self._read())
        except CertificateError as error:
            raise StartError(f"{self.target}: tls.{error}") from error
        self.metrics.clients.append(self)

    async def reload(self) -> None:
        """Read the certificates again and connect anew with them; calls that are under way end where they are.

        Files that cannot be used are logged, and the old ones stay.
        """
        if not self._config.tls.ca_file or self._channel is None:
            return
        try:
            pem = await self._read()
        except CertificateError as error:
            self._log.error("rpc.certificate_refused", side=self.target, problem=str(error))
            return
        old = self._channel
        self._open(pem)
        closing = asyncio.ensure_future(old.close(self._config.close_timeout))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Make no further calls; those under way may end within `close_timeout`."""
        if self._channel is None:
            return
        channel, self._channel = self._channel, None
        self.metrics.clients.remove(self)
        await asyncio.gather(channel.close(self._config.close_timeout), *self._closing)

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Request], bytes] | None = None,
        response_deserializer: Callable[[bytes], Reply] | None = None,
        _registered_method: bool = False,  # noqa: FBT002 - as generated stubs call it
    ) -> Method[Request, Reply]:
        """Return a method, as `grpc.aio.Channel` does; after `start`."""
        made = Method(
            self, method, request_serializer, response_deserializer, repeatable=method in self._repeatable
        )
        made.bind(self._connected)
        self._methods.append(made)
        return made

    def admit(self) -> None:
        """Raise CallError where a call may not be made."""
        if self._channel is None:
            raise CallError(UNAVAILABLE, "the client is closed")
        if self.in_flight > self._config.max_in_flight:
            raise CallError(BUSY_HERE, f"{self._config.max_in_flight} calls to {self.target} are under way")

    @property
    def _connected(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise AssertionError("a client that has not started, or is closed")
        return self._channel

    async def _read(self) -> Pem | None:
        tls = self._config.tls
        return await asyncio.to_thread(read_client, tls, self._clock.wall()) if tls.ca_file else None

    def _open(self, pem: Pem | None) -> None:
        options = _options(self._config, self._retry_within)
        if pem is None:
            self._channel = grpc.aio.insecure_channel(self.target, options)
        else:
            self._channel = grpc.aio.secure_channel(self.target, channel_credentials(pem), options)
            self.certificate_ends = pem.ends
        self._channel.get_state(try_to_connect=True)
        for method in self._methods:
            method.bind(self._channel)


def _options(config: RpcClientConfig, retry_within: float) -> list[tuple[str, str | int]]:
    def ms(seconds: float) -> int:
        return round(seconds * 1000)

    found: list[tuple[str, str | int]] = [
        ("grpc.service_config", SERVICE_CONFIG),
        ("grpc.service_config_disable_resolution", 1),  # nobody changes it by DNS
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),  # a reload gets connections of its own
        ("grpc.dns_min_time_between_resolutions_ms", LOOK_UP_MS),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS),
        ("grpc.min_reconnect_backoff_ms", ATTEMPT_MS),  # as gRPC calls it
        ("grpc.max_reconnect_backoff_ms", ms(retry_within)),
        ("grpc.max_send_message_length", config.max_request_size),
        ("grpc.max_receive_message_length", config.max_reply_size),
        ("grpc.keepalive_time_ms", ms(config.keepalive_interval)),
        ("grpc.keepalive_timeout_ms", ms(config.keepalive_timeout)),
        # A ping for flow control would otherwise be waited for a minute, and keepalive's own stand behind it.
        ("grpc.http2.ping_timeout_ms", ms(config.keepalive_timeout)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    if config.tls.server_name:
        found.append(("grpc.ssl_target_name_override", config.tls.server_name))
    return found
