"""What the edge agrees on with its cluster (TW_META): checked at the start, followed from then on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tidewire.options.stored import stored
from tidewire.platform.jetstream import JetStream, JetStreamError
from tidewire.platform.lifecycle import StartError
from tidewire.platform.meta import Held, MetaError, read_held, verify
from tidewire.platform.meta_watch import MetaWatch

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.edge.config import EdgeConfig
    from tidewire.edge.stream_upstream import StreamUpstream
    from tidewire.platform.meta import Meta
    from tidewire.platform.nats_link import NatsLink


class Agreement:
    """Gives `streams` the deployment's secret, and closes the namespaces that are not where the edge would publish to."""

    def __init__(
        self,
        link: NatsLink,
        streams: StreamUpstream,
        config: EdgeConfig,
        log: FilteringBoundLogger,
    ) -> None:
        self._link = link
        self._streams = streams
        self._config = config
        self._log = log
        self._meta: Meta | None = None
        self._watch: MetaWatch | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Check the record where there is history, and follow it. Raises StartError with one clear line."""
        held = await self._check() if stored(self._config) else None
        if held is not None:
            self._take(held.meta)
        self._watch = MetaWatch(self._link, held, self._take, self._misread)
        self._task = asyncio.create_task(self._watch.run(), name="meta")
        if held is None:
            self._watch.look()

    async def _check(self) -> Held | None:
        try:
            held = await read_held(JetStream(self._link))
        except (JetStreamError, MetaError) as error:
            raise StartError(f"what the cluster agrees on cannot be read ({error})") from error
        config = self._config
        lines = verify(held.meta if held is not None else None, config.nats.partitions, stored(config))
        if lines:
            raise StartError("; ".join(lines))
        return held

    def look(self) -> None:
        """Read the record soon, since something may have been missed."""
        if self._watch is not None:
            self._watch.look()

    def follow(self, config: EdgeConfig) -> None:
        """Act on the record with this configuration from now on."""
        self._config = config
        meta = self._meta
        namespaces = stored(config)
        if meta is None:
            self._streams.moving = frozenset(namespaces)
            return
        elsewhere = {token for token, profile in namespaces.items() if meta.namespaces.get(token) != profile}
        self._streams.moving = frozenset(meta.moving) | elsewhere
        for line in verify(meta, config.nats.partitions, namespaces):
            self._log.error("meta.disagrees", problem=line)

    def stop(self) -> None:
        """Follow no more."""
        if self._task is not None:
            self._task.cancel()

    def _take(self, meta: Meta) -> None:
        self._meta = meta
        self._streams.trust(bytes.fromhex(meta.secret))
        self.follow(self._config)

    def _misread(self, error: MetaError) -> None:
        self._log.error("meta.unreadable", error=str(error))
