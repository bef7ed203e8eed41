"""The history service put together: the only module that knows every part. `platform.service` is the process around it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tidewire.history.adapters.jetstream_store import JetStreamStore
from tidewire.history.adapters.meta_notebook import MetaNotebook
from tidewire.history.cache import Cache
from tidewire.history.followers import Followers
from tidewire.history.namespaces import Namespaces
from tidewire.history.positions import Positions
from tidewire.history.reader import Reader
from tidewire.history.servicer import HistoryServicer
from tidewire.history.supply import Supply
from tidewire.history.telemetry import Telemetry
from tidewire.options.nats_options import link_options
from tidewire.options.stored import stored
from tidewire.platform.jetstream import JetStream, JetStreamError
from tidewire.platform.lifecycle import StartError
from tidewire.platform.meta import MetaError, read_meta, verify
from tidewire.platform.nats_types import LinkState
from tidewire.platform.nats_watch import WatchedLink

if TYPE_CHECKING:
    from tidewire.history.config import HistoryConfig
    from tidewire.platform.metrics import Registry
    from tidewire.platform.service import Surroundings

START_LOOKS: Final = 10
START_PAUSE: Final = 0.5
"""Looks at the streams, and seconds between them, before a start is given up."""


class History:
    """What the history service does; implements `platform.service.Core`."""

    def __init__(self, config: HistoryConfig, around: Surroundings) -> None:
        own, clock = config.history_service, around.clock
        self._config = config
        self._log = around.log
        self._clock = clock
        self._telemetry = Telemetry()
        options = link_options(config.nats, around.node, config.service)
        self._watched = WatchedLink(options, around.log, clock.monotonic, self._link_turned)
        self._link = self._watched.link
        self._cache = Cache(own.cache_size)
        store = JetStreamStore(self._link, options.inbox_prefix, own.max_stream_requests)
        notebook = MetaNotebook(self._link, options.inbox_prefix)
        self._followers = Followers(
            self._namespaces(config), self._cache, store, notebook, self._telemetry, around.log, clock
        )
        supply = Supply(self._cache, store, notebook)
        self._reader = Reader(
            self._followers, self._cache, store, supply, self._telemetry, clock, own.read_timeout
        )
        positions = Positions(self._reader, self._followers, self._cache, supply, self._telemetry, clock)
        self.services = [HistoryServicer(self._reader, positions).service()]

    def _namespaces(self, config: HistoryConfig) -> Namespaces:
        return Namespaces(config, config.nats.partitions, config.served)

    def _link_turned(self, _is_up: bool) -> None:
        """While it is away nothing can be proven; then what was missed is found by looking at each stream."""
        self._followers.doubt()

    # platform.service.Core

    def register(self, registry: Registry) -> None:
        """Expose what it counts."""
        self._telemetry.register(
            registry,
            self._cache,
            lambda: {name: one.feed for name, one in self._followers.by_stream.items()},
            lambda: self._reader.under_way,
            lambda: self._reader.requests_waiting,
            self._clock.monotonic,
        )
        registry.add(self._watched.metrics())

    async def start(self) -> None:
        """Reach NATS, agree with the cluster, look at every stream."""
        await self._link.start()
        await self._agree()
        self._followers.subscribe(self._link)
        await self._look_at_all()

    async def run(self) -> None:
        """Look at all streams for ever."""
        await self._followers.run()

    def started(self, **process: object) -> None:
        """Say so."""
        self._log.info(
            "history.ready", **process, nats=self._link.server_name, streams=len(self._followers.by_stream)
        )

    def why_unready(self) -> str | None:
        """Return why it cannot serve. One stream that cannot be read keeps nobody from the others."""
        if self._link.state is not LinkState.CONNECTED:
            return "NATS is away"
        feeds, now = [one.feed for one in self._followers.by_stream.values()], self._clock.monotonic()
        if feeds and not any(feed.is_current(now) for feed in feeds):
            return self._followers.problem or "no stream can be read"
        return None

    def configure(self, config: HistoryConfig) -> None:
        """Take other namespaces, and bounds."""
        self._cache.budget = config.history_service.cache_size
        self._reader.timeout = config.history_service.read_timeout
        self._followers.configure(self._namespaces(config))
        self._followers.subscribe(self._link)

    async def close(self) -> None:
        """Leave NATS."""
        await self._link.close()

    # its start

    async def _agree(self) -> None:
        """Raise StartError unless the cluster is as configured: partitions, layout, where namespaces are stored."""
        try:
            meta = await read_meta(JetStream(self._link))
        except (JetStreamError, MetaError) as error:
            raise StartError(f"{error}{self._lacking_rights()}") from error
        if problems := verify(meta, self._config.nats.partitions, stored(self._config)):
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
