from __future__ import annotations

from tidewire.kernel.buckets import Buckets
from tidewire.kernel.token_bucket import Allowance

RULE = Allowance(rate=10, burst=10)


def test_each_key_has_a_bucket_and_full_ones_take_no_room() -> None:
    """Whoever is quiet for long enough is forgotten, at no cost."""
    buckets = Buckets(RULE, 100)
    assert buckets.grant(b"a", 1000.0, 10).tokens == 10
    assert buckets.grant(b"b", 1000.0, 3).tokens == 3
    assert buckets.grant(b"a", 1000.0, 1).tokens == 0
    assert len(buckets) == 2
    buckets.sweep(1000.5)
    assert len(buckets) == 1, "b is full again"
    buckets.sweep(1001.0)
    assert (len(buckets), buckets.forgotten) == (0, 0)


def test_a_refusal_of_an_unknown_key_keeps_nothing() -> None:
    """A request that costs more than there can ever be leaves no trace."""
    buckets = Buckets(RULE, 100)
    assert buckets.take(b"a", 1000.0, 4_000_000_000) > 0
    assert len(buckets) == 0
    assert buckets.take(b"a", 1000.0, 10) == 0.0
    buckets.put_back(b"a", 10)
    assert buckets.left(b"a", 1000.0) == (10, 0.0)


def test_with_too_many_those_that_were_used_longest_ago_are_forgotten() -> None:
    """It is counted, and whoever goes on is not among them."""
    buckets = Buckets(RULE, 100)
    for number in range(1000):
        now = 1000.0 + number / 10_000
        buckets.grant(b"busy", now, 10)
        buckets.grant(b"%d" % number, now, 10)
        assert len(buckets) <= 100
    assert buckets.forgotten >= 900
    assert buckets.grant(b"busy", 1000.1, 10).tokens <= 1, "it was used all the time"
    assert buckets.grant(b"0", 1000.1, 10).tokens == 10, "it was forgotten"


def test_forgetting_full_ones_is_not_counted() -> None:
    """They would have had as much anyway."""
    buckets = Buckets(RULE, 10)
    for number in range(10):
        buckets.grant(b"%d" % number, 1000.0, 10)
    buckets.grant(b"late", 1010.0, 1)
    assert buckets.forgotten == 0


def test_an_empty_bucket_is_not_forgotten_for_others_that_are_full_again() -> None:
    """Nobody gets rid of what it has spent by keys of which each is used once."""
    buckets = Buckets(Allowance(rate=10 / 3600, burst=10), 100)
    assert buckets.grant(b"spent", 1000.0, 10).tokens == 10
    for number in range(300):
        now = 1000.0 + 10 * number
        buckets.grant(b"%d" % number, now, 1)
        buckets.sweep(now)
    assert buckets.forgotten == 0
    assert len(buckets) <= 40, "a token comes back in six minutes"
    assert buckets.grant(b"spent", 1001.0 + 3000, 10).tokens <= 8


def test_with_too_many_the_fullest_are_forgotten_first() -> None:
    """Whoever makes up keys does not empty the map of those that have spent everything."""
    buckets = Buckets(RULE, 100)
    buckets.grant(b"spent", 1000.0, 10)
    for number in range(1000):
        buckets.grant(b"%d" % number, 1000.0 + number / 10_000, 1)
    assert buckets.forgotten > 800
    assert buckets.grant(b"spent", 1000.1, 10).tokens <= 1


def test_a_sweep_looks_at_all_in_turn() -> None:
    """At a part of them each time, and at more as long as many are full."""
    buckets = Buckets(RULE, 100_000)
    for number in range(5000):
        buckets.grant(b"%d" % number, 1000.0, 10 if number < 2000 else 1)
    for _ in range(3):
        buckets.sweep(1000.5)
    assert len(buckets) == 2000
