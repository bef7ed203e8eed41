from __future__ import annotations

from tests.fakes.clock import ManualClock
from tidewire.kernel.seldom import QUIET_SECONDS, Seldom


def test_each_kind_is_told_at_once_and_then_once_in_its_quiet_time() -> None:
    """A flood of one silences no other."""
    clock = ManualClock()
    seldom = Seldom(clock.monotonic)
    assert [seldom.allows("a"), seldom.allows("a"), seldom.allows("b")] == [True, False, True]
    clock.advance(QUIET_SECONDS - 1)
    assert not seldom.allows("a")
    clock.advance(1)
    assert [seldom.allows("a"), seldom.allows("a")] == [True, False]
