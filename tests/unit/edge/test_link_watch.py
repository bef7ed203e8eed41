from __future__ import annotations

import asyncio
from typing import cast

from structlog.typing import FilteringBoundLogger

from tests.fakes.clock import ManualClock
from tests.fakes.edge import CountingMetrics
from tests.fakes.log import RecordingLog
from tests.support.wait import eventually
from tidewire.edge.link_watch import LinkWatch
from tidewire.edge.nats_telemetry import NatsTelemetry


class Watch:
    """A watch with a check that the test lets go."""

    def __init__(self) -> None:
        self.metrics = CountingMetrics()
        self.log = RecordingLog()
        self.clock = ManualClock()
        self.watch = LinkWatch(
            cast("NatsTelemetry", self.metrics), cast("FilteringBoundLogger", self.log), self.clock.monotonic
        )
        self.error = RuntimeError("what happened")
        self.flushes = 0
        self.begun = 0
        self.ended: list[str] = []
        self.go = asyncio.Event()

    def bind(self) -> Watch:
        self.watch.bind(self._flush, self._check, lambda: self.error)
        return self

    def _flush(self) -> None:
        self.flushes += 1

    async def _check(self) -> None:
        self.begun += 1
        try:
            await self.go.wait()
            self.ended.append("done")
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise


async def test_every_read_is_followed_by_a_flush() -> None:
    """Before anything is bound there is nothing to flush."""
    unbound = Watch()
    unbound.watch.chunk_end()
    unbound.watch.link_back()
    watch = Watch().bind()
    watch.watch.chunk_end()
    assert (unbound.flushes, watch.flushes) == (0, 1)


async def test_loss_is_counted_and_logged() -> None:
    """Nothing else happens: clients stay."""
    watch = Watch().bind()
    watch.watch.link_away()
    assert (watch.metrics.of("nats_lost"), watch.begun) == ([()], 0)
    assert watch.log.lines == [("warning", "nats.away", {"error": "what happened"})]


async def test_node_behind_each_new_connection_is_checked() -> None:
    """A check that a further reconnect overtakes is given up, so that its verdict cannot count for the new node."""
    watch = Watch().bind()
    watch.watch.link_back()
    await eventually(lambda: watch.begun == 1)
    watch.watch.link_back()
    await eventually(lambda: watch.begun == 2)
    watch.go.set()
    await eventually(lambda: watch.ended == ["cancelled", "done"])


async def test_errors_are_all_counted_and_seldom_logged() -> None:
    """Once for each kind in a minute."""
    watch = Watch().bind()
    for _ in range(100):
        watch.watch.link_error("permissions")
        watch.watch.link_error("other")
        watch.watch.unmapped()
        watch.watch.unmapped_lost(RuntimeError("too large"))
    assert len(watch.metrics.of("nats_error")) == 200
    assert len(watch.metrics.of("unmapped")) == 100
    assert len(watch.metrics.of("unmapped_lost")) == 100
    assert watch.log.events == ["nats.error", "nats.error", "nats.unmapped_node", "nats.unmapped_lost"]
    watch.clock.advance(60)
    watch.watch.link_error("other")
    assert watch.log.lines[-1] == ("warning", "nats.error", {"kind": "other", "error": "what happened"})
