"""Writing a channel's publications to its members: encoded once for all who want the same ones in the same form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tidewire.edge.conflation import Conflated, key_of, latest
from tidewire.edge.deltas import Basis, Deltas
from tidewire.edge.framing import MAX_JOINED
from tidewire.edge.stragglers import Missed, Stragglers, Written

if TYPE_CHECKING:
    from tidewire.edge.channel import Audience, Channel, Pace, Pending
    from tidewire.edge.connection import Connection
    from tidewire.edge.deltas import Chain, Link
    from tidewire.edge.policies.filters import TagsFilter
    from tidewire.edge.ports import Metrics
    from tidewire.edge.stragglers import Keyed
    from tidewire.edge.wire.codec import Codec
    from tidewire.kernel.clock import Clock

    Members = Iterable[tuple[Audience, dict[Connection, None]]]
    Encoded = dict[tuple[Codec, bool], list[bytes]]
    """Publications of one fan-out in each form that was asked for."""


class FanOut:
    """Writes, and counts what was written."""

    __slots__ = ("_clock", "_metrics", "deltas", "stragglers")

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self.deltas = Deltas(metrics)
        self.stragglers = Stragglers()
        """Members of conflating channels that cannot keep up."""

    def send(self, channel: Channel, publications: Pending) -> list[Connection]:
        """Write publications to a channel's members; return those that have too much waiting."""
        started = self._clock.monotonic()
        written = Written()
        if channel.chain is not None:
            self._write_chained(channel, channel.chain, publications, written)
        else:
            self._write_plain(channel, channel.members.items(), publications, written)
        if channel.pace is not None and channel.pace.delivery.conflate:
            self._metrics.conflated(publications.replaced if isinstance(publications, Conflated) else 0)
            self._metrics.withheld(written.withheld)
            self._metrics.unkept(written.unkept)
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

    def _write_plain(
        self, channel: Channel, members: Members, publications: Pending, written: Written
    ) -> None:
        if channel.pace is not None and channel.pace.delivery.conflate:
            self._write_latest(channel, channel.pace, members, publications, written)
        else:
            _write_all(channel, members, publications, written)

    def _write_latest(
        self,
        channel: Channel,
        pace: Pace,
        members: Members,
        publications: Pending,
        written: Written,
        links: Sequence[Link] = (),
    ) -> None:
        encoded: Encoded = {}
        for audience, group in members:
            items = _encode(channel, publications, audience, encoded, links)
            keyed = _latest(publications, items, audience.wanted)
            if not keyed:
                continue
            missed = pace.missed.get(audience)
            if missed is None:
                missed = Missed(audience.framing, pace.delivery.max_keys, self.stragglers)
                pace.missed[audience] = missed
            missed.write(group, keyed, written)

    def _write_chained(self, channel: Channel, chain: Chain, publications: Pending, written: Written) -> None:
        """Write to a channel with members that asked for deltas. Of a conflating one, whoever has no basis gets all whole."""
        pace = channel.pace if channel.conflates else None
        sent = list(publications)
        if pace is not None:
            sent = [each for _, each in latest((key_of(each), each) for each in sent)]
        links = chain.advance(
            sent, always=channel.deltas, whole=pace is not None, latest=bool(channel.with_basis(Basis.LATEST))
        )
        if pace is not None:
            _demote(channel, links[Basis.LATEST])
        for basis in Basis:
            members, before = channel.with_basis(basis), written.deliveries
            if pace is None or basis is Basis.LATEST:
                _write_all(channel, members, sent, written, links[basis])
                self.deltas.delivered(links[basis], sum(len(group) for _, group in members))
            else:
                self._write_latest(channel, pace, members, sent, written, links[basis])
                self.deltas.delivered(links[basis][:1], written.deliveries - before)
        _promote(channel)
        self._write_plain(channel, channel.with_basis(None), publications, written)


def _demote(channel: Channel, links: Sequence[Link]) -> None:
    """Let members of a conflating channel whose sockets are full have no basis, since what is kept for them is whole.

    All of them, where it is more than a frame: sockets are looked at before each, and none may miss a part of a chain.
    """
    large = sum(len(link.data) for link in links) > MAX_JOINED
    for audience, group in channel.with_basis(Basis.LATEST):
        channel.move(audience, [each for each in group if large or each.transport.congested], Basis.NOTHING)


def _promote(channel: Channel) -> None:
    """Let all who were sent the latest publication, whole or not, have it as their basis."""
    for audience, group in channel.with_basis(Basis.NOTHING):
        behind = channel.pace.missed.get(audience, ()) if channel.pace is not None else ()
        channel.move(audience, [each for each in group if each not in behind], Basis.LATEST)


def _write_all(
    channel: Channel, members: Members, publications: Pending, written: Written, links: Sequence[Link] = ()
) -> None:
    encoded: Encoded = {}
    for audience, group in members:
        items = _encode(channel, publications, audience, encoded, links)
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


def _encode(
    channel: Channel, publications: Pending, audience: Audience, encoded: Encoded, links: Sequence[Link]
) -> list[bytes]:
    """Return publications, or what is sent in place of them, in the form of an audience; made if not `encoded` yet."""
    form = audience.framing.codec, audience.compact
    items = encoded.get(form)
    if items is None:
        encode = audience.framing.codec.publication
        place = channel.id if audience.compact else channel.name
        if links:
            items = [
                encode(place, link.data, each.info, each.tags, each.channel, each.offset, delta=link.is_delta)
                for each, link in zip(publications, links, strict=True)
            ]
        else:
            items = [
                encode(place, each.data, each.info, each.tags, each.channel, each.offset)
                for each in publications
            ]
        encoded[form] = items
    return items
