"""Writing a channel's publications to its members: encoded once for all who want the same ones in the same form."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from tidewire.edge.conflation import Conflated, key_of, latest
from tidewire.edge.deltas import Basis, Deltas, Link
from tidewire.edge.framing import MAX_JOINED
from tidewire.edge.stragglers import Missed, Stragglers, Written

if TYPE_CHECKING:
    from tidewire.edge.channel import Audience, Channel, Pace, Pending
    from tidewire.edge.connection import Connection
    from tidewire.edge.deltas import Chain, Links
    from tidewire.edge.policies.filters import TagsFilter
    from tidewire.edge.ports import Metrics, Publication
    from tidewire.edge.stragglers import Keyed
    from tidewire.edge.wire.codec import Codec
    from tidewire.kernel.clock import Clock

    Groups = Iterable[tuple[Audience, Collection[Connection]]]
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
        groups: Groups = channel.members.items()
        if channel.chain is not None:
            groups = [(audience, group) for audience, group in groups if audience.basis is None]
            self._write_chained(channel, channel.chain, list(publications), written)
        if channel.pace is not None and channel.pace.delivery.conflate:
            self._write_latest(channel, channel.pace, groups, publications, written)
        else:
            _write_all(channel, groups, publications, written)
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

    def _write_latest(
        self, channel: Channel, pace: Pace, groups: Groups, publications: Pending, written: Written
    ) -> None:
        encoded: Encoded = {}
        for audience, group in groups:
            keyed = _latest(publications, _encode(channel, publications, audience, encoded), audience.wanted)
            if keyed:
                self._missed(pace, audience).write(group, keyed, written)
        if isinstance(publications, Conflated):
            self._metrics.conflated(publications.replaced)
        self._metrics.withheld(written.withheld)
        self._metrics.unkept(written.unkept)

    def _write_chained(
        self, channel: Channel, chain: Chain, publications: Sequence[Publication], written: Written
    ) -> None:
        """Write to the members that asked for deltas."""
        if channel.conflates:
            publications = [each for _, each in latest((key_of(each), each) for each in publications)]
        links = _links(channel, chain, publications)
        encoded: dict[tuple[Codec, bool, Basis], list[bytes]] = {}
        for audience, group in channel.members.items():
            if audience.basis is None:
                continue
            told = links[audience.basis]
            form = audience.framing.codec, audience.compact, audience.basis
            items = encoded.get(form)
            if items is None:
                items = encoded[form] = _encode_links(channel, publications, told, audience)
            if channel.pace is None or not channel.conflates or audience.basis is Basis.LATEST:
                written.send(audience.framing, group, items)
                self.deltas.delivered(told, len(group))
            else:
                before = written.deliveries
                keyed = _latest(publications, items, audience.wanted)
                self._missed(channel.pace, audience).write(group, keyed, written)
                self.deltas.delivered(told[:1], written.deliveries - before)  # all whole
        _promote(channel)

    def _missed(self, pace: Pace, audience: Audience) -> Missed:
        missed = pace.missed.get(audience)
        if missed is None:
            missed = pace.missed[audience] = Missed(audience.framing, pace.delivery.max_keys, self.stragglers)
        return missed


def _write_all(channel: Channel, groups: Groups, publications: Pending, written: Written) -> None:
    encoded: Encoded = {}
    for audience, group in groups:
        items = _encode(channel, publications, audience, encoded)
        wanted = audience.wanted
        if wanted is not None:
            items = [
                item for item, each in zip(items, publications, strict=True) if wanted.passes(each.tags or {})
            ]
        written.send(audience.framing, group, items)


def _latest(
    publications: Iterable[Publication], items: list[bytes], wanted: TagsFilter | None
) -> list[Keyed]:
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


def _encode_links(
    channel: Channel, publications: Sequence[Publication], links: Sequence[Link], audience: Audience
) -> list[bytes]:
    """Return what is sent of publications to members with a basis, in the form of their audience."""
    encode = audience.framing.codec.publication
    place = channel.id if audience.compact else channel.name
    return [
        encode(place, link.data, each.info, each.tags, each.channel, delta=link.is_delta)
        for each, link in zip(publications, links, strict=True)
    ]


def _links(channel: Channel, chain: Chain, publications: Sequence[Publication]) -> Links:
    """Return what is sent of publications to members with each basis."""
    links = chain.advance(publications, always=channel.deltas, latest=bool(channel.with_basis(Basis.LATEST)))
    if not channel.conflates:
        return links
    _demote(channel, links[Basis.LATEST])
    return {**links, Basis.NOTHING: [Link(each.data, "first") for each in publications]}


def _demote(channel: Channel, links: Sequence[Link]) -> None:
    """Let members of a conflating channel whose sockets are full have no basis: what they miss is kept whole, or not at all.

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
