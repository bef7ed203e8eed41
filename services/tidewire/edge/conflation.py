"""How a namespace's publications go out, and conflation: of those with the same key only the latest counts.

Nothing here knows sockets or time. A publication without a key is never conflated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    from tidewire.edge.ports import Publication

Key = tuple[str, bytes]
"""What is conflated: the channel where a pattern heard it (else ""), and the publisher's key."""
Item = TypeVar("Item")


class Delivery(msgspec.Struct, frozen=True):
    """How publications go out that are neither sent at once nor all of them. Seconds, and numbers of publications and keys."""

    max_delay: float
    max_size: int
    conflate: bool
    max_keys: int

    def keeps_like(self, other: Delivery | None) -> bool:
        """Return whether `other` keeps the same for members that cannot keep up."""
        return other is not None and (self.conflate, self.max_keys) == (other.conflate, other.max_keys)


def key_of(publication: Publication) -> Key | None:
    """Return what a publication is conflated by, None for nothing."""
    return (publication.channel, publication.key) if publication.key else None


def latest(items: Iterable[tuple[Key | None, Item]]) -> list[tuple[Key | None, Item]]:
    """Return the items without those that a later one with the same key replaces, in order."""
    newest: dict[Key | int, tuple[Key | None, Item]] = {}
    for number, each in enumerate(items):
        place = number if each[0] is None else each[0]
        newest.pop(place, None)  # the later one stands where it came
        newest[place] = each
    return list(newest.values())


class Batch(list["Publication"]):
    """Publications that wait, all of them; `size`: the bytes of their data."""

    __slots__ = ("size",)

    def __init__(self, publications: Iterable[Publication] = ()) -> None:
        super().__init__(publications)
        self.size = sum(len(each.data) for each in self)

    def append(self, publication: Publication) -> None:
        """Let a publication wait."""
        super().append(publication)
        self.size += len(publication.data)


class Conflated:
    """Publications that wait. A newer one replaces an older one with the same key and the same tags.

    Those whose tags differ are both kept: a filter may want the older one. `latest` chooses when it is known who wants what.
    """

    __slots__ = ("_numbers", "_publications", "replaced", "size")

    def __init__(self, publications: Iterable[Publication] = ()) -> None:
        self._publications: dict[object, Publication] = {}
        self._numbers = count()
        self.replaced = 0
        """Publications that nobody will get."""
        self.size = 0
        """Bytes of the data of those that wait."""
        for publication in publications:
            self.append(publication)

    def __len__(self) -> int:
        return len(self._publications)

    def __iter__(self) -> Iterator[Publication]:
        return iter(self._publications.values())

    def append(self, publication: Publication) -> None:
        """Let a publication wait."""
        place = self._place(publication)
        older = self._publications.pop(place, None)
        if older is not None:
            self.replaced += 1
            self.size -= len(older.data)
            if older.span is not None:
                older.span.end(subscribers=0)
        self._publications[place] = publication
        self.size += len(publication.data)

    def _place(self, publication: Publication) -> object:
        key = key_of(publication)
        if key is None:
            return next(self._numbers)
        return (key, frozenset(publication.tags.items())) if publication.tags else key
