"""The rate-limit service put together: the only module that knows every part, and the process's start, drain and end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from secrets import token_hex
from socket import gethostname
from typing import TYPE_CHECKING, Final

from tidewire import __version__
from tidewire.kernel.clock import SystemClock
from tidewire.platform import logs
from tidewire.platform.garbage import settle
from tidewire.platform.health import internal_app
from tidewire.platform.http import Listener, ListenError, http_protocol, listen
from tidewire.platform.lifecycle import StartError
from tidewire.platform.metrics import Registry
from tidewire.platform.reload import Reloader
from tidewire.platform.rpc_server import RpcServer
from tidewire.platform.rpc_telemetry import RpcServerMetrics
from tidewire.platform.tasks import ended
from tidewire.platform.tracing import create_tracer
from tidewire.ratelimit.envoy import EnvoyServicer
from tidewire.ratelimit.places import Places
from tidewire.ratelimit.rulebook import Rulebook
from tidewire.ratelimit.servicer import RateLimitServicer
from tidewire.ratelimit.telemetry import metrics_of

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.options.rate_limit_options import RateLimitsConfig
    from tidewire.platform.tracing import Tracer
    from tidewire.ratelimit.config import RateLimitConfig

TICK: Final = 0.25
"""Seconds between two looks at what is over."""


class RateLimitService:
    """One rate-limit process; implements `lifecycle.App`. `load` reads and checks the configuration again, for a reload."""

    def __init__(
        self, config: RateLimitConfig, log: FilteringBoundLogger, load: Callable[[], RateLimitConfig]
    ) -> None:
        own = config.rate_limit_service
        self._node = own.node_name or f"{gethostname()}-{token_hex(3)}"
        self._log = log.bind(node=self._node)
        self._unready: str | None = "starting"
        clock = self._clock = SystemClock()
        self._reloader = Reloader(config, load, self._configure, self._log, clock.wall)
        self._rpc_metrics = RpcServerMetrics()
        self._rulebook = Rulebook(config.rate_limits, own.max_keys)
        self._places = Places(_limits(config.rate_limits), lambda: token_hex(8), clock.monotonic())
        self._servicer = RateLimitServicer(self._rulebook, self._places, clock.monotonic)
        self._tracing = self._create_tracing(config)
        services = [self._servicer.service(), EnvoyServicer(self._rulebook, clock.monotonic).service()]
        self._rpc = RpcServer(own.rpc, services, self._rpc_metrics, self._log, clock, self._tracing)
        self._internal: Listener | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def _create_tracing(self, config: RateLimitConfig) -> Tracer | None:
        resource = {"service.instance.id": self._node, "service.version": __version__}
        try:
            return create_tracer(config.tracing, resource, self._clock, self._log)
        except OSError as error:
            raise StartError(f"tracing.ca_file cannot be used ({error})") from error

    def _configure(self, config: RateLimitConfig) -> None:
        """Put a configuration in force that differs in reloadable settings only."""
        self._rulebook.configure(config.rate_limits, config.rate_limit_service.max_keys)
        self._places.configure(_limits(config.rate_limits))
        logs.set_level(config.log.level)

    # lifecycle.App

    async def start(self) -> None:
        """Serve. Raises StartError with one clear line."""
        own, registry = self._reloader.config.rate_limit_service, Registry()
        self._register(registry)
        try:
            pages = http_protocol(internal_app(registry, lambda: self._unready))
            self._internal = await listen(
                pages, own.internal_address, own.internal_port, "rate_limit_service.internal_port"
            )
        except ListenError as error:
            raise StartError(str(error)) from error
        settle()
        await self._rpc.start()
        self._unready = None
        self._begin(self._turn())
        self._log.info(
            "ratelimit.ready",
            version=__version__,
            port=self._rpc.port,
            health_port=self._rpc.health_port,
            internal_port=self._internal.port,
            rules=len(self._rulebook.rules),
        )

    def reload(self) -> None:
        """Take the configuration as it is now, soon, and read certificates again."""
        self._reloader.request()
        self._begin(self._rpc.reload())

    async def drain(self) -> None:
        """Not serving, but answering for `rpc.drain_delay`; then the calls that there are end."""
        self._unready = "draining"
        self._reloader.close(self._unready)
        await self._rpc.drain()
        self._log.info("ratelimit.drained")

    async def stop(self) -> None:
        """End everything at once."""
        self._unready = "stopped"
        self._reloader.stop()
        await ended(self._tasks)
        await self._rpc.stop()
        if self._internal is not None:
            self._internal.close()
        if self._tracing is not None:
            await self._tracing.close(self._log)

    # its state

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _register(self, registry: Registry) -> None:
        registry.add(metrics_of(self._rulebook, self._places, self._servicer, self._clock.monotonic))
        registry.add(self._rpc_metrics.all())
        registry.add(self._reloader.metrics())
        if self._tracing is not None:
            registry.add([self._tracing.spans])

    async def _turn(self) -> None:
        while True:
            now = self._clock.monotonic()
            self._places.look(now)
            self._rulebook.sweep(now)
            await asyncio.sleep(TICK)


def _limits(config: RateLimitsConfig) -> dict[str, int]:
    return {rule.name: rule.limit for rule in config.connections}
