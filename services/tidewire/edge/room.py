"""How much may be unconfirmed, over all streams and of each one. Pure.

A stream may hold no more than is free at that moment (dynamic thresholds: Choudhury and Hahne, IEEE/ACM Transactions on
Networking 6(2), 1998). So one that does not answer holds half of the room at most, two a third each, and those that do answer
find room. What is free is used by whoever needs it; nothing is set aside.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec


class Share(msgspec.Struct, eq=False):
    """What one stream holds."""

    publications: int = 0
    size: int = 0
    """Bytes."""


class Room:
    """Counts unconfirmed publications and their bytes."""

    __slots__ = ("_publications", "_size", "publications", "shares", "size")

    def __init__(self, publications: int, size: int) -> None:
        """Of so many publications and bytes."""
        self._publications = publications
        self._size = size
        self.publications = 0
        """Publications that are held, over all streams."""
        self.size = 0
        """Their bytes."""
        self.shares: defaultdict[str, Share] = defaultdict(Share)
        """By stream, of which there are as many as are configured."""

    def take(self, share: Share, size: int) -> bool:
        """Hold one publication more; False, and it is not held, where there is no room for it. The first may have any size."""
        if share.publications >= self._publications - self.publications:
            return False
        if self.publications and share.size + size > self._size - self.size:
            return False
        share.publications += 1
        share.size += size
        self.publications += 1
        self.size += size
        return True

    def give_back(self, share: Share, publications: int, size: int) -> None:
        """Hold so many less."""
        share.publications -= publications
        share.size -= size
        self.publications -= publications
        self.size -= size

    @property
    def largest(self) -> int:
        """Bytes of the stream that holds most."""
        return max((share.size for share in self.shares.values()), default=0)
