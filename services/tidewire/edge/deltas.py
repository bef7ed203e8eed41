"""Deltas between the publications of a channel, for members that asked for them.

A delta is made once, from one publication to the next, and is sent to every member that was sent the first of the two,
whatever its format: it is text where they are. Who was not, since it is new or could not keep up, is sent a publication
whole, and then what the others get.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tidewire.kernel import fossil

if TYPE_CHECKING:
    from tidewire.edge.ports import Metrics, Publication

MAX_BASE = 256 * 1024
"""Bytes of publications that deltas are made between, which takes milliseconds then."""
MAX_AT_ONCE = 256 * 1024
"""Bytes of the publications of one fan-out that deltas are made of, since nothing else has its turn meanwhile."""
MAX_KEPT = 64 * 1024 * 1024
"""Bytes that an edge keeps to make deltas of, over all channels. After what finds no room the next goes whole."""


class Basis(enum.Enum):
    """What a member has that the next delta may apply to: NOTHING, or the LATEST publication of the chain."""

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


Links = Mapping[Basis, Sequence[Link]]
"""What is sent of some publications to those with each basis."""


class Deltas:
    """Makes the deltas of an edge, and counts what became of them."""

    __slots__ = ("_metrics", "kept")

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.kept = 0
        """Bytes that are kept to make deltas of."""

    def begin(self) -> Chain:
        """Return the chain of a channel whose first member asks for deltas."""
        return Chain(self)

    def between(self, base: bytes, target: bytes) -> Link:
        """Return the delta, or the whole where that is not larger."""
        delta = fossil.create(base, target)
        self._metrics.delta_made()
        saved = len(target) - len(delta)
        return Link(delta, "delta", saved) if saved > 0 else Link(target, "no_gain")

    def delivered(self, links: Sequence[Link], members: int) -> None:
        """Count that so many members were sent these."""
        for link in links:
            self._metrics.delta_delivered(link.outcome, members, link.saved * members)


class Chain:
    """The publications of a channel, of which each may be sent as a delta to the one before: `base`, where that is kept."""

    __slots__ = ("_deltas", "base")

    def __init__(self, deltas: Deltas) -> None:
        self._deltas = deltas
        self.base: bytes | None = None

    def advance(
        self, publications: Sequence[Publication], *, always: bool, latest: bool, whole: bool
    ) -> Links:
        """Take the next publications, at least one, and return what is sent of them.

        `always`: deltas are wanted of all, not only of those whose publisher asked. `latest`: somebody has that basis.
        `whole`: without one nothing comes as a delta, else only the first does not.
        """
        firsts = [Link(each.data, "first") for each in publications]
        links: list[Link] = []
        room = MAX_AT_ONCE
        for publication, first in zip(publications, firsts, strict=True):
            has_basis = latest or (links and not whole)
            links.append(self._next(publication, room, always=always) if has_basis else first)
            room -= len(publication.data)
            self.keep(publication.data)
        return {Basis.LATEST: links, Basis.NOTHING: firsts if whole else [firsts[0], *links[1:]]}

    def keep(self, data: bytes | None) -> None:
        """Let this be the base of the next delta, where there is room; None: keep nothing."""
        deltas = self._deltas
        deltas.kept -= len(self.base or b"")
        fits = data is not None and len(data) <= MAX_BASE and deltas.kept + len(data) <= MAX_KEPT
        self.base = data if fits else None
        deltas.kept += len(self.base or b"")

    def _next(self, publication: Publication, room: int, *, always: bool) -> Link:
        data = publication.data
        if not (always or publication.delta):
            return Link(data, "unasked")
        if self.base is None or len(data) > min(MAX_BASE, room):
            return Link(data, "too_large")
        return self._deltas.between(self.base, data)
