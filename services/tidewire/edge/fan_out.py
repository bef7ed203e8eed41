"""Writing a channel's publications to its members: encoded once for all who want the same ones in the same form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tidewire.edge.conflation import Conflated, key_of, latest
from tidewire.edge.stragglers import Missed, Stragglers, Written

if TYPE_CHECKING:
    from tidewire.edge.channel import Audience, Channel, Pace, Pending
    from tidewire.edge.connection import Connection
    from tidewire.edge.policies.filters import TagsFilter
    from tidewire.edge.ports import Metrics
    from tidewire.edge.stragglers import Keyed
    from tidewire.edge.wire.codec import Codec
    from tidewire.kernel.clock import Clock

    Encoded = dict[tuple[Codec, bool], list[bytes]]
    """Publications of one fan-out in each form that was asked for."""


class FanOut:
    """Writes, and counts what was written."""

    __slots__ = ("_clock", "_metrics", "stragglers")

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self.stragglers = Stragglers()
        """Members of conflating channels that cannot keep up."""

    def send(self, channel: Channel, publications: Pending) -> list[Connection]:
        """Write publications to a channel's members; return those that have too much waiting."""
        started = self._clock.monotonic()
        written = Written()
        if channel.pace is not None and channel.pace.delivery.conflate:
            self._write_latest(channel, channel.pace, publications, written)
        else:
            _write_all(channel, publications, written)
        self._metrics.fanned_out(written.deliveries, written.size, self._clock.monotonic() - started)
        now = self._clock.wall()
        for publication in publications:
            if publication.sent_us:
                self._metrics.latency(max(0.0, now - publication.sent_us / 1e6))
            if publication.span is not None:
                publication.span.end(subscribers=sum(map(len, channel.members.values())))
        return written.slow

    def catch_up(self, connection: Connection) -> bool:
        """Write what a connection missed, whose socket takes bytes again; False where it is owed too much still."""
        written = self.stragglers.catch_up(connection)
        if written is not None:
            self._metrics.caught_up(written.deliveries, written.size)
        return written is None or not written.slow

    def release(self, missed: Iterable[Missed]) -> list[Connection]:
        """Write to everybody what they missed; return those that have too much waiting then."""
        written = Written()
        for each in missed:
            each.release(written)
        self._metrics.caught_up(written.deliveries, written.size)
        return written.slow

    def _write_latest(self, channel: Channel, pace: Pace, publications: Pending, written: Written) -> None:
        encoded: Encoded = {}
        for audience, group in channel.members.items():
            keyed = _latest(publications, _encode(channel, publications, audience, encoded), audience.wanted)
            if not keyed:
                continue
            missed = pace.missed.get(audience)
            if missed is None:
                missed = Missed(audience.framing, pace.delivery.max_keys, self.stragglers)
                pace.missed[audience] = missed
            missed.write(group, keyed, written)
        if isinstance(publications, Conflated):
            self._metrics.conflated(publications.replaced)
        self._metrics.withheld(written.withheld)
        self._metrics.unkept(written.unkept)


def _write_all(channel: Channel, publications: Pending, written: Written) -> None:
    encoded: Encoded = {}
    for audience, group in channel.members.items():
        items = _encode(channel, publications, audience, encoded)
        wanted = audience.wanted
        if wanted is not None:
            items = [
                item for item, each in zip(items, publications, strict=True) if wanted.passes(each.tags or {})
            ]
        written.send(audience.framing, group, items)


def _latest(publications: Pending, items: list[bytes], wanted: TagsFilter | None) -> list[Keyed]:
    """Return what is wanted, by key: a newer publication that a filter keeps back replaces none that it lets pass."""
    return latest(
        (key_of(each), item)
        for each, item in zip(publications, items, strict=True)
        if wanted is None or wanted.passes(each.tags or {})
    )


def _encode(channel: Channel, publications: Pending, audience: Audience, encoded: Encoded) -> list[bytes]:
    """Return publications in the form of an audience, made where that is not `encoded` yet."""
    form = audience.framing.codec, audience.compact
    items = encoded.get(form)
    if items is None:
        encode = audience.framing.codec.publication
        place = channel.id if audience.compact else channel.name
        items = [encode(place, each.data, each.info, each.tags, each.channel) for each in publications]
        encoded[form] = items
    return items
