from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from tests.support.otlp_collector import OtlpCollector
from tests.support.wait import eventually
from tidewire.kernel.clock import SystemClock
from tidewire.kernel.config import decode
from tidewire.kernel.trace_context import TraceContext
from tidewire.platform.otlp import OtlpExporter
from tidewire.platform.tracing import Kind, Tracer
from tidewire.platform.tracing_options import TracingConfig


@pytest.fixture
def collector() -> Iterator[OtlpCollector]:
    """A collector of this test's own."""
    with OtlpCollector() as stand_in:
        yield stand_in


class Stage:
    """A tracer of everything, on the real exporter."""

    def __init__(self, collector: OtlpCollector, **settings: Any) -> None:
        self.complaints: list[str] = []
        plain = {
            "endpoint": collector.endpoint,
            "sample_ratio": 1.0,
            "flush_interval": "10ms",
            "max_spans_per_second": 10_000,
            **settings,
        }
        config = decode(TracingConfig, plain)
        resource = {"service.instance.id": "edge-1"}
        self.tracer = Tracer(
            config,
            SystemClock(),
            lambda spans: OtlpExporter(config, resource, spans, self.complaints.append),
            Random(1),
        )

    def span(self, parent: TraceContext | None = None, code: int = 0, kind: Kind = Kind.SERVER) -> None:
        """Begin and end a span."""
        span = self.tracer.begin("x", kind, {"text": "a", "number": 1}, time.monotonic(), parent)
        assert span is not None
        span.end(code)

    def count(self, outcome: str) -> float:
        """How many spans became so."""
        return self.tracer.spans.values[outcome,]


@pytest.fixture
def stage(collector: OtlpCollector) -> Iterator[Callable[..., Stage]]:
    """Create stages, closed at the end."""
    stages: list[Stage] = []

    def create(**settings: Any) -> Stage:
        stages.append(Stage(collector, **settings))
        return stages[-1]

    yield create
    collector.release()
    for each in stages:
        each.tracer._exporter.close(5)


async def test_spans_arrive_whole(stage: Callable[..., Stage], collector: OtlpCollector) -> None:
    """Every field of the wire that we fill."""
    here = stage(service_name="mesh")
    here.span(TraceContext(7, 8, "a=1"), 103, Kind.CONSUMER)
    await eventually(lambda: collector.spans)
    (span,) = collector.spans
    assert (span.name, span.kind, span.failed, span.state) == ("x", "CONSUMER", True, "a=1")
    assert (span.trace, span.parent) == (f"{7:032x}", f"{8:016x}")
    assert span.attributes == {"text": "a", "number": 1, "tidewire.code": 103, "error.type": "103"}
    assert span.resource == {"service.name": "mesh", "service.instance.id": "edge-1"}
    assert collector.requests[0]["content-type"] == "application/x-protobuf"
    await eventually(lambda: here.count("exported") == 1)
    assert here.tracer.waiting == 0


@pytest.mark.parametrize("kind", Kind)
async def test_every_kind_of_span(stage: Callable[..., Stage], collector: OtlpCollector, kind: Kind) -> None:
    """By OpenTelemetry's names."""
    stage().span(kind=kind)
    await eventually(lambda: collector.spans)
    assert (collector.spans[0].kind, collector.spans[0].failed) == (kind.value, False)


async def test_a_state_that_is_no_list_is_left_out(
    stage: Callable[..., Stage], collector: OtlpCollector
) -> None:
    """Anybody can write one; the span is exported without it."""
    stage().span(TraceContext(7, 8, "no list, = at all"))
    await eventually(lambda: collector.spans)
    assert collector.spans[0].state == ""


async def test_the_environment_says_nothing(
    stage: Callable[..., Stage], collector: OtlpCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to OpenTelemetry either, and it is as it was afterwards."""
    variables = {
        "OTEL_EXPORTER_OTLP_HEADERS": "x-environment=1",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-environment=1",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": "/nowhere.pem",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "/nowhere.pem",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/",
        "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER": "nobody",
        "OTEL_RESOURCE_ATTRIBUTES": "a=b",
        "OTEL_SERVICE_NAME": "environment",
        "OTEL_BSP_SCHEDULE_DELAY": "never",
        "OTEL_SDK_DISABLED": "true",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stage().span()
    await eventually(lambda: collector.spans)
    assert collector.spans[0].resource == {"service.name": "tidewire-edge", "service.instance.id": "edge-1"}
    assert "x-environment" not in collector.requests[0]
    assert collector.requests[0]["content-encoding"] == "gzip"
    assert variables.items() <= dict(os.environ).items()


async def test_a_full_queue_takes_no_more(stage: Callable[..., Stage], collector: OtlpCollector) -> None:
    """While a batch is under way, `queue_size` may wait behind it; what comes then is dropped, the older ones stay."""
    collector.hold()
    here = stage(queue_size=4, batch_size=2, flush_interval="1m")
    here.span()
    here.span()
    await eventually(lambda: collector.requests)  # the batch has left the queue
    for _ in range(10):
        here.span()
    assert here.count("queue_full") == 6
    assert here.tracer.waiting == 6
    collector.release()
    await eventually(lambda: here.count("exported") == 6)
    assert len(collector.spans) == 6
    here.span()
    here.span()
    await eventually(lambda: len(collector.spans) == 8)
    assert here.count("queue_full") == 6


@pytest.mark.parametrize("status", [400, 503])
async def test_what_the_collector_refuses_is_counted(
    stage: Callable[..., Stage], collector: OtlpCollector, status: int
) -> None:
    """At once, or after the tries that `export_timeout` allows."""
    collector.status = status
    here = stage(export_timeout="100ms")
    here.span()
    await eventually(lambda: here.count("failed") == 1)
    assert here.complaints
    assert here.tracer.waiting == 0


async def test_libraries_complain_to_us_alone(
    stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither through the root logger, where nobody bounds them, nor once the exporter is gone."""
    here = stage()
    logging.getLogger("opentelemetry.sdk").error("one %s", "span")
    logging.getLogger("urllib3.connectionpool").warning("two")
    logging.getLogger("opentelemetry.sdk").info("three")
    assert here.complaints == ["one span", "two"]
    assert caplog.messages == []
    here.tracer._exporter.close(5)
    logging.getLogger("opentelemetry.sdk").error("four")
    assert here.complaints == ["one span", "two"]
    assert caplog.messages == ["four"]


def test_the_end_sends_what_waits(stage: Callable[..., Stage], collector: OtlpCollector) -> None:
    """Within the time that it is given."""
    here = stage(flush_interval="1m")
    for _ in range(600):
        here.span()
    assert here.tracer._exporter.close(5) == 0
    assert len(collector.spans) == 600


def test_the_end_waits_no_longer_than_it_may(stage: Callable[..., Stage], collector: OtlpCollector) -> None:
    """And tells how many spans nobody has."""
    collector.hold()
    here = stage(flush_interval="1m", export_timeout="1m")
    for _ in range(3):
        here.span()
    began = time.monotonic()
    assert here.tracer._exporter.close(0.1) == 3
    assert time.monotonic() - began < 10
