"""Who hears what on this edge: channels and their members, and the fan-out to them.

A channel is heard from the broker while it has members, and for a linger after the last has gone, so that a client that
comes straight back costs the broker nothing. Publications that arrive together are joined: each connection is written to
once, with bytes that were encoded once for all who want the same ones in the same form (an `Audience`). A wildcard
pattern is a channel of its own, whose publications say which channel they belong to. A batching or conflating namespace
(`Delivery`) has them wait longer, or only the latest of them sent.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from tidewire.edge.batches import Batches
from tidewire.edge.channel import Audience, Channel, ChannelState, StoredChannel
from tidewire.edge.deltas import Basis
from tidewire.edge.fan_out import FanOut
from tidewire.edge.places import Place
from tidewire.edge.recovery import UNSETTLED
from tidewire.edge.wire.json_codec import clean_json
from tidewire.kernel.channels import split_channel
from tidewire.kernel.errors import ReplyError
from tidewire.kernel.wheel import Wheel

if TYPE_CHECKING:
    from tidewire.edge.batches import Later
    from tidewire.edge.conflation import Delivery
    from tidewire.edge.connection import Connection
    from tidewire.edge.deltas import Deltas
    from tidewire.edge.effects import Traits, Wish
    from tidewire.edge.ports import Broker, Metrics, Page, Publication, Query
    from tidewire.edge.recovery import Recovery
    from tidewire.edge.stragglers import Stragglers
    from tidewire.kernel.clock import Clock

    Settled = Callable[[Connection, str, int, "int | Place | ReplyError"], None]
    Slow = Callable[[Connection], None]
    Lost = Callable[[str, "list[Connection]"], None]


MAX_LINGERING = 10_000
"""Channels that are heard without a listener; further ones are let go at once."""


class Hub:
    """The channels of an edge.

    `settled` hears how each join ended, `slow` which connections could not keep up, and `lost` who is no member any more
    since it cannot be proven that they miss nothing.
    """

    def __init__(
        self, broker: Broker, metrics: Metrics, clock: Clock, linger_ticks: int, later: Later
    ) -> None:
        self._broker = broker
        self._metrics = metrics
        self._linger_ticks = linger_ticks
        self._channels: dict[str, Channel] = {}
        self._created = 0
        self._lingering: Wheel[Channel] = Wheel()
        self._dirty: dict[Channel, None] = {}
        self._fan_out = FanOut(metrics, clock)
        self.batches = Batches(metrics, clock, later, self._send)
        """Channels whose publications wait for their time."""
        self.settled: Settled = _nobody
        self.slow: Slow = _nobody
        self.lost: Lost = _nobody
        self._recovery: Recovery | None = None
        self._is_stored: Callable[[str], bool] = _never

    def __len__(self) -> int:
        return len(self._channels)

    @property
    def subscriptions(self) -> int:
        """Memberships over all channels."""
        return sum(len(group) for channel in self._channels.values() for group in channel.members.values())

    @property
    def stragglers(self) -> Stragglers:
        """Connections that cannot keep up with conflating channels."""
        return self._fan_out.stragglers

    @property
    def deltas(self) -> Deltas:
        """What is kept to make deltas of."""
        return self._fan_out.deltas

    def keep_positions(self, recovery: Recovery, is_stored: Callable[[str], bool]) -> None:
        """From now on there are channels with history: those whose name `is_stored`."""
        self._recovery = recovery
        self._is_stored = is_stored

    def read(self, query: Query, done: Callable[[Page | ReplyError], None]) -> ReplyError | None:
        """Read a channel's history. An error returned means: `done` is never called."""
        if self._recovery is None:
            raise AssertionError("a channel with history, and no history service")
        return self._recovery.reads.ask(query, done)

    def join(
        self,
        connection: Connection,
        name: str,
        attempt: int,
        *,
        binary: bool,
        pattern: bool = False,
        delivery: Delivery | None = None,
        deltas: bool = False,
        wish: Wish | None = None,
    ) -> int | Place | ReplyError | None:
        """Hear a channel for a connection. Its id or place: `enter` may follow at once; None: `settled` tells later."""
        channel = self._channels.get(name)
        if channel is None:
            channel = self._create(name, binary=binary, pattern=pattern)
            channel.adopt(delivery)
        elif channel.linger_due:
            self._lingering.discard(channel, channel.linger_due)
            channel.linger_due = 0
        if channel.binary and not binary:  # its namespace has come back as another: JSON clients need JSON
            self._send(channel)  # what nobody has looked at, to those it may go to
            channel.binary = False
        channel.deltas = deltas
        place = None if wish is None else Place(connection, attempt, wish, channel.id)
        channel.waiting[connection] = attempt if place is None else place
        if channel.state is not ChannelState.LIVE:
            return None
        return channel.id if place is None else self._find_place(channel, place)

    def _find_place(self, channel: Channel, place: Place) -> Place | ReplyError | None:
        if self._recovery is None or not isinstance(channel, StoredChannel):
            raise AssertionError("a position in a channel without history")
        found = self._recovery.join(channel, place)
        if isinstance(found, ReplyError):
            self._drop(channel, place)
            return found
        return place if found else None

    def enter(self, connection: Connection, name: str, traits: Traits, base: bytes | None = None) -> None:
        """Make a connection that has joined a member: it is written to from now on. `base` is as in `Enter`."""
        channel = self._channels[name]
        place = channel.waiting.pop(connection)
        if isinstance(place, Place):
            if channel.pending:  # its position covers that
                self.batches.send(channel)
            self._left(place)
        audience = _audience(connection, traits)
        if traits.delta:
            if channel.chain is None:
                channel.chain = self.deltas.begin()
            if base is not None:
                channel.chain.keep(base)
                audience = audience._replace(basis=Basis.LATEST)
        channel.add(audience, connection)

    def leave(self, connection: Connection, name: str, traits: Traits) -> None:
        """End a membership or an attempt at one; unknown ones are ignored."""
        channel = self._channels.get(name)
        if channel is None:
            return
        place = channel.waiting.pop(connection, None)
        if isinstance(place, Place):
            self._left(place)
        channel.remove(_audience(connection, traits), connection)
        self._rest(channel)

    def _left(self, place: Place) -> None:
        place.leave()
        if place.told:
            self._metrics.recovery(place.told)

    def _drop(self, channel: Channel, place: Place) -> None:
        del channel.waiting[place.connection]
        place.leave()
        if place.wish.since is not None:
            self._metrics.recovery("refused")
        self._rest(channel)

    def _rest(self, channel: Channel) -> None:
        """Let a channel that nobody wants any more linger, or go."""
        if not channel.idle or channel.linger_due:
            return
        # A channel that never came to life has served nobody, and beyond the bound a linger costs more than it saves.
        if channel.state is ChannelState.JOINING or len(self._lingering) >= MAX_LINGERING:
            self._forget(channel)
        else:
            channel.linger_due = self._lingering.add(channel, self._linger_ticks)

    def follow(self, delivery: Callable[[str], Delivery | None]) -> Iterator[None]:
        """Send the publications of each channel, by its name, as `delivery` says; a step for each."""
        for channel in list(self._channels.values()):
            self._adopt(channel, delivery(channel.name))
            yield

    def _adopt(self, channel: Channel, delivery: Delivery | None) -> None:
        pace = channel.pace
        if pace is not None and pace.missed and not pace.delivery.keeps_like(delivery):
            missed, pace.missed = pace.missed, {}
            for connection in self._fan_out.release(missed.values()):
                self.slow(connection)
        channel.adopt(delivery)

    def catch_up(self, connection: Connection) -> None:
        """Write what a connection missed in conflating channels: its socket takes bytes again."""
        if not self._fan_out.catch_up(connection):
            self.slow(connection)

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

    def _track(self, channel: Channel, publication: Publication) -> None:
        """Take a publication of a channel with history."""
        if self._recovery is not None and isinstance(channel, StoredChannel) and channel.timeline is not None:
            self._recovery.follow(channel, publication)
        else:
            self.collect(channel, publication)

    # recovery.Floor

    def pass_on(self, channel: StoredChannel, publications: Iterable[Publication]) -> None:
        """See recovery.Floor."""
        for publication in publications:
            self.collect(channel, publication)

    def admit(self, channel: StoredChannel, place: Place, error: ReplyError | None) -> None:
        """See recovery.Floor."""
        if channel.waiting.get(place.connection) is not place:
            return
        if error is not None:
            self._drop(channel, place)
        self.settled(place.connection, channel.name, place.attempt, place if error is None else error)

    def cast_out(self, channel: StoredChannel) -> None:
        """See recovery.Floor."""
        lost: list[Connection] = []
        for audience, group in list(channel.members.items()):
            if audience.positioned:
                lost += group
                for connection in list(group):
                    channel.remove(audience, connection)
        for place in list(channel.waiting.values()):
            if isinstance(place, Place) and place.settled:
                self.admit(channel, place, UNSETTLED)
        self._rest(channel)
        if lost:
            self.lost(channel.name, lost)

    def has(self, connection: Connection, name: str) -> bool:
        """Return whether a connection has joined or entered a channel."""
        channel = self._channels.get(name)
        return channel is not None and (
            connection in channel.waiting or any(connection in group for group in channel.members.values())
        )

    def flush(self) -> None:
        """Write what was collected, or let it wait for its batch."""
        if not self._dirty:
            return
        dirty, self._dirty = self._dirty, {}
        for channel in dirty:
            if channel.pace is None:
                self._send(channel)
            elif channel.pending:
                self.batches.offer(channel, channel.pace)

    def _send(self, channel: Channel) -> None:
        publications = channel.take()
        if channel.members and publications:
            for connection in self._fan_out.send(channel, publications):
                self.slow(connection)

    def _create(self, name: str, *, binary: bool, pattern: bool) -> Channel:
        self._created += 1
        if self._is_stored(name) and not pattern:
            channel: Channel = StoredChannel(self._track, name, self._created, binary=binary)
        else:
            channel = Channel(self.collect, name, self._created, binary=binary)
        self._channels[name] = channel
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
        for connection, each in waiting.items():
            outcome: int | Place | ReplyError | None = channel.id if error is None else error
            if isinstance(each, Place) and error is None:
                outcome = self._find_place(channel, each)
            if outcome is not None:
                attempt = each.attempt if isinstance(each, Place) else each
                self.settled(connection, channel.name, attempt, outcome)

    def _forget(self, channel: Channel) -> None:
        self._lingering.discard(channel, channel.linger_due)
        del self._channels[channel.name]
        self._broker.unsubscribe(channel.handle)
        if self._recovery is not None and isinstance(channel, StoredChannel):
            self._recovery.forget(channel)


def _audience(connection: Connection, traits: Traits) -> Audience:
    basis = Basis.NOTHING if traits.delta else None
    return Audience(connection.transport.framing, traits.compact, traits.wanted, basis, traits.positioned)


def _never(_name: str) -> bool:
    return False


def _nobody(*_: object) -> None:
    """Stand in until the dispatcher listens."""
