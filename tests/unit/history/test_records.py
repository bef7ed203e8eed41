from __future__ import annotations

import msgspec
import pytest

from tidewire.history.feed import Facts
from tidewire.history.records import (
    ABSENT,
    NOTES_KEPT,
    PURGES_KEPT,
    Purges,
    Record,
    notes_of,
    purges_of,
    went_back,
    with_note,
)

FACTS = Facts(created="", generation=0, first=1, last=10, last_time_ns=1, limit=100)


def test_purges_that_are_not_listed_any_more() -> None:
    """Nothing before them is proven, of any channel."""
    purges = Purges()
    for number in range(PURGES_KEPT):
        purges = purges.with_purge("a", number)
    assert purges.through("b") == 0
    assert purges.through("a") == PURGES_KEPT - 1
    purges = purges.with_purge("a", 100).with_purge("a", 101)
    assert (purges.through("b"), purges.count, len(purges.recent)) == (1, PURGES_KEPT + 2, PURGES_KEPT)


@pytest.mark.parametrize(
    ("before", "limit", "floor"), [(100, 200, 10), (100, 0, 10), (100, 50, 0), (0, 100, 0)]
)
def test_limits_that_were_changed(before: int, limit: int, floor: int) -> None:
    """A low count says nothing where the limit was lower once."""
    assert Purges(limit=before).with_limit(limit, 10).floor == floor


def test_what_was_noted_of_purges() -> None:
    """In this life, as far as it can be read."""
    noted = Purges(1, 2, 3, [("a", 4)])
    assert purges_of(ABSENT, "e", 10) == Purges()
    assert purges_of(Record(msgspec.json.encode(noted), 1, "e"), "e", 10) == noted
    assert purges_of(Record(msgspec.json.encode(noted), 1, "other"), "e", 10) == Purges(floor=10)
    assert purges_of(Record(b"{", 1, "e"), "e", 10) == Purges(floor=10)


def test_notes() -> None:
    """Of this life only; never lowered; the newest are kept."""
    record = Record(b"[[5, 50], [3, 30]]", 1, "e")
    assert notes_of(record, "e") == [(3, 30), (5, 50)]
    assert notes_of(record, "other") == notes_of(ABSENT, "e") == notes_of(Record(b"x", 1, "e"), "e") == []
    assert with_note([(3, 30)], 5, 50) == [(3, 30), (5, 50)]
    assert with_note([(3, 30)], 3, 31) is None
    assert with_note([(3, 30)], 2, 20) is None
    assert with_note([], 0, 0) is None
    full = [(number, number) for number in range(1, NOTES_KEPT + 1)]
    assert with_note(full, 99, 99) == [*full[1:], (99, 99)]


def test_a_stream_that_went_back() -> None:
    """Behind what was heard, or noted."""
    assert went_back(10, FACTS, [(10, 1)]) == ""
    assert "11 was heard" in went_back(11, FACTS, [])
    assert "12 was noted" in went_back(0, FACTS, [(12, 1)])
