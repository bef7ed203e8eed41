"""Who hears what on this edge: channels and their members, and the fan-out to them.

A channel is heard from the broker while it has members, and for a linger after the last has gone, so that a client that
comes straight back costs the broker nothing. Publications that arrive together are joined: each connection is written to
once, with bytes that were encoded once for its framing.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from tidewire.edge.wire.json_codec import clean_json
from tidewire.kernel.wheel import Wheel

if TYPE_CHECKING:
    from tidewire.edge.connection import Connection
    from tidewire.edge.framing import Framing
    from tidewire.edge.ports import Broker, Metrics, Publication
    from tidewire.kernel.clock import Clock
    from tidewire.kernel.errors import ReplyError

    Settled = Callable[[Connection, str, int, "ReplyError | None"], None]
    Slow = Callable[[Connection], None]


MAX_LINGERING = 10_000
"""Channels that are heard without a listener; further ones are let go at once."""


class ChannelState(enum.Enum):
    """JOINING until the broker has confirmed the subscription, then LIVE."""

    JOINING = "joining"
    LIVE = "live"


class Channel:
    """A channel that this edge hears; the broker's sink for it."""

    __slots__ = ("_hub", "binary", "handle", "linger_due", "members", "name", "pending", "state", "waiting")

    def __init__(self, hub: Hub, name: str, *, binary: bool) -> None:
        self._hub = hub
        self.name = name
        self.binary = binary
        self.state = ChannelState.JOINING
        self.handle = 0
        self.linger_due = 0
        self.members: dict[Framing, dict[Connection, None]] = {}
        self.waiting: dict[Connection, int] = {}
        """Connections whose subscribe is not answered yet, with their attempt."""
        self.pending: list[Publication] = []

    @property
    def idle(self) -> bool:
        """Whether nobody here wants the channel."""
        return not self.members and not self.waiting

    def receive(self, publication: Publication) -> None:
        """Take a publication from the broker; it goes out with the others of this turn."""
        self._hub.collect(self, publication)


class Hub:
    """The channels of an edge. `settled` hears how each join ended; `slow` which connections could not keep up."""

    def __init__(self, broker: Broker, metrics: Metrics, clock: Clock, linger_ticks: int) -> None:
        self._broker = broker
        self._metrics = metrics
        self._clock = clock
        self._linger_ticks = linger_ticks
        self._channels: dict[str, Channel] = {}
        self._lingering: Wheel[Channel] = Wheel()
        self._dirty: dict[Channel, None] = {}
        self.settled: Settled = _nobody
        self.slow: Slow = _nobody

    def __len__(self) -> int:
        return len(self._channels)

    @property
    def subscriptions(self) -> int:
        """Memberships over all channels."""
        return sum(len(group) for channel in self._channels.values() for group in channel.members.values())

    def join(self, connection: Connection, name: str, attempt: int, *, binary: bool) -> bool:
        """Make a connection a member. True: it is one now; False: `settled` tells later."""
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(self, name, binary=binary)
            channel.handle = self._broker.subscribe(name, channel, partial(self._confirmed, channel))
        elif channel.linger_due:
            self._lingering.discard(channel, channel.linger_due)
            channel.linger_due = 0
        if channel.state is ChannelState.LIVE:
            self._enter(channel, connection)
            return True
        channel.waiting[connection] = attempt
        return False

    def leave(self, connection: Connection, name: str) -> None:
        """End a membership or an attempt at one; unknown ones are ignored."""
        channel = self._channels.get(name)
        if channel is None:
            return
        channel.waiting.pop(connection, None)
        framing = connection.transport.framing
        group = channel.members.get(framing)
        if group is not None and connection in group:
            del group[connection]
            if not group:
                del channel.members[framing]
        if not channel.idle or channel.linger_due:
            return
        # A channel that never came to life has served nobody, and beyond the bound a linger costs more than it saves.
        if channel.state is ChannelState.JOINING or len(self._lingering) >= MAX_LINGERING:
            self._forget(channel)
        else:
            channel.linger_due = self._lingering.add(channel, self._linger_ticks)

    def tick(self) -> None:
        """Let go of channels that nobody came back to."""
        for channel in self._lingering.advance():
            self._forget(channel)

    def collect(self, channel: Channel, publication: Publication) -> None:
        """Note a publication for the fan-out at the end of this turn."""
        self._metrics.publication_received()
        if not channel.binary:
            data = clean_json(publication.data)
            if data is None:
                self._metrics.publication_dropped("not_json")
                return
            if data is not publication.data:
                publication = msgspec.structs.replace(publication, data=data)
        channel.pending.append(publication)
        self._dirty[channel] = None

    def flush(self) -> None:
        """Write what was collected."""
        if not self._dirty:
            return
        dirty, self._dirty = self._dirty, {}
        for channel in dirty:
            publications, channel.pending = channel.pending, []
            if channel.members:
                self._fan_out(channel, publications)

    def _fan_out(self, channel: Channel, publications: list[Publication]) -> None:
        started = self._clock.monotonic()
        deliveries = size = 0
        slow: list[Connection] = []
        for framing, group in channel.members.items():
            encode = framing.codec.publication
            items = [encode(channel.name, each.data, each.info, each.tags) for each in publications]
            for frame in framing.joined(items):
                slow += [connection for connection in group if not connection.transport.send(frame)]
                size += len(frame) * len(group)
            deliveries += len(items) * len(group)
        self._metrics.fanned_out(deliveries, size, self._clock.monotonic() - started)
        now = self._clock.wall()
        for publication in publications:
            if publication.sent_us:
                self._metrics.latency(max(0.0, now - publication.sent_us / 1e6))
            if publication.span is not None:
                publication.span.end(subscribers=sum(map(len, channel.members.values())))
        for connection in slow:
            self.slow(connection)

    def _confirmed(self, channel: Channel, error: ReplyError | None) -> None:
        if self._channels.get(channel.name) is not channel:
            return
        waiting, channel.waiting = channel.waiting, {}
        if error is None:
            channel.state = ChannelState.LIVE
            for connection in waiting:
                self._enter(channel, connection)
        else:
            self._forget(channel)
        for connection, attempt in waiting.items():
            self.settled(connection, channel.name, attempt, error)

    def _enter(self, channel: Channel, connection: Connection) -> None:
        channel.members.setdefault(connection.transport.framing, {})[connection] = None

    def _forget(self, channel: Channel) -> None:
        self._lingering.discard(channel, channel.linger_due)
        del self._channels[channel.name]
        self._broker.unsubscribe(channel.handle)


def _nobody(*_: object) -> None:
    """Stand in until the dispatcher listens."""
