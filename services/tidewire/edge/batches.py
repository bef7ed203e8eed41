"""When the publications of batching channels go out: one timer for all, and nothing is kept for a channel at rest."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tidewire.edge.channel import Channel, Pace
    from tidewire.edge.ports import Metrics
    from tidewire.kernel.clock import Clock

    class Timer(Protocol):
        """A call that is to come."""

        def cancel(self) -> None:
            """Let it not come."""

    Later = Callable[[float, Callable[[], None]], Timer]

EARLY = 0.001
"""Seconds by which a batch may go out before its time: the precision of the loop's timers."""

MAX_HELD = 64 * 1024 * 1024
"""Bytes that an edge holds back, over all channels; with more, a batch goes out when something comes for it."""


class Batches:
    """Sends channels at their time. `later` calls back from the loop after so many seconds, unless it is cancelled."""

    __slots__ = ("_clock", "_due_at", "_later", "_metrics", "_numbers", "_queue", "_send", "_timer", "held")

    def __init__(self, metrics: Metrics, clock: Clock, later: Later, send: Callable[[Channel], None]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._later = later
        self._send = send
        self._queue: list[tuple[float, int, Channel]] = []
        """Each channel once, by the time when it is looked at."""
        self._numbers = count()
        self._timer: Timer | None = None
        self._due_at = 0.0
        self.held = 0
        """Bytes that wait."""

    def __len__(self) -> int:
        """Return how many channels wait for their time."""
        return len(self._queue)

    def offer(self, channel: Channel, pace: Pace) -> None:
        """Send what a channel has collected: now where it has rested for its delay or has enough, else when it has rested."""
        now = self._clock.monotonic()
        pace.began = pace.began or now
        self._count(channel)
        if now >= pace.free_at or len(channel.pending) >= pace.delivery.max_size or self.held > MAX_HELD:
            self._send_now(channel, pace, now)
        elif not pace.queued:
            self._put(channel, pace)
            self._arm()

    def send(self, channel: Channel) -> None:
        """Send what a channel has collected, before its time: somebody enters whose position covers it."""
        if channel.pace is not None:
            self._send_now(channel, channel.pace, self._clock.monotonic())
        else:
            self._send(channel)
            self._count(channel)

    def send_all(self) -> None:
        """Send what waits, before its time: some of those it is for will not be here then."""
        for _, _, channel in list(self._queue):  # each stays in its place, with nothing to send
            if channel.pending and channel.pace is not None:
                self._send_now(channel, channel.pace, self._clock.monotonic())
            elif channel.pending:
                self._send(channel)
                self._count(channel)

    def _send_now(self, channel: Channel, pace: Pace, now: float) -> None:
        if pace.delivery.max_delay:
            self._metrics.batched(len(channel.pending), now - pace.began)
        pace.began = 0.0
        pace.free_at = now + pace.delivery.max_delay
        self._send(channel)
        self._count(channel)

    def _count(self, channel: Channel) -> None:
        """Take account of what a channel holds back now."""
        self.held += channel.size - channel.held
        channel.held = channel.size

    def _put(self, channel: Channel, pace: Pace) -> None:
        pace.queued = True
        heappush(self._queue, (pace.free_at, next(self._numbers), channel))

    def _arm(self) -> None:
        """Be called when the first channel is due."""
        due = self._queue[0][0]
        if self._timer is not None:
            if self._due_at <= due:
                return
            self._timer.cancel()
        self._due_at = due
        self._timer = self._later(max(0.0, due - self._clock.monotonic()), self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        try:
            while self._queue and self._queue[0][0] <= now + EARLY:
                self._look(heappop(self._queue)[2], now)
        finally:  # a channel that raises is the loop's to report, and stops no other
            if self._queue:
                self._arm()

    def _look(self, channel: Channel, now: float) -> None:
        """Send a batch whose time has come; one that began after the last had enough waits for its own."""
        pace = channel.pace
        if pace is not None:
            pace.queued = False
        if not channel.pending:
            self._count(channel)
        elif pace is None:  # the namespace batches no more
            self._send(channel)
            self._count(channel)
        elif pace.free_at > now + EARLY:
            self._put(channel, pace)
        else:
            self._send_now(channel, pace, now)
