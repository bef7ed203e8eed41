"""Writing a channel's publications to its members: encoded once for all who want the same ones in the same form."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tidewire.edge.conflation import key_of, latest
from tidewire.edge.deltas import Basis, Deltas, Link
from tidewire.edge.framing import MAX_JOINED
from tidewire.edge.stragglers import Missed, Stragglers, Written

if TYPE_CHECKING:
    from tidewire.edge.channel import Audience, Channel, Pace
    from tidewire.edge.connection import Connection
    from tidewire.edge.deltas import Chain
    from tidewire.edge.policies.filters import TagsFilter
    from tidewire.edge.ports import Metrics, Publication
    from tidewire.edge.stragglers import Keyed
    from tidewire.edge.wire.codec import Codec
    from tidewire.kernel.clock import Clock

    Form = tuple[Codec, bool, Basis | None]


class Content(NamedTuple):
    """Publications to be written, and for members that asked for deltas what is sent of each."""

    publications: Sequence[Publication]
    links: Sequence[Link] = ()


class FanOut:
    """Writes, and counts what was written."""

    __slots__ = ("_clock", "_metrics", "deltas", "stragglers")

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self.deltas = Deltas(metrics)
        self.stragglers = Stragglers()
        """Members of conflating channels that cannot keep up."""

    def send(self, channel: Channel, publications: Sequence[Publication]) -> list[Connection]:
        """Write publications to a channel's members; return those that have too much waiting."""
        started = self._clock.monotonic()
        written = Written()
        contents: dict[Basis | None, Content] = {None: Content(publications)}
        if channel.chain is not None:
            contents |= _chained(channel, channel.chain, publications)
        encoded: dict[Form, list[bytes]] = {}
        for audience, group in channel.members.items():
            content = contents[audience.basis]
            form = audience.framing.codec, audience.compact, audience.basis
            items = encoded.get(form)
            if items is None:
                items = encoded[form] = _encode(channel, content, *form)
            if channel.pace is None or not channel.conflates or audience.basis is Basis.LATEST:
                written.send(audience.framing, group, _wanted(publications, items, audience.wanted))
                self.deltas.delivered(content.links, len(group))
            else:
                before = written.deliveries
                self._conflated(channel.pace, audience).write(
                    group, _latest(content.publications, items, audience.wanted), written
                )
                self.deltas.delivered(content.links[:1], written.deliveries - before)  # all whole
        if channel.chain is not None:
            _promote(channel)
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


def _chained(
    channel: Channel, chain: Chain, publications: Sequence[Publication]
) -> dict[Basis | None, Content]:
    """Return what is written to members with each basis."""
    if channel.conflates:
        publications = [each for _, each in latest((key_of(each), each) for each in publications)]
    links = chain.advance(publications, always=channel.deltas, latest=bool(channel.with_basis(Basis.LATEST)))
    if channel.conflates:
        _demote(channel, links[Basis.LATEST])
        links = {**links, Basis.NOTHING: [Link(each.data, "first") for each in publications]}
    return {basis: Content(publications, each) for basis, each in links.items()}


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


def _encode(
    channel: Channel, content: Content, codec: Codec, compact: bool, basis: Basis | None
) -> list[bytes]:
    encode = codec.publication
    place = channel.id if compact else channel.name
    publications = content.publications
    if basis is not None:
        return [
            encode(place, link.data, each.info, each.tags, each.channel, delta=link.is_delta)
            for each, link in zip(publications, content.links, strict=True)
        ]
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
