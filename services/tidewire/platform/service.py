"""The life of a service's process, from top to bottom: what it is made of, its start, its reload, its drain and its end.

What a service is of its own is its `Core`; this is everything around it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, Protocol, TypeVar

from tidewire import __version__
from tidewire.kernel.clock import SystemClock
from tidewire.platform import logs
from tidewire.platform.garbage import settle
from tidewire.platform.health import internal_app
from tidewire.platform.http import Listener, ListenError, http_protocol, listen
from tidewire.platform.lifecycle import StartError, node_name
from tidewire.platform.metrics import Registry
from tidewire.platform.nats_types import LinkError
from tidewire.platform.reload import Reloader
from tidewire.platform.rpc_server import RpcServer, Service
from tidewire.platform.rpc_telemetry import RpcServerMetrics
from tidewire.platform.service_options import ProcessConfig
from tidewire.platform.tasks import ended
from tidewire.platform.tracing import create_tracer

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.kernel.clock import Clock

C = TypeVar("C", bound=ProcessConfig)
C_contra = TypeVar("C_contra", bound=ProcessConfig, contravariant=True)

SERVE_CHECK: Final = 0.05
"""Seconds between two looks at whether it can serve, for those who are told by gRPC."""


class Surroundings(NamedTuple):
    """What a core finds around it: its process's name, a log that says it, and the time."""

    node: str
    log: FilteringBoundLogger
    clock: Clock


class Core(Protocol[C_contra]):
    """What a service does. Made before the start: then nothing is opened, and StartError says what cannot be used."""

    @property
    def services(self) -> Sequence[Service]:
        """What it serves by gRPC."""

    def register(self, registry: Registry) -> None:
        """Expose what it counts."""

    async def start(self) -> None:
        """Have what it needs before it can serve. Raises StartError or LinkError."""

    async def run(self) -> None:
        """Work from its start on, until it is cancelled. What it raises ends the process."""

    def started(self, **process: object) -> None:
        """Say in the log that it serves; `process` says of which version, and on which ports."""

    def why_unready(self) -> str | None:
        """Return why it cannot serve now. None: it can."""

    def configure(self, config: C_contra) -> None:
        """Put a configuration in force that differs in reloadable settings only."""

    async def close(self) -> None:
        """Let go of what it has, at once; also where it has not started."""


class ServiceProcess(Generic[C]):
    """One process of a service; implements `lifecycle.App`."""

    def __init__(
        self,
        create: Callable[[C, Surroundings], Core[C]],
        config: C,
        log: FilteringBoundLogger,
        load: Callable[[], C],
    ) -> None:
        """Open nothing yet. `load` reads and checks the configuration again, for a reload. Raises StartError."""
        own, clock = config.own, SystemClock()
        node = node_name(own.node_name)
        self._config = config
        self._log = log.bind(node=node)
        self._unready: str | None = "starting"
        self._core = create(config, Surroundings(node, self._log, clock))
        self._reloader = Reloader(config, load, self._configure, self._log, clock.wall)
        self._tracing = create_tracer(config.tracing, node, clock, self._log)
        self._rpc_metrics = RpcServerMetrics()
        self._rpc = RpcServer(
            own.rpc, self._core.services, self._rpc_metrics, self._log, clock, self._tracing
        )
        self._internal: Listener | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._working: asyncio.Task[None]
        self._looking: asyncio.Task[None]

    async def start(self) -> None:
        """Answer probes, have what the core needs, let it work, serve. Raises StartError with one clear line."""
        try:
            self._internal = await self._open_internal()
            await self._core.start()
        except (ListenError, LinkError) as error:
            raise StartError(str(error)) from error
        self._working = self._begin(self._core.run())
        settle()
        self._rpc.set_serving(serving=False)
        await self._rpc.start()
        self._unready = None
        self._looking = self._begin(self._look())
        self._core.started(
            version=__version__,
            port=self._rpc.port,
            health_port=self._rpc.health_port,
            internal_port=self._internal.port,
        )

    async def work(self) -> None:
        """See lifecycle.App. The core's work goes on while this is cancelled: it is needed until the end of the drain."""
        ended_first, _ = await asyncio.wait(
            {self._working, self._looking}, return_when=asyncio.FIRST_COMPLETED
        )
        for task in ended_first:
            task.result()
        raise AssertionError("the work of a service has ended")

    def reload(self) -> None:
        """Take the configuration as it is now, soon, and read certificates again."""
        self._reloader.request()
        self._begin(self._rpc.reload())

    async def drain(self) -> None:
        """Not serving, but answering for `rpc.drain_delay`; then the calls that there are end."""
        self._unready = "draining"
        self._reloader.close(self._unready)
        await self._rpc.drain()
        self._log.info(f"{self._config.service}.drained")

    async def stop(self) -> None:
        """End everything at once."""
        self._unready = "stopped"
        self._reloader.stop()
        await ended(self._tasks)
        await self._rpc.stop()
        if self._internal is not None:
            self._internal.close()
        await self._core.close()
        if self._tracing is not None:
            await self._tracing.close(self._log)

    # what these consist of

    async def _open_internal(self) -> Listener:
        """Answer probes and scrapes from now on. Raises ListenError."""
        registry, own = Registry(), self._config.own
        self._core.register(registry)
        registry.add(self._rpc_metrics.all())
        registry.add(self._reloader.metrics())
        if self._tracing is not None:
            registry.add([self._tracing.spans])
        pages = http_protocol(internal_app(registry, self._why_unready))
        setting = f"{self._config.section}.internal_port"
        return await listen(pages, own.internal_address, own.internal_port, setting)

    def _why_unready(self) -> str | None:
        """Return why no traffic should come (None: it should); who watches it by gRPC hears the same, and no later."""
        why = self._unready or self._core.why_unready()
        self._rpc.set_serving(serving=why is None)
        return why

    async def _look(self) -> None:
        while True:
            self._why_unready()
            await asyncio.sleep(SERVE_CHECK)

    def _configure(self, config: C) -> None:
        self._core.configure(config)
        logs.set_level(config.log.level)

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Let something go on until the end. What it raises goes to the log unless somebody holds the task."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
