from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidewire.edge.outbox import Outbox


def test_bound_is_in_bytes_and_a_frame_is_whole_or_not_there() -> None:
    """What is refused leaves nothing behind; what still fits is kept."""
    outbox = Outbox(5)
    assert outbox.put(b"abc")
    assert not outbox.put(b"def")
    assert outbox.put(b"de")
    assert outbox.size == 5
    assert outbox.take() == b"abcde"
    assert (outbox.size, outbox.take()) == (0, b"")
    assert outbox.put(b"x" * 5)


@given(st.integers(0, 40), st.lists(st.binary(max_size=15) | st.none()))
def test_what_was_accepted_comes_out_in_order_and_never_exceeds_the_bound(
    limit: int, steps: list[bytes | None]
) -> None:
    """None takes everything out."""
    outbox, waiting = Outbox(limit), b""
    for step in steps:
        if step is None:
            assert outbox.take() == waiting
            waiting = b""
        elif outbox.put(step):
            waiting += step
        else:
            assert len(waiting) + len(step) > limit
        assert outbox.size == len(waiting) <= limit
    assert outbox.take() == waiting
