from __future__ import annotations

from tests.unit.history.test_timeline import FEED, line
from tidewire.history.cache import Cache
from tidewire.history.feed import Feed
from tidewire.history.timeline import Timeline


def full(number: int) -> Timeline:
    """A timeline with 4 publications of 1,000 bytes."""
    timeline = line()
    for each in range(4):
        sequence = number * 10 + each
        timeline.append(sequence, None, sequence, b"x" * 1000, oldest_first=True)
    return timeline


def test_publications_go_first_and_then_channels() -> None:
    """The least recently used, by halves; their index stays as long as there is room for it."""
    FEED.forgotten = 0
    cache = Cache(21_000)
    for number in range(1, 5):
        cache.insert(b"%d" % number, full(number))
    cache.used(b"1", cache.get(b"1"))  # type: ignore[arg-type]
    cache.insert(b"5", full(5))
    assert [len(cache.get(b"%d" % number).bodies) for number in range(1, 6)] == [4, 0, 4, 4, 4]  # type: ignore[union-attr]
    assert cache.bytes <= cache.budget
    assert (cache.bodies_evicted, cache.channels_evicted, FEED.forgotten) == (4, 0, 0)
    cache.budget = 1_000
    cache.used(b"5", cache.get(b"5"))  # type: ignore[arg-type]
    assert (len(cache), FEED.forgotten) == (1, 43)
    assert cache.get(b"5") is not None


def test_who_is_read_stays() -> None:
    """And goes when it is not read any more."""
    cache, timeline = Cache(1), full(1)
    timeline.pins = 1
    cache.insert(b"1", timeline)
    assert cache.get(b"1") is timeline
    timeline.pins = 0
    cache.used(b"1", timeline)
    assert (len(cache), cache.bytes) == (0, 0)
    cache.used(b"1", timeline)
    assert len(cache) == 0


def test_a_stream_is_dropped() -> None:
    """With its channels, and no others'."""
    cache, other = Cache(1 << 20), Timeline(Feed("other", "default", 1), 0, 0)
    cache.insert(b"1", full(1))
    cache.insert(b"2", line())
    cache.insert(b"3", other)
    assert len(list(cache.of(FEED))) == 2
    cache.drop(FEED)
    assert (len(cache), cache.get(b"3")) == (1, other)
