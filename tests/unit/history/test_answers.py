from __future__ import annotations

from typing import Any

import pytest

from tests.unit.history.test_timeline import line
from tidewire.history.answers import Need, Outcome, Publication, Query, Shown, Since, Window, answer, decide
from tidewire.history.timeline import Timeline

WIDE = Window(100, 0)


def query(since: Since | None = None, **changes: Any) -> Query:
    """A query for everything."""
    asked = Query("chat:a", since, 100, reverse=False, max_bytes=1000, at_least=0, recover=False)
    return asked._replace(**changes)


def of(timeline: Timeline, asked: Query, window: Window = WIDE, *, oldest_first: bool = True) -> Shown | Need:
    """What is decided; the feed has heard it all, in the epoch e."""
    timeline.feed.epoch, timeline.feed.heard = "e", 1000
    return decide(timeline, asked, window, oldest_first=oldest_first)


FIVE = [(11, 0), (12, 11), (13, 12), (14, 13), (15, 14)]


@pytest.mark.parametrize(
    ("since", "window", "shown"),
    [
        (13, WIDE, [14, 15]),
        (10, WIDE, [11, 12, 13, 14, 15]),
        (9, WIDE, Need.PROOF),
        (900, WIDE, []),
        (1001, WIDE, Outcome.OTHER_EPOCH),
        (13, Window(2, 0), [14, 15]),
        (13, Window(1, 0), Outcome.TRIMMED),
        (13, Window(100, 14), [14, 15]),
        (13, Window(100, 15), Outcome.TRIMMED),
    ],
)
def test_recoveries(since: int, window: Window, shown: object) -> None:
    """All behind the position that can be read, or none."""
    found = of(line(*FIVE, floor=10), query(Since(since, "e"), recover=True), window)
    if isinstance(found, Shown):
        assert shown == (found.sequences if found.outcome is Outcome.COMPLETE else found.outcome)
    else:
        assert found is shown


def test_a_recovery_is_not_had_everywhere() -> None:
    """In no other epoch, beyond no limit, and not where publications end by themselves."""
    timeline = line(*FIVE, floor=10)
    outcomes = [
        of(timeline, query(Since(13, "d"), recover=True)),
        of(timeline, query(Since(13, ""), recover=True)),
        of(timeline, query(Since(12, "e"), recover=True, limit=2)),
        of(timeline, query(Since(13, "e"), recover=True), oldest_first=False),
    ]
    assert [found.outcome for found in outcomes if isinstance(found, Shown)] == [
        Outcome.OTHER_EPOCH,
        Outcome.OTHER_EPOCH,
        Outcome.TOO_MANY,
        Outcome.TRIMMED,
    ]


def test_a_recovery_from_the_start() -> None:
    """In whichever epoch, where nothing has gone."""
    asked = query(Since(0, ""), recover=True)
    assert of(line((1, 0), (2, 1)), asked) == Shown([1, 2], Outcome.COMPLETE)
    assert of(line(*FIVE, floor=10), asked) is Need.PROOF


def test_pages_need_the_index() -> None:
    """As far as they go, and to say whether more follow."""
    timeline = line((12, 4), (15, 12), floor=10)
    back = query(reverse=True, limit=1)
    assert of(timeline, query()) is Need.INDEX
    assert of(timeline, back) == Shown([15], Outcome.MORE)
    assert of(timeline, back._replace(limit=2)) is Need.INDEX
    assert of(timeline, back._replace(limit=2), Window(2, 0)) == Shown([15, 12], Outcome.COMPLETE)
    assert of(timeline, query(), Window(100, 15)) == Shown([15], Outcome.COMPLETE)
    assert of(timeline, query(limit=0)) == Shown([], Outcome.COMPLETE)


def test_bytes() -> None:
    """A page has one publication at least; a recovery is whole or none."""
    publications = {number: Publication(number, b"x" * 100) for number in (1, 2)}
    shown = Shown([1, 2], Outcome.COMPLETE)
    for limit, offsets, outcome in (
        (200, [1, 2], Outcome.COMPLETE),
        (199, [1], Outcome.MORE),
        (1, [1], Outcome.MORE),
    ):
        found = answer((2, "e"), query(max_bytes=limit), shown, publications)
        assert ([each.offset for each in found.publications], found.outcome) == (offsets, outcome)
    found = answer((2, "e"), query(max_bytes=199, recover=True), shown, publications)
    assert (found.publications, found.outcome) == ([], Outcome.TOO_MANY)
