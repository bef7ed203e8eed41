from __future__ import annotations

import time

from tidewire.kernel.clock import SystemClock


def test_system_clock_tells_the_machines_time() -> None:
    """Monotonic seconds never go back, wall seconds count from the Unix epoch."""
    clock = SystemClock()
    before = time.monotonic(), time.time()
    first, second, wall = clock.monotonic(), clock.monotonic(), clock.wall()
    after = time.monotonic(), time.time()
    assert before[0] <= first <= second <= after[0]
    assert before[1] <= wall <= after[1]
