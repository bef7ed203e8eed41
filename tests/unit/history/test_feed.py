from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidewire.history import feed as feeds
from tidewire.history.feed import CURRENT_SECONDS, Feed, Life
from tidewire.history.messages import Message


def message(sequence: int, time_ns: int = 0, data: bytes = b"") -> Message:
    """A message of the stream."""
    return Message(b"", b"", sequence, time_ns or sequence, 0, b"", data)


def begun(last: int = 0) -> Feed:
    """A feed from there on."""
    feed = Feed("TW_default_0", "default", 0)
    feed.begin(Life("", 0, ""), "epoch", last, 0)
    return feed


@given(st.permutations(range(1, 9)), st.sets(st.integers(1, 8)))
def test_all_is_applied_once_and_in_order(order: list[int], gone: set[int]) -> None:
    """However it comes, with what is gone skipped when its turn comes."""
    feed, applied = begun(), []
    for sequence in order:
        if sequence not in gone:
            applied += feed.take(message(sequence))
            applied += feed.take(message(sequence))
    while feed.heard < 8:
        applied += feed.skip(feed.heard + 1)
    assert [each.sequence for each in applied] == [number for number in range(1, 9) if number not in gone]
    assert feed.base == max(gone, default=0)


def test_what_waits_is_bounded(monkeypatch: object) -> None:
    """Beyond it, the stream is asked again."""
    feed = begun()
    for sequence in range(2, feeds.MOST_WAITING + 100):
        feed.take(message(sequence))
    assert len(feed.take(message(1))) == feeds.MOST_WAITING + 1


def test_bytes_that_wait_are_bounded() -> None:
    """Two thousand publications may be half a gigabyte; what has been applied makes room again."""
    feed, data = begun(), bytes(1 << 20)
    for first in (1, 101):
        for sequence in range(first + 1, first + 50):
            feed.take(message(sequence, data=data))
            feed.take(message(sequence, data=data))
        assert len(feed.take(message(first))) == (feeds.MOST_WAITING_BYTES >> 20) + 1
        while feed.heard < first + 99:
            feed.skip(feed.heard + 1)


def test_what_is_current() -> None:
    """For some seconds since it was all there was."""
    feed = begun(5)
    assert not feed.is_current(100.0)
    assert not feed.proven(6, 100.0)
    assert not feed.is_current(100.0)
    assert feed.proven(5, 100.0)
    assert feed.is_current(100.0 + CURRENT_SECONDS)
    assert not feed.is_current(100.1 + CURRENT_SECONDS)
    feed.doubt()
    assert not feed.is_current(100.0)


def test_a_stream_that_counts_anew() -> None:
    """A younger message at a place that was heard; one that is only late is older."""
    feed = begun()
    feed.take(message(1, 10))
    feed.take(message(2, 20))
    assert feed.is_other(message(1, 30))
    assert not feed.is_other(message(1, 10))
    assert not feed.is_other(message(3, 30))
