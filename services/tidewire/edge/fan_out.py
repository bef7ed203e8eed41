"""Writing a channel's publications to its members: encoded once for all who want the same ones in the same form."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from tidewire.edge.conflation import key_of, latest
from tidewire.edge.stragglers import Missed, Stragglers, Written

if TYPE_CHECKING:
    from tidewire.edge.channel import Audience, Channel, Pace
    from tidewire.edge.connection import Connection
    from tidewire.edge.policies.filters import TagsFilter
    from tidewire.edge.ports import Metrics, Publication
    from tidewire.edge.stragglers import Keyed
    from tidewire.edge.wire.codec import Codec
    from tidewire.kernel.clock import Clock


class FanOut:
    """Writes, and counts what was written."""

    __slots__ = ("_clock", "_metrics", "stragglers")

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self.stragglers = Stragglers()
        """Members of conflating channels that cannot keep up."""

    def send(self, channel: Channel, publications: Collection[Publication]) -> list[Connection]:
        """Write publications to a channel's members; return those that have too much waiting."""
        started = self._clock.monotonic()
        written = Written()
        encoded: dict[tuple[Codec, bool], list[bytes]] = {}
        for audience, group in channel.members.items():
            form = audience.framing.codec, audience.compact
            items = encoded.get(form)
            if items is None:
                items = encoded[form] = _encode(channel, publications, *form)
            if channel.pace is not None and channel.pace.delivery.conflate:
                self._conflated(channel.pace, audience).write(
                    group, _latest(publications, items, audience.wanted), written
                )
            else:
                written.send(audience.framing, group, _wanted(publications, items, audience.wanted))
        self._metrics.fanned_out(written.deliveries, written.size, self._clock.monotonic() - started)
        self._count(written)
        self._finish(publications, sum(map(len, channel.members.values())))
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

    def _conflated(self, pace: Pace, audience: Audience) -> Missed:
        missed = pace.missed.get(audience)
        if missed is None:
            missed = pace.missed[audience] = Missed(audience.framing, pace.delivery.max_keys, self.stragglers)
        return missed

    def _count(self, written: Written) -> None:
        if written.withheld:
            self._metrics.withheld(written.withheld)
        if written.unkept:
            self._metrics.unkept(written.unkept)

    def _finish(self, publications: Collection[Publication], subscribers: int) -> None:
        now = self._clock.wall()
        for publication in publications:
            if publication.sent_us:
                self._metrics.latency(max(0.0, now - publication.sent_us / 1e6))
            if publication.span is not None:
                publication.span.end(subscribers=subscribers)


def _encode(
    channel: Channel, publications: Collection[Publication], codec: Codec, compact: bool
) -> list[bytes]:
    encode = codec.publication
    place = channel.id if compact else channel.name
    return [encode(place, each.data, each.info, each.tags, each.channel) for each in publications]


def _wanted(
    publications: Collection[Publication], items: list[bytes], wanted: TagsFilter | None
) -> list[bytes]:
    if wanted is None:
        return items
    return [item for item, each in zip(items, publications, strict=True) if wanted.passes(each.tags or {})]


def _latest(
    publications: Collection[Publication], items: list[bytes], wanted: TagsFilter | None
) -> list[Keyed]:
    """Return what is wanted, by key: a newer publication that a filter keeps back replaces none that it lets pass."""
    return latest(
        (key_of(each), item)
        for each, item in zip(publications, items, strict=True)
        if wanted is None or wanted.passes(each.tags or {})
    )
