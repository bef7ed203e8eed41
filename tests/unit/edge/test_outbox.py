from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from tidewire.edge.outbox import FRAME_COST, Outbox


def test_bound_is_in_bytes_and_a_frame_is_whole_or_not_there() -> None:
    """What is refused leaves nothing behind; what still fits is kept."""
    outbox = Outbox(2 * FRAME_COST + 5)
    assert outbox.put(b"abc")
    assert not outbox.put(b"def")
    assert outbox.put(b"de")
    assert outbox.size == 5
    assert outbox.take() == b"abcde"
    assert (outbox.size, outbox.take()) == (0, b"")
    assert outbox.put(b"x" * (FRAME_COST + 5))


def test_bound_bounds_memory_whatever_the_size_of_the_frames() -> None:
    """Pongs have two bytes, and cost what every object costs."""
    outbox = Outbox(1 << 20)
    tracemalloc.start()
    while outbox.put(bytes(bytearray(b"\x8a\x00"))):
        pass
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 << 20


@given(st.integers(0, 1000), st.lists(st.binary(max_size=15) | st.none()))
def test_what_was_accepted_comes_out_in_order_and_never_exceeds_the_bound(
    limit: int, steps: list[bytes | None]
) -> None:
    """None takes everything out."""
    outbox, waiting, kept = Outbox(limit), b"", 0
    for step in steps:
        if step is None:
            assert outbox.take() == waiting
            waiting, kept = b"", 0
        elif outbox.put(step):
            waiting, kept = waiting + step, kept + 1
        else:
            assert len(waiting) + len(step) + (kept + 1) * FRAME_COST > limit
        assert outbox.size == len(waiting) <= limit
    assert outbox.take() == waiting
