from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewire.kernel.gcra import give_back, grant
from tidewire.kernel.token_bucket import ROUNDING, Allowance

RULE = Allowance(rate=10, burst=20)

rates = st.integers(1, 2_000_000)
bursts = st.integers(1, 1000)
steps = st.lists(st.tuples(st.floats(0, 3), st.integers(0, 50)), max_size=40)


def test_as_many_as_there_are_and_then_the_time_to_the_next() -> None:
    """Whole tokens only."""
    first = grant(RULE, 0.0, 1000.0, 15)
    assert (first.tokens, first.wait) == (15, 0.0)
    second = grant(RULE, first.full_at, 1000.0, 15)
    assert second.tokens == 5
    third = grant(RULE, second.full_at, 1000.05, 15)
    assert (third.tokens, third.wait) == (0, pytest.approx(0.05))
    assert grant(RULE, third.full_at, 1000.1, 15).tokens == 1


def test_a_clock_that_jumps_back_costs_at_most_the_time_to_fill() -> None:
    """Not the hour that it jumped; and the jump itself brings nothing."""
    empty = grant(RULE, 0.0, 5000.0, 20).full_at
    after = grant(RULE, empty, 1000.0, 20)
    assert (after.tokens, after.wait) == (0, pytest.approx(0.1, abs=1e-3))
    assert grant(RULE, after.full_at, 1002.0 + 2 * ROUNDING, 50).tokens == 20


def test_what_comes_back_is_there_again_but_for_what_was_refilled() -> None:
    """Ten tokens that were away for half a second are worth five: the other five came into the bucket meanwhile."""
    empty = grant(RULE, 0.0, 1000.0, 20).full_at
    assert grant(RULE, give_back(RULE, empty, 10, 0.0), 1000.0, 50).tokens == 10
    assert grant(RULE, give_back(RULE, empty, 10, 0.5), 1000.5, 50).tokens == 10
    assert grant(RULE, give_back(RULE, empty, 10, 5.0), 1000.5, 50).tokens == 5
    assert grant(RULE, give_back(RULE, empty, 10, -5.0), 1000.0, 50).tokens == 10, "an age is no less than 0"


@given(rates, bursts, steps, st.lists(st.floats(0, 100), max_size=40))
def test_never_above_the_rule_over_any_window(
    rate: int, burst: int, asked: list[tuple[float, int]], jumps: list[float]
) -> None:
    """Whatever is asked when, of a clock that may jump back before each: compared with sums over all windows of true time."""
    rule, state, true, offset = Allowance(rate, burst), 0.0, 1000.0, 0.0
    given_away: list[tuple[float, int]] = []
    for index, (pause, wanted) in enumerate(asked):
        true += pause
        offset -= jumps[index] if index < len(jumps) else 0.0
        granted = grant(rule, state, true + offset, wanted)
        assert granted.tokens <= wanted
        state = granted.full_at
        given_away.append((true, granted.tokens))
    for start in range(len(given_away)):
        total = 0
        for when, tokens in given_away[start:]:
            total += tokens
            window = when - given_away[start][0]
            assert total <= burst + rate * (window + 2 * ROUNDING) + 1e-6


@given(rates, bursts, steps)
def test_a_refusal_says_when_there_is_one(rate: int, burst: int, asked: list[tuple[float, int]]) -> None:
    """And not before."""
    rule, state, now = Allowance(rate, burst), 0.0, 1000.0
    for pause, wanted in asked:
        now += pause
        granted = grant(rule, state, now, wanted)
        state = granted.full_at
        if wanted and not granted.tokens:
            assert grant(rule, state, now + granted.wait + ROUNDING, 1).tokens == 1


@given(
    bursts,
    st.integers(1, 100),
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 20), st.booleans(), st.floats(0, 1)), max_size=30),
)
def test_tokens_that_came_back_leave_a_bucket_no_fuller_than_if_they_had_never_left(
    burst: int, rate: int, events: list[tuple[float, int, bool, float]]
) -> None:
    """The simple model is a bucket from which only those are taken that stay away."""
    rule, state, now = Allowance(rate, burst), 0.0, 1000.0
    kept: list[tuple[float, int]] = []
    for pause, wanted, comes_back, away in events:
        now += pause
        granted = grant(rule, state, now, wanted)
        state = granted.full_at
        if comes_back:
            now += away
            state = give_back(rule, state, granted.tokens, away)
        else:
            kept.append((now, granted.tokens))
    model = 0.0
    for when, tokens in kept:
        model = max(model, when) + tokens / rate
    assert rule.left(state, now) <= rule.left(model, now) + 1e-6
