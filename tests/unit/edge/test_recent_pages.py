from __future__ import annotations

from typing import Any, cast

from tidewire.edge.places import cost
from tidewire.edge.ports import Page, Publication
from tidewire.edge.recent_pages import LIFE_TICKS, RecentPages
from tidewire.edge.timeline import Room
from tidewire.edge.wire.commands import StreamPosition

A, B = cast("Any", "a"), cast("Any", "b")
SINCE = StreamPosition(offset=1, epoch="e")
PAGE = Page(StreamPosition(offset=2, epoch="e"), [Publication(b"x" * 100, offset=2)])
SIZE = cost(PAGE.publications[0])


def test_a_page_is_of_a_channel_and_a_position() -> None:
    """And of no other."""
    pages = RecentPages(Room())
    pages.keep(A, SINCE, PAGE)
    assert pages.find(A, StreamPosition(offset=1, epoch="e")) is PAGE
    assert pages.find(B, SINCE) is None
    assert pages.find(A, StreamPosition(offset=1, epoch="f")) is None


def test_pages_are_forgotten() -> None:
    """With their bytes."""
    room = Room()
    pages = RecentPages(room)
    pages.keep(A, SINCE, PAGE)
    pages.keep(A, SINCE, PAGE)
    assert room.used == SIZE
    for _ in range(LIFE_TICKS):
        pages.tick()
    assert pages.find(A, SINCE) is PAGE
    for _ in range(LIFE_TICKS):
        pages.tick()
    assert (pages.find(A, SINCE), room.used) == (None, 0)


def test_pages_take_half_of_the_room_and_no_more_than_is_left() -> None:
    """What is beyond that is not kept."""
    room = Room(4 * SIZE)
    pages = RecentPages(room)
    for number in range(4):
        pages.keep(A, StreamPosition(offset=number, epoch="e"), PAGE)
    assert [pages.find(A, StreamPosition(offset=number, epoch="e")) is PAGE for number in range(4)] == [
        True,
        True,
        False,
        False,
    ]
    full = Room(4 * SIZE)
    full.used = 4 * SIZE - 1
    pages = RecentPages(full)
    pages.keep(A, SINCE, PAGE)
    assert pages.find(A, SINCE) is None
