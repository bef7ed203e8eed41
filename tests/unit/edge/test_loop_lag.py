from __future__ import annotations

from tidewire.edge.loop_lag import SAMPLES, LoopLag


def test_one_hiccup_is_no_overload_and_lateness_again_and_again_is() -> None:
    """However long the hiccup: less than half of the samples change nothing."""
    lag = LoopLag()
    for _ in range(SAMPLES // 2):
        lag.note(30.0)
    assert lag.seconds == 0
    lag.note(0.7)
    assert lag.seconds == 0.7


def test_loop_that_is_on_time_again_is_forgiven() -> None:
    """After as many ticks, about half a second."""
    lag = LoopLag()
    for _ in range(100):
        lag.note(2.0)
    for _ in range(SAMPLES // 2):
        lag.note(0.0)
        assert lag.seconds == 2.0
    lag.note(0.0)
    assert lag.seconds == 0
