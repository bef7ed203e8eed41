"""What history has shown clients a moment ago: those of a herd that come with the same position need not ask again. Pure.

Bounded by the bytes that timelines may keep together, of which it takes half at most, and by time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tidewire.edge.places import cost

if TYPE_CHECKING:
    from tidewire.edge.channel import StoredChannel
    from tidewire.edge.ports import Page
    from tidewire.edge.timeline import Room
    from tidewire.edge.wire.commands import StreamPosition

    Key = tuple[StoredChannel, StreamPosition]

LIFE_TICKS: Final = 10
"""A page is forgotten after one to two times as many."""
SHARE: Final = 2


class RecentPages:
    """The pages of the last moments, by channel and the position behind which they begin."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._young: dict[Key, Page] = {}
        self._old: dict[Key, Page] = {}
        self._young_size = self._old_size = 0
        self._ticks = 0

    def find(self, channel: StoredChannel, since: StreamPosition) -> Page | None:
        """Return the page that was shown, if it is not forgotten."""
        key = channel, since
        return self._young.get(key) or self._old.get(key)

    def keep(self, channel: StoredChannel, since: StreamPosition, page: Page) -> None:
        """Keep a page, in place of an older one, unless there is no room for it."""
        room, key = self._room, (channel, since)
        size = _size(page) - _size(self._young.get(key))
        kept = self._young_size + self._old_size + size
        if kept <= room.limit // SHARE and room.used + size <= room.limit:
            self._young[key] = page
            self._young_size += size
            room.used += size

    def tick(self) -> None:
        """Let time pass."""
        self._ticks += 1
        if self._ticks < LIFE_TICKS:
            return
        self._ticks = 0
        self._room.used -= self._old_size
        self._old, self._old_size = self._young, self._young_size
        self._young, self._young_size = {}, 0


def _size(page: Page | None) -> int:
    return sum(map(cost, page.publications)) if page is not None else 0
