from __future__ import annotations

import pytest

from tidewire.platform.nats_pending import PendingCalls
from tidewire.platform.nats_types import LinkFull


def test_a_call_leaves_once() -> None:
    """Taken is gone, and its number never comes back."""
    calls: PendingCalls[str] = PendingCalls(10)
    first = calls.add("a", 1.0)
    assert calls.take(first) == "a"
    assert calls.take(first) is None
    assert calls.add("b", 1.0) != first


def test_a_call_is_due_after_its_deadline_and_within_a_tenth_of_a_second() -> None:
    """Never early, and at most one step late."""
    calls: PendingCalls[str] = PendingCalls(10)
    calls.add("later", 5.0)
    calls.add("now", 1.05)
    assert calls.due(1.04) == []
    assert calls.due(1.15) == ["now"]
    assert calls.due(1.15) == []
    assert len(calls) == 1


def test_a_deadline_in_the_past_is_due_at_once() -> None:
    """It does not wait for a step that has gone by."""
    calls: PendingCalls[str] = PendingCalls(10)
    calls.add("old", -3.0)
    assert calls.due(100.0) == ["old"]


def test_due_calls_come_oldest_first() -> None:
    """By deadline, then by number."""
    calls: PendingCalls[str] = PendingCalls(10)
    for name, deadline in (("c", 2.0), ("a", 1.0), ("b", 1.0)):
        calls.add(name, deadline)
    assert calls.due(3.0) == ["a", "b", "c"]


def test_the_limit_refuses_and_room_is_made_by_what_leaves() -> None:
    """Answered calls leave nothing behind, not even in the table of deadlines."""
    calls: PendingCalls[str] = PendingCalls(2)
    first = calls.add("a", 1.0)
    calls.add("b", 1.0)
    with pytest.raises(LinkFull):
        calls.add("c", 1.0)
    calls.add("own", 1.0, limited=False)
    calls.take(first)
    calls.drain()
    assert len(calls) == 0
    assert calls._ticks == {}


def test_drain_returns_everything_oldest_first() -> None:
    """The link is lost: everybody must hear it."""
    calls: PendingCalls[str] = PendingCalls(5)
    calls.add("a", 9.0)
    calls.add("b", 1.0)
    assert calls.drain() == ["a", "b"]
    assert calls.due(100.0) == []
