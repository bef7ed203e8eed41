"""What waits for the server: barriers and requests, answered once each, with one timer for all deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from tidewire.platform.nats_pending import PendingCalls
from tidewire.platform.nats_types import BarrierCallback, LinkFull, ReplyCallback

SWEEP_INTERVAL = 0.1
LATE_SWEEP = 0.5
"""A sweep this late (seconds) means that the loop stood still: answers get one more interval to be read."""


class _Barrier:
    """Those who wait for the same PONG, and equally long: a busy turn of the loop has thousands of them."""

    __slots__ = ("callbacks", "own", "timeout")

    def __init__(self, callback: BarrierCallback, timeout: float, *, own: bool) -> None:
        self.callbacks = [callback]
        self.timeout = timeout
        self.own = own


class WaitingCalls:
    """Calls each callback exactly once: by its answer, its deadline, or the loss of the link."""

    def __init__(self, limit: int, on_callback_error: Callable[[Exception], None]) -> None:
        """Hold at most `limit` barriers and as many requests; report what callbacks raise."""
        self._limit = limit
        self._barriers: PendingCalls[_Barrier] = PendingCalls(limit)
        self._waiting = 0
        """Callbacks of all barriers but the link's own."""
        self._requests: PendingCalls[ReplyCallback] = PendingCalls(limit)
        self._on_callback_error = on_callback_error
        self._sweep_due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add_barrier(
        self, callback: BarrierCallback, timeout: float, *, unsent: int = 0, own: bool = False
    ) -> int:
        """Hold a barrier and return its number; LinkFull beyond the limit.

        It shares the number of `unsent`, a barrier whose PING is still to be written, where that waits equally long.
        `own`: the link only asks whether the server answers. It is never refused for the limit, and passes also
        where the server took not everything.
        """
        if not own:
            if self._waiting >= self._limit:
                raise LinkFull(f"{self._limit} calls wait for an answer of NATS already")
            self._waiting += 1
            shared = self._barriers.find(unsent)
            if shared is not None and shared.timeout == timeout and not shared.own:
                shared.callbacks.append(callback)
                return unsent
        barrier = _Barrier(callback, timeout, own=own)
        return self._barriers.add(barrier, self._deadline(timeout), limited=False)

    def add_request(self, callback: ReplyCallback, timeout: float) -> int:
        """Hold a request and return its number; LinkFull beyond the limit."""
        return self._requests.add(callback, self._deadline(timeout))

    def cancel_request(self, number: int) -> None:
        """Forget a request that was not sent; its callback is not called."""
        self._requests.take(number)

    def answer(self, number: int, header: bytes, payload: bytes) -> None:
        """Pass an answer on; one that comes too late is ignored. What the callback raises is the caller's."""
        callback = self._requests.take(number)
        if callback is not None:
            callback(header, payload)

    def end_barriers(self, numbers: Iterable[int], *, taken: bool) -> None:
        """Let these barriers pass, in their order, or fail where the server has not taken everything before them.

        Those that timed out before are ignored.
        """
        for number in numbers:
            barrier = self._barriers.take(number)
            if barrier is not None:
                self._end(barrier, passed=taken or barrier.own)

    def fail_all(self) -> None:
        """Tell everybody who waits that there will be no answer, and forget them."""
        self._fail(self._barriers.drain(), self._requests.drain())

    def _fail(self, barriers: list[_Barrier], requests: list[ReplyCallback]) -> None:
        for barrier in barriers:
            self._end(barrier, passed=False)
        for reply in requests:
            try:
                reply(None, b"")
            except Exception as error:  # noqa: BLE001 - reported; the others must hear it too
                self._on_callback_error(error)

    def _end(self, barrier: _Barrier, *, passed: bool) -> None:
        if not barrier.own:
            self._waiting -= len(barrier.callbacks)
        for callback in barrier.callbacks:
            try:
                callback(passed)
            except Exception as error:  # noqa: BLE001 - reported; the others must hear it too
                self._on_callback_error(error)

    def _deadline(self, timeout: float) -> float:
        loop = asyncio.get_running_loop()
        self._arm(loop)
        return loop.time() + timeout

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            return
        self._sweep_due = loop.time() + SWEEP_INTERVAL
        self._timer = loop.call_later(SWEEP_INTERVAL, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        if now - self._sweep_due < LATE_SWEEP:
            self._fail(self._barriers.due(now), self._requests.due(now))
        if len(self._barriers) or len(self._requests):
            self._arm(loop)
