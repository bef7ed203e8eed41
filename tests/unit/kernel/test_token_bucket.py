from __future__ import annotations

from tidewire.kernel.token_bucket import TokenBucket


def taken(bucket: TokenBucket, now: float, tries: int) -> int:
    """How many of so many tries succeed at once."""
    return sum(bucket.take(now) for _ in range(tries))


def test_a_second_worth_at_once_and_then_the_rate() -> None:
    """Full at first; a tenth of a second brings a tenth."""
    bucket = TokenBucket(20, 1000.0)
    assert taken(bucket, 1000.0, 50) == 20
    assert taken(bucket, 1000.125, 50) == 2
    assert taken(bucket, 1000.25, 50) == 3


def test_what_is_not_taken_is_kept_for_a_second_only() -> None:
    """A quiet hour buys no flood."""
    bucket = TokenBucket(20, 1000.0)
    assert taken(bucket, 4600.0, 100) == 20
