from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewire.kernel.token_bucket import Allowance, TokenBucket


def taken(bucket: TokenBucket, now: float, tries: int) -> int:
    """How many of so many tries succeed at once."""
    return sum(bucket.take(now) for _ in range(tries))


def test_a_second_worth_at_once_and_then_the_rate() -> None:
    """Full at first; a tenth of a second brings a tenth."""
    bucket = TokenBucket(20)
    assert taken(bucket, 1000.0, 50) == 20
    assert taken(bucket, 1000.125, 50) == 2
    assert taken(bucket, 1000.25, 50) == 3


def test_what_is_not_taken_is_kept_for_a_second_only() -> None:
    """A quiet hour buys no flood."""
    bucket = TokenBucket(20)
    assert taken(bucket, 4600.0, 100) == 20


def test_burst_may_differ_from_the_rate_and_costs_from_one() -> None:
    """Ten at once, two a second; the wait is until the whole cost is there."""
    allowance = Allowance(rate=2, burst=10)
    full_at, wait = allowance.take(0.0, 1000.0, 8)
    assert (full_at, wait) == (1004.0, 0.0)
    assert allowance.take(full_at, 1000.0, 4) == (1004.0, pytest.approx(1.0))
    assert allowance.take(full_at, 1001.0, 4) == (1006.0, 0.0)


def test_nothing_costs_nothing_even_of_an_empty_bucket() -> None:
    """Pongs are never refused."""
    allowance = Allowance(rate=2, burst=10)
    full_at, _ = allowance.take(0.0, 1000.0, 10)
    assert allowance.take(full_at, 1000.0, 0) == (full_at, 0.0)


@given(
    st.integers(1, 1000),
    st.integers(1, 1000),
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 8)), max_size=60),
)
def test_no_more_than_burst_and_rate_is_ever_given_and_a_wait_is_the_truth(
    rate: int, burst: int, takes: list[tuple[float, int]]
) -> None:
    """Whatever comes when."""
    allowance = Allowance(rate, burst)
    full_at, now, given_away = 0.0, 1000.0, 0
    for pause, cost in takes:
        now += pause
        full_at, wait = allowance.take(full_at, now, cost)
        if wait and cost <= burst:
            assert allowance.take(full_at, now + wait, cost)[1] == 0
            assert allowance.take(full_at, now + wait - 1e-5, cost)[1] > 0
        given_away += 0 if wait else cost
        assert given_away <= burst + (now - 1000.0) * rate + 0.1
