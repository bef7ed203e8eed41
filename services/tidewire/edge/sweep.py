"""Whether channels have heard all that was stored: what comes last and is lost shows only by asking.

A channel is looked at soon after its position was learned, since a subscription takes its time through a NATS cluster; and
all are every half minute, in batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from tidewire.edge.timers import TICK
from tidewire.kernel.errors import ReplyError
from tidewire.kernel.wheel import Wheel

if TYPE_CHECKING:
    from tidewire.edge.channel import StoredChannel
    from tidewire.edge.ports import History, Metrics
    from tidewire.edge.recovery import Recovery
    from tidewire.edge.wire.commands import StreamPosition

SOON: Final = (0.25, 2.0)
"""Seconds after which a channel is looked at whose position was learned."""
SWEEP: Final = (25.0, 40.0)
"""Seconds between two sweeps; where in between is drawn anew each time."""
UNSURE: Final = 5.0
"""Seconds after which those are looked at again of which history could not tell: after NATS was away, what was missed is to show soon."""
AT_ONCE: Final = 1000
"""Channels that history is asked for in one call."""


class Sweep:
    """Compares the channels of an edge that have a position with history. `draw` gives numbers from 0 to 1."""

    def __init__(
        self,
        history: History,
        recovery: Recovery,
        metrics: Metrics,
        draw: Callable[[], float],
    ) -> None:
        self._history = history
        self._recovery = recovery
        self._metrics = metrics
        self._draw = draw
        self._soon: Wheel[StoredChannel] = Wheel()
        self._due: dict[StoredChannel, None] = {}
        self._unsure: dict[StoredChannel, None] = {}
        """Those of which history could not tell where they stand."""
        self._unsure_ticks = 0
        self._asking = False
        self._ticks = self._interval()
        recovery.watch = self.watch

    def __len__(self) -> int:
        """Return how many channels wait to be looked at now."""
        return len(self._due)

    def watch(self, channel: StoredChannel) -> None:
        """Look at a channel soon, and once more a little later."""
        for seconds in SOON:
            self._soon.add(channel, math.ceil(seconds / TICK))

    def all(self) -> None:
        """Look at all channels now: publications may have been lost in all of them."""
        self._due.update(self._recovery.channels)
        self._ask()

    def tick(self) -> None:
        """Let `timers.TICK` seconds pass."""
        for channel in self._soon.advance():
            if channel.timeline is None:
                continue
            if channel.timeline.behind:
                self._recovery.doubt(channel)
            else:
                self._due[channel] = None
        self._unsure_ticks -= 1
        if self._unsure and self._unsure_ticks <= 0:
            self._due.update(self._unsure)
            self._unsure.clear()
        self._ticks -= 1
        if self._ticks <= 0:
            self._ticks = self._interval()
            self.all()
        self._ask()

    def _interval(self) -> int:
        least, most = SWEEP
        return math.ceil((least + (most - least) * self._draw()) / TICK)

    def _ask(self) -> None:
        if self._asking or not self._due:
            return
        asked: dict[StoredChannel, StreamPosition] = {}
        for channel in list(self._due)[:AT_ONCE]:
            del self._due[channel]
            if channel.timeline is not None and channel.timeline.known:
                asked[channel] = channel.timeline.here
        if asked:
            self._asking = True
            since = {channel.name: here for channel, here in asked.items()}
            self._history.positions(since, lambda found: self._compare(asked, found))

    def _compare(
        self,
        asked: dict[StoredChannel, StreamPosition],
        found: Sequence[StreamPosition | None] | ReplyError,
    ) -> None:
        self._asking = False
        tops = [None] * len(asked) if isinstance(found, ReplyError) else found
        agree: list[bool] = []
        for (channel, here), top in zip(asked.items(), tops, strict=True):
            if top is None:
                self._look_again(channel)
            else:
                agree.append(self._agrees(channel, here.offset, top))
        self._metrics.positions_checked(len(agree), agree.count(False))
        self._ask()

    def _look_again(self, channel: StoredChannel) -> None:
        if not self._unsure:
            self._unsure_ticks = math.ceil(UNSURE / TICK)
        self._unsure[channel] = None

    def _agrees(self, channel: StoredChannel, offset: int, top: StreamPosition) -> bool:
        """Compare a channel, which stood at `offset` when history was asked."""
        timeline = channel.timeline
        if timeline is None or not timeline.known:
            return True
        if top.epoch != timeline.epoch or top.offset < offset:
            self._recovery.doubt(channel)
            return False
        timeline.expected = max(timeline.expected, top.offset)
        if timeline.behind:  # it may be on its way
            self._soon.add(channel, math.ceil(SOON[0] / TICK))
        return not timeline.behind
