from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.wait import eventually
from tidewire.platform.nats_calls import LATE_SWEEP, WaitingCalls
from tidewire.platform.nats_types import LinkFull


class Waiting:
    """WaitingCalls whose outcomes are noted."""

    def __init__(self, limit: int = 100) -> None:
        self.errors: list[Exception] = []
        self.verdicts: list[bool] = []
        self.replies: list[tuple[bytes | None, bytes]] = []
        self.calls = WaitingCalls(limit, self.errors.append)

    def barrier(self, timeout: float = 5.0) -> int:
        return self.calls.add_barrier(self.verdicts.append, timeout)

    def request(self, timeout: float = 5.0) -> int:
        return self.calls.add_request(lambda header, payload: self.replies.append((header, payload)), timeout)


async def test_an_answer_is_passed_on_once() -> None:
    """A second answer, and one for a number that never was, are ignored."""
    waiting = Waiting()
    number = waiting.request()
    waiting.calls.answer(number, b"h", b"p")
    waiting.calls.answer(number, b"h", b"again")
    waiting.calls.answer(999, b"h", b"p")
    assert waiting.replies == [(b"h", b"p")]


async def test_barriers_pass_in_the_given_order_and_once() -> None:
    """One that failed before is passed over."""
    waiting = Waiting()
    order: list[str] = []
    first = waiting.calls.add_barrier(lambda _: order.append("first"), 5.0)
    second = waiting.calls.add_barrier(lambda _: order.append("second"), 5.0)
    waiting.calls.end_barriers([first, second, first], taken=True)
    assert order == ["first", "second"]


async def test_barriers_fail_where_the_server_took_not_everything() -> None:
    """Except for those by which the link itself asks whether the server answers."""
    waiting = Waiting()
    asked = waiting.barrier()
    own = waiting.calls.add_barrier(waiting.verdicts.append, 5.0, own=True)
    waiting.calls.end_barriers([asked, own], taken=False)
    assert waiting.verdicts == [False, True]


async def test_deadlines_fail_what_waits() -> None:
    """False for a barrier, None for a request, soon after the deadline and not before it."""
    waiting = Waiting()
    start = time.monotonic()
    waiting.barrier(0.2)
    waiting.request(0.2)
    await eventually(lambda: waiting.verdicts and waiting.replies)
    assert time.monotonic() - start >= 0.2
    assert (waiting.verdicts, waiting.replies) == ([False], [(None, b"")])


async def test_the_timer_rests_when_nothing_waits() -> None:
    """And runs again for the next call."""
    waiting = Waiting()
    waiting.barrier(0.05)
    await eventually(lambda: waiting.verdicts)
    await eventually(lambda: waiting.calls._timer is None)
    waiting.barrier(0.05)
    await eventually(lambda: len(waiting.verdicts) == 2)


async def test_a_loop_that_stood_still_fails_nothing_before_answers_could_be_read() -> None:
    """The deadline passed while nobody could read: one more interval is given."""
    waiting = Waiting()
    number = waiting.barrier(0.15)
    time.sleep(LATE_SWEEP + 0.2)  # noqa: ASYNC251 - it is the loop that has to stand still
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert waiting.verdicts == []
    waiting.calls.end_barriers([number], taken=True)
    assert waiting.verdicts == [True]


async def test_a_lost_link_fails_everything() -> None:
    """And what is added from within such a callback waits for its own answer."""
    waiting = Waiting()
    waiting.barrier()
    waiting.calls.add_request(lambda _header, _payload: waiting.barrier() and None, 5.0)
    waiting.calls.fail_all()
    assert waiting.verdicts == [False]
    waiting.calls.fail_all()
    assert waiting.verdicts == [False, False]


async def test_callbacks_that_raise_are_reported_and_stop_nobody() -> None:
    """All others are still called."""
    waiting = Waiting()

    def fails(*_: object) -> None:
        raise RuntimeError("as the test wants it")

    first = waiting.calls.add_barrier(fails, 5.0)
    second = waiting.barrier()
    waiting.calls.end_barriers([first, second], taken=True)
    waiting.calls.add_request(fails, 5.0)
    waiting.request()
    waiting.calls.fail_all()
    assert (waiting.verdicts, waiting.replies) == ([True], [(None, b"")])
    assert len(waiting.errors) == 2


async def test_a_request_that_was_not_sent_is_forgotten() -> None:
    """Its callback is never called."""
    waiting = Waiting()
    waiting.calls.cancel_request(waiting.request())
    waiting.calls.fail_all()
    assert waiting.replies == []


async def test_barriers_and_requests_are_bounded() -> None:
    """Each on its own; what the link needs itself is let through."""
    waiting = Waiting(limit=1)
    waiting.barrier()
    waiting.request()
    with pytest.raises(LinkFull):
        waiting.barrier()
    with pytest.raises(LinkFull):
        waiting.request()
    waiting.calls.add_barrier(waiting.verdicts.append, 5.0, own=True)


async def test_barriers_beside_an_unsent_one_share_its_number() -> None:
    """They end together, and what one of them raises is nothing to the others."""
    waiting = Waiting()
    first = waiting.barrier()
    assert waiting.calls.add_barrier(lambda _: 1 / 0, 5.0, unsent=first) == first
    assert waiting.calls.add_barrier(waiting.verdicts.append, 5.0, unsent=first) == first
    waiting.calls.end_barriers([first], taken=True)
    assert waiting.verdicts == [True, True]
    assert [type(error) for error in waiting.errors] == [ZeroDivisionError]


async def test_a_barrier_that_has_ended_takes_in_nobody() -> None:
    """Whoever came to it now would wait for ever."""
    waiting = Waiting()
    first = waiting.barrier()
    waiting.calls.fail_all()
    second = waiting.calls.add_barrier(waiting.verdicts.append, 5.0, unsent=first)
    assert second != first
    waiting.calls.end_barriers([second], taken=True)
    assert waiting.verdicts == [False, True]


async def test_barriers_that_wait_otherwise_have_a_number_of_their_own() -> None:
    """Another time to wait is another deadline; the link's own pass where others do not."""
    waiting = Waiting()
    first = waiting.barrier(0.1)
    second = waiting.calls.add_barrier(waiting.verdicts.append, 60.0, unsent=first)
    own = waiting.calls.add_barrier(waiting.verdicts.append, 60.0, own=True)
    third = waiting.calls.add_barrier(waiting.verdicts.append, 60.0, unsent=own)
    assert len({first, second, own, third}) == 4
    await eventually(lambda: waiting.verdicts == [False])
    waiting.calls.end_barriers([second, own, third], taken=False)
    assert waiting.verdicts == [False, False, True, False]


async def test_all_who_share_a_number_count_for_the_limit() -> None:
    """Until they have ended, however that was; the link's own neither count nor are refused."""
    waiting = Waiting(limit=2)
    for _ in range(2):
        first = waiting.barrier()
        waiting.calls.add_barrier(waiting.verdicts.append, 5.0, unsent=first)
        with pytest.raises(LinkFull):
            waiting.calls.add_barrier(waiting.verdicts.append, 5.0, unsent=first)
        waiting.calls.add_barrier(waiting.verdicts.append, 5.0, own=True)
        waiting.calls.fail_all()
