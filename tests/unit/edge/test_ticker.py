from __future__ import annotations

from typing import cast

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.edge import CountingMetrics
from tests.fakes.nats import FakeLink
from tests.support.wait import eventually
from tidewire.edge.nats_telemetry import NatsTelemetry
from tidewire.edge.ticker import ROUND_TRIP_TIMEOUT, TICKS_PER_ROUND_TRIP, Ticker
from tidewire.edge.timers import TICK
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import LinkFull, LinkState


class Bench:
    """A ticker on fakes; ticks are made by hand unless it is started."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.metrics = CountingMetrics()
        self.link = FakeLink()
        self.turns: list[str] = []
        self.ticker = Ticker(
            [lambda: self.turns.append("a"), lambda: self.turns.append("b")],
            [self.metrics.loop_lag],
            cast("NatsTelemetry", self.metrics),
            cast("NatsLink", self.link),
            self.clock.monotonic,
        )

    def tick(self, after: float) -> None:
        """One tick, so many seconds after the one before."""
        self.clock.advance(after)
        self.ticker._tick()
        self.ticker.stop()


async def test_it_ticks_until_it_is_stopped() -> None:
    """Each wheel once in a tick, in order."""
    bench = Bench()
    bench.ticker.start()
    await eventually(lambda: len(bench.turns) >= 4)
    bench.ticker.stop()
    seen = list(bench.turns)
    assert seen == ["a", "b"] * (len(seen) // 2)
    assert bench.ticker._timer is not None
    assert bench.ticker._timer.cancelled()


async def test_stopping_before_the_start_does_nothing() -> None:
    """A start that failed half-way is stopped too."""
    Bench().ticker.stop()


async def test_lag_is_what_a_tick_comes_too_late() -> None:
    """Never negative."""
    bench = Bench()
    bench.ticker.start()
    bench.ticker.stop()
    for after in (TICK, TICK + 0.25, TICK - 0.05):
        bench.tick(after)
    assert [lag for (lag,) in bench.metrics.of("loop_lag")] == [
        pytest.approx(0.0, abs=1e-6),
        pytest.approx(0.25),
        0.0,
    ]


async def test_wheel_that_raises_does_not_end_the_ticking() -> None:
    """The next tick is on its way before any wheel turns."""
    bench = Bench()

    def broken() -> None:
        raise RuntimeError("broken")

    ticker = Ticker(
        [broken],
        [bench.metrics.loop_lag],
        cast("NatsTelemetry", bench.metrics),
        cast("NatsLink", bench.link),
        bench.clock.monotonic,
    )
    with pytest.raises(RuntimeError):
        ticker._tick()
    assert ticker._timer is not None
    assert not ticker._timer.cancelled()
    ticker.stop()


async def test_round_trip_to_nats_is_measured_once_a_second() -> None:
    """Only what is confirmed counts; while NATS is away or full there is nothing to measure."""
    bench = Bench()
    for _ in range(TICKS_PER_ROUND_TRIP):
        assert bench.link.barriers == []
        bench.tick(TICK)
    ((answered, timeout),) = bench.link.barriers
    assert timeout == ROUND_TRIP_TIMEOUT
    bench.clock.advance(0.02)
    answered(True)
    assert [seconds for (seconds,) in bench.metrics.of("nats_round_trip")] == [pytest.approx(0.02)]
    answered(False)
    assert len(bench.metrics.of("nats_round_trip")) == 1
    bench.link.state = LinkState.AWAY
    for _ in range(TICKS_PER_ROUND_TRIP):
        bench.tick(TICK)
    bench.link.state = LinkState.CONNECTED
    bench.link.fails = {"barrier": LinkFull("full")}
    for _ in range(TICKS_PER_ROUND_TRIP):
        bench.tick(TICK)
    assert len(bench.link.barriers) == 1
