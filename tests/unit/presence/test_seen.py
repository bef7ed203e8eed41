from __future__ import annotations

from tidewire.presence.seen import KEPT_MS, Seen

NOW = 10 * KEPT_MS


def test_the_latest_end_counts() -> None:
    """Not an earlier one that comes late, and not a time to come."""
    seen = Seen(10, NOW)
    assert seen.last("bob", NOW) == 0
    seen.gone("bob", NOW - 5, NOW)
    seen.gone("bob", NOW - 9, NOW)
    assert seen.last("bob", NOW) == NOW - 5
    seen.gone("bob", NOW + 10**9, NOW)
    assert seen.last("bob", NOW) == NOW


def test_it_is_kept_for_a_day() -> None:
    """And what is known reaches no further back."""
    seen = Seen(10, NOW)
    seen.gone("bob", NOW, NOW)
    assert seen.last("bob", NOW + KEPT_MS - 1) == NOW
    assert seen.last("bob", NOW + KEPT_MS) == 0
    assert seen.since(NOW + 1) == NOW
    assert seen.since(NOW + 2 * KEPT_MS) == NOW + KEPT_MS
    seen.expire(NOW + KEPT_MS)
    assert len(seen) == 0


def test_what_a_clock_that_was_ahead_has_forgotten_is_not_claimed_to_be_known() -> None:
    """It has jumped two days forward, and back."""
    seen = Seen(10, NOW - 100)
    seen.gone("bob", NOW, NOW)
    seen.expire(NOW + 2 * KEPT_MS)
    assert seen.last("bob", NOW + 10) == 0
    assert seen.since(NOW + 10) == NOW + 1


def test_beyond_its_bound_it_says_what_it_forgot() -> None:
    """The longest gone go first."""
    seen = Seen(2, NOW - 100)
    for index, user in enumerate(("a", "b", "c")):
        seen.gone(user, NOW + index, NOW + 10)
    assert len(seen) == 2
    assert seen.last("a", NOW + 10) == 0
    assert seen.last("c", NOW + 10) == NOW + 2
    assert seen.since(NOW + 10) == NOW + 1


def test_none_may_be_kept() -> None:
    """With max_seen_users 0."""
    seen = Seen(0, NOW)
    seen.gone("a", NOW + 1, NOW + 1)
    assert len(seen) == 0
    assert seen.since(NOW + 1) == NOW + 2
