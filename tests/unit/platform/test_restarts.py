from __future__ import annotations

import pytest

from tidewire.platform.restarts import CRASHES_AT_START, HEALTHY_SECONDS, Restarts, exit_words, restart_delay


def test_restarts_come_slower_and_slower_up_to_a_bound() -> None:
    """An edge that cannot run does not eat the machine, and is tried for ever."""
    assert [restart_delay(failures) for failures in (1, 2, 3, 10, 10_000)] == [0.5, 1, 2, 10, 10]


def test_exit_words() -> None:
    """A signal is told from an exit code."""
    assert exit_words(78) == "ended with exit code 78"
    assert exit_words(-9) == "was ended by signal 9"


@pytest.mark.parametrize("code", [69, 78])
def test_what_is_refused_at_its_first_start_is_not_tried_again(code: int) -> None:
    """It would only say so again."""
    assert Restarts().after(code, 0.1) is None


@pytest.mark.parametrize("code", [70, -9, 0])
def test_what_crashes_before_it_ever_worked_is_tried_a_few_times(code: int) -> None:
    """The memory may have been short for a moment."""
    restarts = Restarts()
    answers = [restarts.after(code, 0.1) for _ in range(CRASHES_AT_START)]
    assert answers == [0.5, 1, None]


@pytest.mark.parametrize("code", [69, 70, -9, 0])
def test_what_has_worked_is_started_again_for_ever(code: int) -> None:
    """NATS may be away for an hour, and the other workers still have their clients."""
    restarts = Restarts(proven=True)
    assert [restarts.after(code, 0.1) for _ in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]


def test_a_healthy_time_makes_the_delay_short_again() -> None:
    """Failures count in a row only."""
    restarts = Restarts(proven=True)
    assert [restarts.after(-9, lived) for lived in (1, 1, HEALTHY_SECONDS + 1, 1)] == [0.5, 1, 0.5, 1]
