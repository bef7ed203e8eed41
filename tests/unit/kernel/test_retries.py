from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewire.kernel.retries import NoRetry, Retries, RetryPolicy

POLICY = RetryPolicy(attempts=4, ratio=0.1, burst=5, pause=0.1, longest_pause=0.25)


def retries(policy: RetryPolicy = POLICY, random: float = 1.0) -> Retries:
    """With dice that always say the same."""
    return Retries(policy, lambda: random)


def test_pauses_double_up_to_a_bound() -> None:
    """And a random part of them is waited."""
    assert [retries().pause(attempt, 9) for attempt in (1, 2, 3)] == [0.1, 0.2, 0.25]
    assert retries(random=0.5).pause(2, 9) == 0.1
    assert retries(random=0).pause(1, 9) == 0


def test_a_call_has_so_many_attempts() -> None:
    """The first included."""
    assert retries().pause(3, 9) == 0.25
    assert retries().pause(4, 9) is NoRetry.ATTEMPTS


@pytest.mark.parametrize("left", [0.1, 0.05, 0, -1])
def test_no_pause_reaches_the_deadline(left: float) -> None:
    """And nothing of the budget is spent for it."""
    ours = retries()
    assert ours.pause(1, left) is NoRetry.DEADLINE
    assert [ours.pause(1, 9) for _ in range(6)] == [0.1] * 5 + [NoRetry.BUDGET]


def test_calls_pay_for_retries() -> None:
    """Ten of them for one, up to a bound."""
    ours = retries()
    for _ in range(5):
        assert ours.pause(1, 9) == 0.1
    for _ in range(9):
        ours.called()
        assert ours.pause(1, 9) is NoRetry.BUDGET
    ours.called()
    assert ours.pause(1, 9) == 0.1
    for _ in range(1000):
        ours.called()
    assert [ours.pause(1, 9) for _ in range(6)] == [0.1] * 5 + [NoRetry.BUDGET]


@given(st.lists(st.booleans(), max_size=400), st.sampled_from([0.0, 0.1, 0.3, 1.0]))
def test_retries_are_never_more_than_the_budget(steps: list[bool], ratio: float) -> None:
    """Whatever the order of calls (true) and failures is."""
    ours = Retries(RetryPolicy(5, ratio, 3, 0.1, 1), lambda: 0.5)
    calls = made = 0
    for step in steps:
        if step:
            ours.called()
            calls += 1
        elif not isinstance(ours.pause(1, 9), NoRetry):
            made += 1
    assert made <= 3 + ratio * calls + 1e-6
