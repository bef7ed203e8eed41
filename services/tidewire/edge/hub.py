"""Who hears what on this edge: channels and their members, and the fan-out to them.

A channel is heard from the broker while it has members, and for a linger after the last has gone, so that a client that
comes straight back costs the broker nothing. Publications that arrive together are joined: each connection is written to
once, with bytes that were encoded once for all who want the same ones in the same form (an `Audience`). A wildcard
pattern is a channel of its own, whose publications say which channel they belong to.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Container, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from tidewire.edge.deltas import NO_LINKS, Basis, Chain, Deltas, Link, Links
from tidewire.edge.wire.json_codec import clean_json
from tidewire.kernel.channels import split_channel
from tidewire.kernel.wheel import Wheel

if TYPE_CHECKING:
    from tidewire.edge.connection import Connection
    from tidewire.edge.effects import Traits
    from tidewire.edge.framing import Framing
    from tidewire.edge.policies.filters import TagsFilter
    from tidewire.edge.ports import Broker, Metrics, Publication
    from tidewire.edge.wire.codec import Codec
    from tidewire.kernel.clock import Clock
    from tidewire.kernel.errors import ReplyError

    Settled = Callable[[Connection, str, int, "int | ReplyError"], None]
    Slow = Callable[[Connection], None]


MAX_LINGERING = 10_000
"""Channels that are heard without a listener; further ones are let go at once."""


class ChannelState(enum.Enum):
    """JOINING until the broker has confirmed the subscription, then LIVE."""

    JOINING = "joining"
    LIVE = "live"


class Audience(NamedTuple):
    """What members of a channel have in common who are sent the very same bytes."""

    framing: Framing
    compact: bool
    wanted: TagsFilter | None
    basis: Basis | None = None
    """None: no deltas."""


class Channel:
    """A channel that this edge hears; the broker's sink for it. Its `id`, never used twice, may stand for its name."""

    __slots__ = (
        "_hub",
        "binary",
        "chain",
        "deltas",
        "handle",
        "id",
        "linger_due",
        "members",
        "name",
        "pending",
        "state",
        "waiting",
    )

    def __init__(self, hub: Hub, name: str, number: int, *, binary: bool) -> None:
        self._hub = hub
        self.id = number
        self.name = name
        self.binary = binary
        self.deltas = False
        """Whether the namespace wants deltas of every publication."""
        self.chain: Chain | None = None
        """While there are members that asked for deltas."""
        self.state = ChannelState.JOINING
        self.handle = 0
        self.linger_due = 0
        self.members: dict[Audience, dict[Connection, None]] = {}
        self.waiting: dict[Connection, int] = {}
        """Connections that have joined and not entered yet, with their attempt."""
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
        self._created = 0
        self._lingering: Wheel[Channel] = Wheel()
        self._dirty: dict[Channel, None] = {}
        self.deltas = Deltas(metrics)
        self.settled: Settled = _nobody
        self.slow: Slow = _nobody

    def __len__(self) -> int:
        return len(self._channels)

    @property
    def subscriptions(self) -> int:
        """Memberships over all channels."""
        return sum(len(group) for channel in self._channels.values() for group in channel.members.values())

    def join(
        self,
        connection: Connection,
        name: str,
        attempt: int,
        *,
        binary: bool,
        pattern: bool = False,
        deltas: bool = False,
    ) -> int | None:
        """Hear a channel for a connection. Its id: `enter` may follow at once; None: `settled` tells later."""
        channel = self._channels.get(name)
        if channel is None:
            channel = self._create(name, binary=binary, pattern=pattern)
        elif channel.linger_due:
            self._lingering.discard(channel, channel.linger_due)
            channel.linger_due = 0
        channel.binary &= binary  # its namespace may have come back as another: JSON clients need JSON
        channel.deltas = deltas
        channel.waiting[connection] = attempt
        return channel.id if channel.state is ChannelState.LIVE else None

    def enter(self, connection: Connection, name: str, traits: Traits) -> None:
        """Make a connection that has joined a member: it is written to from now on."""
        channel = self._channels[name]
        del channel.waiting[connection]
        audience = _audience(connection, traits)
        channel.members.setdefault(audience, {})[connection] = None
        if audience.basis is not None and channel.chain is None:
            channel.chain = Chain()

    def leave(self, connection: Connection, name: str, traits: Traits) -> None:
        """End a membership or an attempt at one; unknown ones are ignored."""
        channel = self._channels.get(name)
        if channel is None:
            return
        channel.waiting.pop(connection, None)
        self._remove(channel, connection, _audience(connection, traits))
        if not channel.idle or channel.linger_due:
            return
        # A channel that never came to life has served nobody, and beyond the bound a linger costs more than it saves.
        if channel.state is ChannelState.JOINING or len(self._lingering) >= MAX_LINGERING:
            self._forget(channel)
        else:
            channel.linger_due = self._lingering.add(channel, self._linger_ticks)

    def _remove(self, channel: Channel, connection: Connection, audience: Audience) -> None:
        group = channel.members.get(audience, {})
        if connection in group:
            del group[connection]
            if not group:
                del channel.members[audience]
                if channel.chain is not None and not any(each.basis for each in channel.members):
                    self.deltas.end(channel.chain)
                    channel.chain = None
        elif audience.basis is Basis.NOTHING:  # it has the latest publication by now
            self._remove(channel, connection, audience._replace(basis=Basis.LATEST))

    def memberships(self, namespaces: Container[str | None]) -> list[tuple[Connection, str]]:
        """Return who has joined or entered a channel of these namespaces, with the channel."""
        found: list[tuple[Connection, str]] = []
        for name, channel in self._channels.items():
            if split_channel(name).namespace in namespaces:
                found += [(connection, name) for connection in channel.waiting]
                for group in channel.members.values():
                    found += [(connection, name) for connection in group]
        return found

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
        links = self._advance(channel, publications)
        encoded: dict[tuple[Codec, bool, Basis | None], list[bytes]] = {}
        for (framing, compact, wanted, basis), group in channel.members.items():
            form = framing.codec, compact, basis
            items = encoded.get(form)
            if items is None:
                items = encoded[form] = _encode(channel, publications, *form[:2], links.get(basis))
            if wanted is not None:
                items = [
                    item
                    for item, each in zip(items, publications, strict=True)
                    if wanted.passes(each.tags or {})
                ]
            for frame in framing.joined(items) if items else ():
                slow += [connection for connection in group if not connection.transport.send(frame)]
                size += len(frame) * len(group)
            deliveries += len(items) * len(group)
            self.deltas.delivered(links.get(basis, ()), len(group))
        self._metrics.fanned_out(deliveries, size, self._clock.monotonic() - started)
        if channel.chain is not None:
            _catch_up(channel)
        now = self._clock.wall()
        for publication in publications:
            if publication.sent_us:
                self._metrics.latency(max(0.0, now - publication.sent_us / 1e6))
            if publication.span is not None:
                publication.span.end(subscribers=sum(map(len, channel.members.values())))
        for connection in slow:
            self.slow(connection)

    def _advance(self, channel: Channel, publications: list[Publication]) -> Links:
        if channel.chain is None:
            return NO_LINKS
        latest = any(audience.basis is Basis.LATEST for audience in channel.members)
        return self.deltas.advance(channel.chain, publications, always=channel.deltas, latest=latest)

    def _create(self, name: str, *, binary: bool, pattern: bool) -> Channel:
        self._created += 1
        channel = self._channels[name] = Channel(self, name, self._created, binary=binary)
        subscribe = self._broker.subscribe_pattern if pattern else self._broker.subscribe
        channel.handle = subscribe(name, channel, partial(self._confirmed, channel))
        return channel

    def _confirmed(self, channel: Channel, error: ReplyError | None) -> None:
        if self._channels.get(channel.name) is not channel:
            return
        waiting = dict(channel.waiting)
        if error is None:
            channel.state = ChannelState.LIVE
        else:
            self._forget(channel)
        for connection, attempt in waiting.items():
            self.settled(connection, channel.name, attempt, channel.id if error is None else error)

    def _forget(self, channel: Channel) -> None:
        self._lingering.discard(channel, channel.linger_due)
        del self._channels[channel.name]
        self._broker.unsubscribe(channel.handle)


def _audience(connection: Connection, traits: Traits) -> Audience:
    basis = Basis.NOTHING if traits.delta else None
    return Audience(connection.transport.framing, traits.compact, traits.wanted, basis)


def _catch_up(channel: Channel) -> None:
    """Let all members of a channel's chain have the latest publication."""
    for audience in [each for each in channel.members if each.basis is Basis.NOTHING]:
        group = channel.members.pop(audience)
        channel.members.setdefault(audience._replace(basis=Basis.LATEST), {}).update(group)


def _encode(
    channel: Channel,
    publications: list[Publication],
    codec: Codec,
    compact: bool,
    links: Sequence[Link] | None,
) -> list[bytes]:
    encode = codec.publication
    place = channel.id if compact else channel.name
    if links is not None:
        return [
            encode(place, link.data, each.info, each.tags, each.channel, delta=link.is_delta)
            for each, link in zip(publications, links, strict=True)
        ]
    return [encode(place, each.data, each.info, each.tags, each.channel) for each in publications]


def _nobody(*_: object) -> None:
    """Stand in until the dispatcher listens."""
