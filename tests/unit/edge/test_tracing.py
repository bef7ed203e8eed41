from __future__ import annotations

import gc
import sys
from typing import Any

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.tracing import RecordingExporter, recording_tracer
from tidewire.edge.tracing import EdgeTracer
from tidewire.edge.untraced import NO_SPAN
from tidewire.kernel.trace_context import TraceContext, header_line

PARENT = TraceContext(7, 8)
TRACED = b"NATS/1.0\r\nTw-V: 1\r\n" + header_line(PARENT) + b"\r\n"
UNTRACED = b"NATS/1.0\r\nTw-V: 1\r\n\r\n"
NOT_SAMPLED = TRACED.replace(b"-01\r\n", b"-00\r\n")


def edge_tracer(**settings: Any) -> tuple[EdgeTracer, RecordingExporter, ManualClock]:
    """The edge's tracer, by default of everything."""
    clock = ManualClock()
    tracer, exporter = recording_tracer(clock, **settings)
    return EdgeTracer(tracer, clock), exporter, clock


@pytest.mark.parametrize(
    ("channel", "destination"),
    [("chat:room", {"messaging.destination.name": "chat"}), ("$chat:room", {"messaging.destination.name": "chat"}),
     ("lobby", {}), ("mail#alice", {})],
)  # fmt: skip
def test_a_publication(channel: str, destination: dict[str, str]) -> None:
    """Its destination is the namespace, never the channel, which may name people."""
    tracer, exporter, clock = edge_tracer()
    span = tracer.publish(channel, clock.now - 1)
    assert span.header.startswith(b"traceparent: 00-")
    span.end(100)
    (ended,) = exporter.ended
    assert (ended.name, ended.kind.value, ended.parent) == ("publish", "PRODUCER", None)
    assert ended.end_ns - ended.start_ns == 1_000_000_000
    assert ended.attributes == {
        "messaging.system": "nats",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        **destination,
        "tidewire.code": 100,
        "error.type": "100",
    }


def test_a_call() -> None:
    """The method is the application's own word."""
    tracer, exporter, clock = edge_tracer()
    tracer.call("sum", clock.now).end()
    (ended,) = exporter.ended
    assert (ended.name, ended.kind.value) == ("rpc", "CLIENT")
    assert ended.attributes == {"rpc.system": "nats", "rpc.method": "sum", "tidewire.code": 0}


def test_answers_without_a_message() -> None:
    """Connect and subscribe; publish and rpc have spans already, and the rest has none."""
    tracer, exporter, clock = edge_tracer()
    for method in ("connect", "subscribe", "publish", "rpc", "unsubscribe", "refresh", "presence"):
        tracer.answered(method, clock.now - 2, 0)
    assert [(span.name, span.kind.value, span.end_ns - span.start_ns) for span in exporter.ended] == [
        ("connect", "SERVER", 2_000_000_000),
        ("subscribe", "SERVER", 2_000_000_000),
    ]


def test_a_delivery() -> None:
    """It begins with the message and is the child of whoever published."""
    tracer, exporter, clock = edge_tracer(sample_ratio=0.0)
    span = tracer.deliver("chat:room", TRACED)
    assert span is not None
    clock.advance(0.5)
    span.end(subscribers=12)
    (ended,) = exporter.ended
    assert (ended.name, ended.kind.value, ended.parent) == ("deliver", "CONSUMER", PARENT)
    assert ended.end_ns - ended.start_ns == 500_000_000
    assert ended.attributes["tidewire.subscribers"] == 12
    assert ended.attributes["messaging.operation.type"] == "process"
    assert ended.attributes["messaging.destination.name"] == "chat"


@pytest.mark.parametrize("header", [UNTRACED, NOT_SAMPLED])
def test_messages_outside_of_sampled_traces(header: bytes) -> None:
    """Even where everything of our own is traced."""
    tracer, exporter, _ = edge_tracer()
    assert tracer.deliver("chat:room", header) is None
    assert exporter.spans.values["rate_limited",] == 0


def test_what_is_not_sampled_allocates_nothing() -> None:
    """The decision is a number drawn: no object is left, none was made on the way but the number."""
    tracer, _, clock = edge_tracer(sample_ratio=0.5, draws=0.5)
    tracer._tracer.begin = _never  # type: ignore[method-assign]

    def command() -> None:
        span = tracer.publish("chat:room", clock.now)
        assert span is NO_SPAN
        span.end()
        assert tracer.call("sum", clock.now) is NO_SPAN
        tracer.answered("subscribe", clock.now, 0)
        assert tracer.deliver("chat:room", UNTRACED) is None

    command()
    gc.disable()
    try:
        before = sys.getallocatedblocks()
        for _ in range(1000):
            command()
        assert sys.getallocatedblocks() - before < 10
    finally:
        gc.enable()


def test_over_the_bound_there_is_no_span_and_no_header() -> None:
    """So nobody continues a trace whose beginning is missing."""
    tracer, exporter, clock = edge_tracer(max_spans_per_second=1)
    assert tracer.publish("chat:a", clock.now) is not NO_SPAN
    assert tracer.publish("chat:a", clock.now) is NO_SPAN
    assert tracer.call("sum", clock.now) is NO_SPAN
    tracer.answered("connect", clock.now, 0)
    assert tracer.deliver("chat:a", TRACED) is not None
    assert tracer.deliver("chat:a", TRACED) is None
    assert exporter.ended == []
    assert exporter.spans.values["rate_limited",] == 4


def _never(*_: object) -> None:
    raise AssertionError("a span was begun")
