from __future__ import annotations

import math
from typing import Any, cast

import pytest
from structlog.typing import FilteringBoundLogger

from tests.fakes.clock import ManualClock
from tests.fakes.log import RecordingLog
from tests.fakes.tracing import RecordingExporter, recording_tracer
from tidewire.kernel.trace_context import TraceContext
from tidewire.platform.tracing import OUTCOMES, Complaints, Kind, create_tracer
from tidewire.platform.tracing_options import TracingConfig

REMOTE = TraceContext(7, 8, "a=1")


def outcomes(exporter: RecordingExporter) -> dict[str, float]:
    """The counted spans."""
    return {name: exporter.spans.values[name,] for name in OUTCOMES}


@pytest.mark.parametrize(("ratio", "drawn"), [(0.0, 0.0), (0.25, 0.25), (1.0, math.nextafter(1, 0))])
def test_the_ratio_decides_between_none_and_all(ratio: float, drawn: float) -> None:
    """A ratio of 0 takes nothing and one of 1 everything, at the ends of what can be drawn, too."""
    tracer, _ = recording_tracer(ManualClock(), sample_ratio=ratio, draws=drawn)
    assert tracer.sampled() is (ratio == 1)


def test_a_share_is_sampled() -> None:
    """By the drawn number."""
    tracer, _ = recording_tracer(ManualClock(), sample_ratio=0.25)
    assert 2200 < sum(tracer.sampled() for _ in range(10_000)) < 2800


def test_a_root_span_from_its_beginning_to_its_end() -> None:
    """Times are the wall's, back-dated to when the command came."""
    clock = ManualClock(1_800_000_000.0)
    tracer, exporter = recording_tracer(clock)
    span = tracer.begin("publish", Kind.PRODUCER, {"a": "b"}, clock.now - 0.5)
    assert span is not None
    assert exporter.ended == []
    clock.advance(0.25)
    span.end(103, subscribers=3)
    assert exporter.ended == [span]
    assert (span.start_ns, span.end_ns) == (1_799_999_999_500_000_000, 1_800_000_000_250_000_000)
    assert span.attributes == {
        "a": "b",
        "tidewire.code": 103,
        "error.type": "103",
        "tidewire.subscribers": 3,
    }
    assert (span.parent, span.code) == (None, 103)
    assert 0 < span.context.trace_id < 2**128
    assert 0 < span.context.span_id < 2**64
    assert span.header == b"traceparent: 00-%032x-%016x-01\r\n" % (
        span.context.trace_id,
        span.context.span_id,
    )


def test_a_span_with_a_parent_is_in_its_trace() -> None:
    """The trace and what vendors added stay, the span is new."""
    tracer, _ = recording_tracer(ManualClock())
    span = tracer.begin("deliver", Kind.CONSUMER, {}, 1000.0, REMOTE)
    assert span is not None
    assert span.parent == REMOTE
    assert (span.context.trace_id, span.context.state) == (7, "a=1")
    assert span.context.span_id != 8


def test_ids_are_never_zero() -> None:
    """Zero is invalid (W3C Trace Context, 3.2.2.3)."""
    tracer, _ = recording_tracer(ManualClock(), bits=0)
    span = tracer.begin("x", Kind.SERVER, {}, 1000.0)
    assert span is not None
    assert (span.context.trace_id, span.context.span_id) == (1, 1)


def test_a_clock_that_is_set_back_makes_no_negative_span() -> None:
    """The wall clock may be put right meanwhile."""
    clock = ManualClock()
    tracer, _ = recording_tracer(clock)
    span = tracer.begin("x", Kind.SERVER, {}, clock.now)
    assert span is not None
    clock.epoch -= 60
    span.end()
    assert span.end_ns == span.start_ns


def test_so_many_spans_a_second_and_others_take_none_of_ours() -> None:
    """Ours and those of traces from elsewhere have a bound each."""
    clock = ManualClock()
    tracer, exporter = recording_tracer(clock, max_spans_per_second=10)

    def begun(parent: TraceContext | None) -> int:
        return sum(tracer.begin("x", Kind.SERVER, {}, clock.now, parent) is not None for _ in range(15))

    assert begun(REMOTE) == 10
    assert begun(None) == 10
    assert outcomes(exporter) == {"exported": 0, "failed": 0, "queue_full": 0, "rate_limited": 10}
    clock.advance(0.5)
    assert begun(REMOTE) == begun(None) == 5


async def test_the_end_waits_for_the_exporter_and_tells_what_is_lost() -> None:
    """Nothing to tell where nothing is lost."""
    log = RecordingLog()
    tracer, exporter = recording_tracer(ManualClock(), flush_timeout="3s")
    await tracer.close(cast("FilteringBoundLogger", log))
    assert (exporter.closed_within, log.lines) == (3.0, [])
    exporter.lost = 4
    await tracer.close(cast("FilteringBoundLogger", log))
    assert log.lines == [("warning", "tracing.flush_incomplete", {"lost": 4})]


def test_one_complaint_a_minute() -> None:
    """However often an export fails."""
    clock, log = ManualClock(), RecordingLog()
    complain = Complaints(cast("FilteringBoundLogger", log), clock.monotonic)
    for _ in range(121):
        complain("away")
        clock.advance(1)
    assert log.lines == [("warning", "tracing.export_failed", {"problem": "away"})] * 3


def test_no_endpoint_no_tracer() -> None:
    """Whatever else is set."""
    log: Any = RecordingLog()
    assert create_tracer(TracingConfig(sample_ratio=1), "node", ManualClock(), log) is None
