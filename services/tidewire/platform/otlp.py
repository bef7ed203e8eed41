"""Sends spans to a collector by OTLP over HTTP: the one door to OpenTelemetry.

Spans are OpenTelemetry's own `ReadableSpan` from their end on, and its `BatchSpanProcessor` queues and sends them in a
thread. Its tracer is left out: it would allocate a span to learn that a command is not sampled.
"""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from tidewire import __version__
from tidewire.platform.tracing_options import TracingConfig, header_fields

if TYPE_CHECKING:
    from tidewire.kernel.trace_context import TraceContext
    from tidewire.platform.metrics import Counter
    from tidewire.platform.tracing import Span

_SCOPE = InstrumentationScope("tidewire", __version__)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_LOGGERS = ("opentelemetry", "urllib3")


class OtlpExporter:
    """See `tracing.Exporter`. `spans` counts what becomes of them, `complain` hears why some do not arrive."""

    def __init__(
        self,
        config: TracingConfig,
        resource: Mapping[str, str],
        spans: Counter,
        complain: Callable[[str], None],
    ) -> None:
        self._resource = Resource(_resource(config, resource))
        self._spans = spans
        self._queue_size = config.queue_size
        self._accepted = 0
        self._handler = _Complaining(complain)
        with _no_environment():
            self._sender = _Sender(config, spans)
            self._processor = BatchSpanProcessor(
                self._sender,
                max_queue_size=config.queue_size,
                schedule_delay_millis=config.flush_interval * 1000,
                max_export_batch_size=config.batch_size,
                export_timeout_millis=config.export_timeout * 1000,
            )
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(self._handler)
            logging.getLogger(name).propagate = False

    @property
    def waiting(self) -> int:
        """See `tracing.Exporter`."""
        return self._accepted - self._sender.done

    def put(self, span: Span) -> None:
        """See `tracing.Exporter`."""
        if self._accepted - self._sender.taken >= self._queue_size:  # the processor would drop an older one
            self._spans.inc(1, ("queue_full",))
            return
        self._accepted += 1
        self._processor.on_end(_readable(span, self._resource))

    def close(self, timeout: float) -> int:
        """See `tracing.Exporter`."""
        waiting, exported = self.waiting, self._sender.exported
        ending = threading.Thread(target=self._processor.shutdown, daemon=True)  # it waits for up to 30 s
        ending.start()
        ending.join(timeout)
        self._sender.shutdown()
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(self._handler)
            logging.getLogger(name).propagate = True
        return waiting - (self._sender.exported - exported)


class _Sender(SpanExporter):
    """OpenTelemetry's exporter, counted. All but `shutdown` is called by the processor's thread."""

    def __init__(self, config: TracingConfig, spans: Counter) -> None:
        if config.ca_file:
            ssl.create_default_context(cafile=config.ca_file)  # told now, not with the first export
        self._inner = OTLPSpanExporter(
            endpoint=config.endpoint,
            certificate_file=config.ca_file or None,
            headers=header_fields(config.headers),
            timeout=float(config.export_timeout),
            compression=Compression.Gzip,
        )
        self._spans = spans
        self._ended = threading.Lock()
        self.taken = 0
        """Spans that have left the queue; `done` of them are judged, `exported` of those well."""
        self.done = 0
        self.exported = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        self.taken += len(spans)
        result = self._inner.export(spans)
        success = result is SpanExportResult.SUCCESS
        self.exported += len(spans) if success else 0
        self.done += len(spans)
        self._spans.inc(len(spans), ("exported" if success else "failed",))
        return result

    def shutdown(self) -> None:
        """End, tries that wait included; a second call does nothing."""
        if self._ended.acquire(blocking=False):
            self._inner.shutdown()  # type: ignore[no-untyped-call] # the library leaves the annotation out


class _Complaining(logging.Handler):
    """Hands what OpenTelemetry and its HTTP client log to one place."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._complain = complain

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        self._complain(record.getMessage())


def _resource(config: TracingConfig, resource: Mapping[str, str]) -> dict[str, str]:
    names = {"service.name": config.service_name, "service.namespace": config.service_namespace, **resource}
    return {name: value for name, value in names.items() if value}


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    return ReadableSpan(
        span.name,
        context=_context(span.context, remote=False),
        parent=None if span.parent is None else _context(span.parent, remote=True),
        resource=resource,
        attributes=span.attributes,
        kind=SpanKind[span.kind.name],
        status=Status(StatusCode.ERROR if span.code else StatusCode.UNSET),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=_SCOPE,
    )


def _context(context: TraceContext, *, remote: bool) -> SpanContext:
    state = TraceState.from_header([context.state]) if context.state else None
    return SpanContext(context.trace_id, context.span_id, remote, _SAMPLED, state)


@contextlib.contextmanager
def _no_environment() -> Iterator[None]:
    """Hide `OTEL_*`, which the libraries read when their objects are made: the configuration is the one way."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("OTEL_")}
    try:
        yield
    finally:
        os.environ.update(hidden)
