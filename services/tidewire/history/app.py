"""The history service put together: the only module that knows every part, and the process's start, drain and end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from secrets import token_hex
from socket import gethostname
from typing import TYPE_CHECKING, Final

import msgspec

from tidewire import __version__
from tidewire.history.adapters.jetstream_store import JetStreamStore
from tidewire.history.adapters.meta_notebook import MetaNotebook
from tidewire.history.cache import Cache
from tidewire.history.followers import Followers
from tidewire.history.link_watch import LinkWatch
from tidewire.history.namespaces import Namespaces
from tidewire.history.positions import Positions
from tidewire.history.reader import Reader
from tidewire.history.servicer import HistoryServicer
from tidewire.history.supply import Supply
from tidewire.history.telemetry import Telemetry
from tidewire.kernel.clock import SystemClock
from tidewire.kernel.nats_config import inbox_prefix
from tidewire.options.nats_options import link_options
from tidewire.options.stored import stored
from tidewire.platform import logs
from tidewire.platform.garbage import settle
from tidewire.platform.health import internal_app
from tidewire.platform.http import Listener, ListenError, http_protocol, listen
from tidewire.platform.jetstream import JetStream, JetStreamError
from tidewire.platform.lifecycle import StartError
from tidewire.platform.meta import MetaError, read_meta, verify
from tidewire.platform.metrics import Registry
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import LinkError, LinkState
from tidewire.platform.reload import Reloader
from tidewire.platform.rpc_server import RpcServer
from tidewire.platform.rpc_telemetry import RpcServerMetrics
from tidewire.platform.tasks import ended
from tidewire.platform.tracing import create_tracer

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.history.config import HistoryConfig
    from tidewire.platform.tracing import Tracer

START_LOOKS: Final = 10
START_PAUSE: Final = 0.5
"""Looks at the streams, and seconds between them, before a start is given up."""
SERVE_CHECK: Final = 0.5
"""Seconds between two looks at whether it can serve."""
ANONYMOUS: Final = "history"


class HistoryService:
    """One history process; implements `lifecycle.App`. `load` reads and checks the configuration again, for a reload."""

    def __init__(
        self, config: HistoryConfig, log: FilteringBoundLogger, load: Callable[[], HistoryConfig]
    ) -> None:
        own = config.history_service
        self._node = own.node_name or f"{gethostname()}-{token_hex(3)}"
        self._log = log.bind(node=self._node)
        self._unready: str | None = "starting"
        self._served = config.served
        clock = self._clock = SystemClock()
        self._reloader = Reloader(config, load, self._configure, self._log, clock.wall)
        self._telemetry = Telemetry()
        self._rpc_metrics = RpcServerMetrics()
        watch = LinkWatch(
            self._telemetry, self._log, clock.monotonic, self._doubt, lambda: self._link.last_error
        )
        inbox = inbox_prefix(config.nats.user or ANONYMOUS)
        options = msgspec.structs.replace(
            link_options(config.nats, self._node), name=f"tidewire-history {self._node}", inbox_prefix=inbox
        )
        try:
            self._link = NatsLink(options, watch)
        except LinkError as error:
            raise StartError(str(error)) from error
        self._cache = Cache(own.cache_size)
        store = JetStreamStore(self._link, inbox, own.max_stream_requests)
        notebook = MetaNotebook(self._link, inbox)
        namespaces = Namespaces(config, config.nats.partitions, self._served)
        self._followers = Followers(
            namespaces, self._cache, store, notebook, self._telemetry, self._log, clock
        )
        supply = Supply(self._cache, store, notebook)
        self._reader = Reader(
            self._followers, self._cache, store, supply, self._telemetry, clock, own.read_timeout
        )
        self._tracing = self._create_tracing(config)
        positions = Positions(self._reader, self._followers, self._cache, supply, self._telemetry, clock)
        service = HistoryServicer(self._reader, positions).service()
        self._rpc = RpcServer(own.rpc, [service], self._rpc_metrics, self._log, clock, self._tracing)
        self._internal: Listener | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def _create_tracing(self, config: HistoryConfig) -> Tracer | None:
        resource = {"service.instance.id": self._node, "service.version": __version__}
        try:
            return create_tracer(config.tracing, resource, self._clock, self._log)
        except OSError as error:
            raise StartError(f"tracing.ca_file cannot be used ({error})") from error

    def _configure(self, config: HistoryConfig) -> None:
        """Put a configuration in force that differs in reloadable settings only."""
        self._cache.budget = config.history_service.cache_size
        self._reader.timeout = config.history_service.read_timeout
        self._followers.configure(Namespaces(config, config.nats.partitions, self._served))
        self._followers.subscribe(self._link)
        logs.set_level(config.log.level)

    def _doubt(self) -> None:
        self._followers.doubt()

    # lifecycle.App

    async def start(self) -> None:
        """Reach NATS, look at every stream, serve. Raises StartError with one clear line."""
        own, registry = self._reloader.config.history_service, Registry()
        self._register(registry)
        try:
            pages = http_protocol(internal_app(registry, self._why_unready))
            self._internal = await listen(
                pages, own.internal_address, own.internal_port, "history_service.internal_port"
            )
            await self._link.start()
        except (ListenError, LinkError) as error:
            raise StartError(str(error)) from error
        await self._agree()
        self._followers.subscribe(self._link)
        await self._look_at_all()
        self._tasks.append(asyncio.create_task(self._followers.run()))
        settle()
        await self._rpc.start()
        self._unready = None
        self._rpc.set_serving(serving=True)
        self._tasks.append(asyncio.create_task(self._tell_whether_serving()))
        self._log.info(
            "history.ready",
            version=__version__,
            port=self._rpc.port,
            health_port=self._rpc.health_port,
            internal_port=self._internal.port,
            nats=self._link.server_name,
            streams=len(self._followers.by_stream),
        )

    def reload(self) -> None:
        """Take the configuration as it is now, soon, and read certificates again."""
        self._reloader.request()
        task = asyncio.create_task(self._rpc.reload())
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    async def drain(self) -> None:
        """Not serving, but answering for `rpc.drain_delay`; then the calls that there are end."""
        self._unready = "draining"
        self._reloader.close(self._unready)
        await self._rpc.drain()
        self._log.info("history.drained")

    async def stop(self) -> None:
        """End everything at once."""
        self._unready = "stopped"
        self._reloader.stop()
        await ended(self._tasks)
        await self._rpc.stop()
        if self._internal is not None:
            self._internal.close()
        await self._link.close()
        if self._tracing is not None:
            await self._tracing.close(self._log)

    # its state

    def _register(self, registry: Registry) -> None:
        self._telemetry.register(
            registry,
            self._link,
            self._cache,
            lambda: {name: one.feed for name, one in self._followers.by_stream.items()},
            lambda: self._reader.under_way,
            lambda: self._reader.requests_waiting,
            self._clock.monotonic,
        )
        registry.add(self._rpc_metrics.all())
        registry.add(self._reloader.metrics())
        if self._tracing is not None:
            registry.add([self._tracing.spans])

    async def _agree(self) -> None:
        """Raise StartError unless the cluster is as configured: partitions, layout, where namespaces are stored."""
        config = self._reloader.config
        try:
            meta = await read_meta(JetStream(self._link))
        except (JetStreamError, MetaError) as error:
            raise StartError(f"{error}{self._lacking_rights()}") from error
        if problems := verify(meta, config.nats.partitions, stored(config)):
            raise StartError("; ".join(problems))

    async def _look_at_all(self) -> None:
        for _ in range(START_LOOKS):
            await self._followers.look()
            if self._followers.problem is None:
                return
            if not self._followers.serves_some and self._lacking_rights():
                break
            await asyncio.sleep(START_PAUSE)
        if self._followers.serves_some and not self._followers.lacks_some:
            return  # the others have no leader now: who serves what there is helps most in an outage
        raise StartError(f"the streams cannot be read: {self._followers.problem}{self._lacking_rights()}")

    def _lacking_rights(self) -> str:
        """Return what NATS has refused, if it has, and the cure."""
        said = str(self._link.last_error)
        if "permissions violation" not in said.lower():
            return ""
        return f" ({said}: give the user of `tidewire nats-config --history-user`)"

    def _why_unready(self) -> str | None:
        """Return why it cannot serve. One stream that cannot be read keeps nobody from the others."""
        if self._unready is not None:
            return self._unready
        if self._link.state is not LinkState.CONNECTED:
            return "NATS is away"
        feeds, now = [one.feed for one in self._followers.by_stream.values()], self._clock.monotonic()
        if feeds and not any(feed.is_current(now) for feed in feeds):
            return self._followers.problem or "no stream can be read"
        return None

    async def _tell_whether_serving(self) -> None:
        told = True
        while self._unready is None:
            serving = self._why_unready() is None
            if serving is not told:
                self._rpc.set_serving(serving=serving)
                told = serving
            await asyncio.sleep(SERVE_CHECK)
