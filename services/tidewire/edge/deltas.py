"""Deltas between the publications of a channel, for members that asked for them (section 9 of docs/protocol.md's delta rows).

A delta is made once, from one publication to the next, and is sent to every member that was sent the first of the two,
whatever its format: both may carry the same one. Who was not, since it is new or was left out, is sent the next publication
whole and from then on what the others get.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tidewire.kernel import fossil

if TYPE_CHECKING:
    from tidewire.edge.ports import Metrics, Publication

MAX_BASE = 256 * 1024
"""Bytes of a publication that a delta is made of or to; making one takes milliseconds then."""
MAX_KEPT = 64 * 1024 * 1024
"""Bytes of publications that an edge keeps as bases, over all channels. What finds no room is followed by a whole one."""


class Basis(enum.Enum):
    """What a member of a chain has: NOTHING that the next delta applies to, or the chain's LATEST publication."""

    NOTHING = "nothing"
    LATEST = "latest"


class Link(NamedTuple):
    """What is sent of one publication: the delta, or else its data, and why (a label of tidewire_delta_deliveries)."""

    data: bytes
    outcome: str
    saved: int = 0
    """Bytes that the delta is smaller than the publication."""

    @property
    def is_delta(self) -> bool:
        """Whether it has to be applied to the publication before."""
        return self.outcome == "delta"


Links = Mapping[Basis | None, Sequence[Link]]
NO_LINKS: Links = {}


class Chain:
    """The publications of a channel as its members with deltas are sent them; `base` is the latest, where it is kept."""

    __slots__ = ("base",)

    def __init__(self) -> None:
        self.base: bytes | None = None


class Deltas:
    """Makes the deltas of an edge, and keeps what they are made of."""

    __slots__ = ("_metrics", "kept")

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.kept = 0
        """Bytes that are kept as bases."""

    def advance(
        self, chain: Chain, publications: Sequence[Publication], *, always: bool, latest: bool
    ) -> Links:
        """Take the next publications, at least one; return what is sent of them to members with either basis.

        `always`: deltas are wanted of all, not only of those whose publisher asked. `latest`: somebody has that basis.
        """
        first = Link(publications[0].data, "first")
        links = [self._link(chain, publications[0], always=always) if latest else first]
        self._keep(chain, publications[0].data)
        for publication in publications[1:]:
            links.append(self._link(chain, publication, always=always))
            self._keep(chain, publication.data)
        return {Basis.LATEST: links, Basis.NOTHING: [first, *links[1:]]}

    def delivered(self, links: Sequence[Link], members: int) -> None:
        """Count what so many members were sent."""
        for link in links:
            self._metrics.delta_delivered(link.outcome, members, link.saved * members)

    def end(self, chain: Chain) -> None:
        """Keep nothing for a chain any more."""
        self._keep(chain, None)

    def _link(self, chain: Chain, publication: Publication, *, always: bool) -> Link:
        data = publication.data
        if not (always or publication.delta):
            return Link(data, "unasked")
        if chain.base is None or len(data) > MAX_BASE:
            return Link(data, "too_large")
        delta = fossil.create(chain.base, data)
        self._metrics.delta_made()
        saved = len(data) - len(delta)
        return Link(delta, "delta", saved) if saved > 0 else Link(data, "no_gain")

    def _keep(self, chain: Chain, data: bytes | None) -> None:
        self.kept -= len(chain.base or b"")
        fits = data is not None and len(data) <= MAX_BASE and self.kept + len(data) <= MAX_KEPT
        chain.base = data if fits else None
        self.kept += len(chain.base or b"")
