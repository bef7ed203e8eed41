"""The presence service put together: the only module that knows every part, and the process's start, drain and end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from secrets import token_hex
from socket import gethostname
from typing import TYPE_CHECKING, Final

import msgspec

from tidewire import __version__
from tidewire.kernel.channels import split_channel
from tidewire.kernel.clock import SystemClock
from tidewire.kernel.nats_config import inbox_prefix
from tidewire.kernel.subjects import NO_NAMESPACE, encode_token
from tidewire.options.nats_options import link_options
from tidewire.options.stored import options_by_token
from tidewire.platform import logs
from tidewire.platform.garbage import settle
from tidewire.platform.health import internal_app
from tidewire.platform.http import Listener, ListenError, http_protocol, listen
from tidewire.platform.lifecycle import StartError
from tidewire.platform.metrics import Registry
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import LinkError
from tidewire.platform.reload import Reloader
from tidewire.platform.rpc_server import RpcServer
from tidewire.platform.rpc_telemetry import RpcServerMetrics
from tidewire.platform.tasks import ended
from tidewire.platform.tracing import create_tracer
from tidewire.presence.adapters.nats_mesh import Ears, NatsVoice
from tidewire.presence.answers import Answers
from tidewire.presence.link_watch import LinkWatch
from tidewire.presence.ports import Settings
from tidewire.presence.replica import Replica
from tidewire.presence.servicer import PresenceServicer
from tidewire.presence.telemetry import Telemetry

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.platform.tracing import Tracer
    from tidewire.presence.config import PresenceConfig

TICK: Final = 0.05
"""Seconds between two looks at what is due."""
SUBSCRIBED_WITHIN: Final = 5.0
"""Seconds that nats-server has to take the subscriptions at the start."""
ANONYMOUS: Final = "presence"


class PresenceService:
    """One presence process; implements `lifecycle.App`. `load` reads and checks the configuration again, for a reload."""

    def __init__(
        self, config: PresenceConfig, log: FilteringBoundLogger, load: Callable[[], PresenceConfig]
    ) -> None:
        own = config.presence_service
        self._node = own.node_name or f"{gethostname()}-{token_hex(3)}"
        self._log = log.bind(node=self._node)
        self._unready: str | None = "starting"
        clock = self._clock = SystemClock()
        self._reloader = Reloader(config, load, self._configure, self._log, clock.wall)
        self._telemetry = Telemetry(self._log, clock.monotonic)
        self._rpc_metrics = RpcServerMetrics()
        self._link = self._make_link(config)
        name = f"{encode_token(self._node)}-{token_hex(4)}"
        partitions, now = config.nats.partitions, clock.monotonic()
        self._told = _told(config)
        self._replica = Replica(
            Settings(
                name, config.served, own.partitions, own.max_entries, own.max_seen_users, own.listening_time
            ),
            self._is_told,
            NatsVoice(self._link, name, partitions, self._telemetry, clock.wall),
            self._telemetry,
            now,
            int(clock.wall() * 1000),
        )
        self._ears = Ears(partitions, self._replica, self._telemetry, clock.monotonic)
        self._tracing = self._create_tracing(config)
        answers = Answers(self._replica, partitions, clock.monotonic, clock.wall)
        service = PresenceServicer(answers, self._telemetry.answered).service()
        self._rpc = RpcServer(own.rpc, [service], self._rpc_metrics, self._log, clock, self._tracing)
        self._internal: Listener | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def _make_link(self, config: PresenceConfig) -> NatsLink:
        clock = self._clock
        watch = LinkWatch(
            self._telemetry, self._log, clock.monotonic, self._link_turned, lambda: self._link.last_error
        )
        options = msgspec.structs.replace(
            link_options(config.nats, self._node),
            name=f"tidewire-presence {self._node}",
            inbox_prefix=inbox_prefix(config.nats.user or ANONYMOUS),
        )
        try:
            return NatsLink(options, watch)
        except LinkError as error:
            raise StartError(str(error)) from error

    def _create_tracing(self, config: PresenceConfig) -> Tracer | None:
        resource = {"service.instance.id": self._node, "service.version": __version__}
        try:
            return create_tracer(config.tracing, resource, self._clock, self._log)
        except OSError as error:
            raise StartError(f"tracing.ca_file cannot be used ({error})") from error

    def _configure(self, config: PresenceConfig) -> None:
        """Put a configuration in force that differs in reloadable settings only."""
        self._told = _told(config)
        self._replica.mesh.most_entries = config.presence_service.max_entries
        self._replica.seen.most = config.presence_service.max_seen_users
        logs.set_level(config.log.level)

    def _is_told(self, channel: str) -> bool:
        """Whether joins and leaves of a channel are told, as it is configured now."""
        return self._told(channel)

    def _link_turned(self, is_up: bool) -> None:
        if is_up:
            self._replica.link_up(self._clock.monotonic())
        else:
            self._replica.link_down()

    # lifecycle.App

    async def start(self) -> None:
        """Reach NATS, hear all edges, serve. Raises StartError with one clear line."""
        own, registry = self._reloader.config.presence_service, Registry()
        self._register(registry)
        try:
            pages = http_protocol(internal_app(registry, self._why_unready))
            self._internal = await listen(
                pages, own.internal_address, own.internal_port, "presence_service.internal_port"
            )
            await self._link.start()
        except (ListenError, LinkError) as error:
            raise StartError(str(error)) from error
        await self._subscribe()
        self._replica.link_up(self._clock.monotonic())
        self._tasks.append(asyncio.create_task(self._run()))
        settle()
        await self._rpc.start()
        self._rpc.set_serving(serving=False)
        self._unready = None
        self._tasks.append(asyncio.create_task(self._tell_whether_serving()))
        self._log.info(
            "presence.started",
            version=__version__,
            port=self._rpc.port,
            health_port=self._rpc.health_port,
            internal_port=self._internal.port,
            nats=self._link.server_name,
            replica=self._replica.peers.own,
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
        self._log.info("presence.drained")

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
        self._telemetry.register(registry, self._link, self._replica)
        registry.add(self._rpc_metrics.all())
        registry.add(self._reloader.metrics())
        if self._tracing is not None:
            registry.add([self._tracing.spans])

    async def _subscribe(self) -> None:
        """Have what edges say. Raises StartError: nats-server does not give it, and an empty mesh is no reason to think so."""
        self._ears.subscribe(self._link, self._reloader.config.presence_service.partitions)
        taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def answered(passed: bool) -> None:
            if not taken.done():
                taken.set_result(passed)

        try:
            self._link.barrier(answered, SUBSCRIBED_WITHIN)
            if await taken:
                return
        except LinkError as error:
            raise StartError(str(error)) from error
        raise StartError(
            f"nats-server does not take the subscriptions ({self._link.last_error or 'it did not answer'}): give the user "
            "of `tidewire nats-config --presence-user`"
        )

    async def _run(self) -> None:
        clock, replica = self._clock, self._replica
        while True:
            replica.tick(clock.monotonic(), int(clock.wall() * 1000))
            await asyncio.sleep(TICK)

    def _why_unready(self) -> str | None:
        return self._unready or self._replica.why_unready

    async def _tell_whether_serving(self) -> None:
        """Say so to clients and probes, and in the log, whenever it changes."""
        told = False
        while self._unready is None:
            why = self._replica.why_unready
            if (why is None) is not told:
                told = why is None
                self._rpc.set_serving(serving=told)
                if told:
                    self._log.info("presence.ready", edges=len(self._replica.mesh.lives))
                else:
                    self._log.warning("presence.not_ready", reason=why)
            await asyncio.sleep(TICK)


def _told(config: PresenceConfig) -> Callable[[str], bool]:
    """Return whether joins and leaves of a channel are told."""
    tellers = {token for token, options in options_by_token(config.channel).items() if options.join_leave}
    return lambda channel: (split_channel(channel).namespace or NO_NAMESPACE) in tellers
