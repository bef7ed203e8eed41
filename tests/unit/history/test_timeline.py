from __future__ import annotations

import gc
import tracemalloc

from tidewire.history.feed import Feed
from tidewire.history.messages import Message
from tidewire.history.packed import packed
from tidewire.history.timeline import FIXED_COST, Timeline

HEARD = b"\r\n\r\n%d"
FEED = Feed("TW_default_0", "default", 0)


def line(*chain: tuple[int, int], floor: int = 0, oldest_first: bool = True) -> Timeline:
    """A timeline that was told of these, (sequence, last)."""
    timeline = Timeline(FEED, floor, floor)
    for sequence, last in chain:
        timeline.append(sequence, last, sequence, HEARD % sequence, oldest_first=oldest_first)
    return timeline


def written(sequence: int) -> bytes:
    """It, as it stands in a reply."""
    return packed(read(sequence))


def read(sequence: int) -> Message:
    """A message that was read from the stream."""
    return Message(b"", b"", sequence, sequence, None, b"", b"%d" % sequence)


def test_an_unbroken_chain_is_proven() -> None:
    """From where the feed began."""
    timeline = line((12, 0), (15, 12), floor=10)
    assert (timeline.sequences.tolist(), timeline.floor, timeline.indexed) == ([12, 15], 10, 0)


def test_the_one_before_reaches_back() -> None:
    """It is stored still, so nothing behind it has gone."""
    timeline = line((12, 4), floor=10)
    assert (timeline.floor, timeline.indexed) == (4, 4)
    timeline = line((12, 4), floor=10, oldest_first=False)
    assert (timeline.floor, timeline.indexed) == (10, 4)


def test_a_zero_proves_nothing() -> None:
    """A publication that came and went in between is invisible."""
    assert line((12, 0), floor=10).floor == 10


def test_publications_that_have_gone() -> None:
    """Who is behind them has missed something."""
    timeline = line((12, 0), (15, 12), (20, 0), floor=10)
    assert (timeline.sequences.tolist(), timeline.cut, timeline.floor) == ([20], 15, 15)


def test_one_that_was_never_heard() -> None:
    """Nothing before it is proven."""
    timeline = line((12, 0), (20, 15), floor=10)
    assert (timeline.sequences.tolist(), timeline.floor, timeline.indexed) == ([20], 15, 15)


def test_those_that_end_by_themselves() -> None:
    """In any order: what is before them is there still."""
    timeline = line((12, 0), (15, 12), (20, 12), floor=10, oldest_first=False)
    assert timeline.sequences.tolist() == [12, 20]
    assert [timeline.body(place) for place in range(2)] == [written(12), written(20)]


def test_bodies_are_the_newest() -> None:
    """They go by halves, come back where they reach the others, and are counted."""
    timeline = line(*[(number, number - 1) for number in range(1, 9)])
    timeline.forget_bodies()
    assert [timeline.body(place) is None for place in range(4)] == [True] * 4
    timeline.restore(0, [written(1)])
    assert timeline.body(0) is None
    timeline.restore(2, [written(3), written(4)])
    last = [written(sequence) for sequence in range(3, 9)]
    assert timeline.body_bytes == sum(map(len, [*last[:2], *[HEARD % sequence for sequence in range(5, 9)]]))
    for _ in range(2):
        assert [timeline.body(place) for place in range(8)] == [None, None, *last]
        assert timeline.body_bytes == sum(map(len, last))  # what is read is written, and kept so
    timeline.keep(8)
    assert len(timeline.sequences) == 8


def test_an_index_is_cut_now_and_then() -> None:
    """Not at each publication, and never below the size."""
    timeline = line(*[(number, number - 1) for number in range(1, 40)])
    timeline.keep(30)
    assert len(timeline.sequences) == 39
    timeline.keep(10)
    assert timeline.sequences.tolist() == list(range(30, 40))
    assert (timeline.floor, timeline.indexed, timeline.gone, timeline.cut) == (29, 29, 29, 0)


def test_older_ones_come_before() -> None:
    """With their data only where it reaches that which is held."""
    timeline = line((12, 8), floor=10)
    timeline.prepend(6, [read(8)])
    assert (timeline.sequences.tolist(), timeline.indexed, timeline.floor) == ([8, 12], 6, 8)
    timeline.forget_bodies()
    timeline.prepend(2, [read(4)])
    assert timeline.body(0) is None
    timeline.prove(3)
    assert timeline.floor == 3
    timeline.prove(1)
    assert timeline.floor == 2


def test_a_purge_moves_nobody() -> None:
    """Who has all is proven to have all; who has not, is told."""
    timeline = line((12, 0), (15, 12), floor=10)
    timeline.lose_through(20)
    assert (timeline.newest, timeline.cut, timeline.floor, timeline.indexed) == (15, 15, 15, 0)


def test_a_channel_is_small() -> None:
    """Less than 1 KiB beside its publications, and about what it is said to be."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    lines = {b"tw.in.0.chat.%d" % number: line((number + 1, 0)) for number in range(1000)}
    each = (tracemalloc.get_traced_memory()[0] - before) / len(lines)
    tracemalloc.stop()
    said = sum(timeline.cost for timeline in lines.values()) / len(lines)
    assert each < 1024
    assert said > each * 0.9
    assert FIXED_COST < 1024
