"""Traces: which commands are traced, spans and their ids. What exports them is loaded only where a collector is configured.

OpenTelemetry's own tracer decides on sampling with the span already made; here the decision is one comparison, and no
object exists before it. A span becomes OpenTelemetry's (`platform/otlp.py`) when it has ended.
"""

from __future__ import annotations

import asyncio
import enum
from random import Random
from typing import TYPE_CHECKING, Protocol

from tidewire import __version__
from tidewire.kernel.seldom import Seldom
from tidewire.kernel.token_bucket import TokenBucket
from tidewire.kernel.trace_context import TraceContext, header_line
from tidewire.platform.lifecycle import StartError
from tidewire.platform.metrics import Counter

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from tidewire.kernel.clock import Clock
    from tidewire.platform.tracing_options import TracingConfig

Attributes = dict[str, str | int]

OUTCOMES = ("exported", "failed", "queue_full", "rate_limited")


class Kind(enum.Enum):
    """The role of a span; OpenTelemetry's names."""

    SERVER = "SERVER"
    CLIENT = "CLIENT"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


class Span:
    """One traced operation. Times are Unix nanoseconds; `end_ns` is 0 until it has ended."""

    __slots__ = ("_tracer", "attributes", "code", "context", "end_ns", "kind", "name", "parent", "start_ns")

    def __init__(
        self, tracer: Tracer, name: str, kind: Kind, context: TraceContext, parent: TraceContext | None
    ) -> None:
        """Only `Tracer.begin` makes spans; it sets the rest."""
        self._tracer = tracer
        self.name = name
        self.kind = kind
        self.context = context
        self.parent = parent
        self.attributes: Attributes = {}
        self.start_ns = self.end_ns = 0
        self.code = 0

    @property
    def header(self) -> bytes:
        """The line of a NATS header block that makes this span the parent of what follows."""
        return header_line(self.context)

    def end(self, code: int = 0, **attributes: int) -> None:
        """End now with a code (0 = success) and further `tidewire.*` attributes, and hand it to the exporter."""
        self.attributes["tidewire.code"] = self.code = code
        if code:
            self.attributes["error.type"] = str(code)
        for name, value in attributes.items():
            self.attributes[f"tidewire.{name}"] = value
        self._tracer.ended(self)


class Exporter(Protocol):
    """Sends spans away, from a thread of its own."""

    @property
    def waiting(self) -> int:
        """Spans that are taken, and neither sent nor given up."""

    def put(self, span: Span) -> None:
        """Take a span that has ended, or drop it and count that. Never blocks, never raises."""

    def close(self, timeout: float) -> int:
        """Send what waits, for at most `timeout` seconds, and take nothing more. Return how many spans are lost."""


class Tracer:
    """Decides what is traced, and makes spans.

    `spans` counts them by what became of them: `exported`, `failed`, `queue_full` or `rate_limited`.
    """

    def __init__(
        self,
        config: TracingConfig,
        clock: Clock,
        create_exporter: Callable[[Counter], Exporter],
        random: Random,
    ) -> None:
        self._ratio = config.sample_ratio
        self._clock = clock
        self._random = random.random
        self._bits = random.getrandbits
        self._ours = TokenBucket(config.max_spans_per_second)
        self._others = TokenBucket(config.max_spans_per_second)
        self._flush_timeout = float(config.flush_timeout)
        self.spans = Counter(
            "tidewire_trace_spans",
            "Spans by what became of them: exported, or dropped since the collector did not take them (failed), "
            "tracing.queue_size were waiting (queue_full), or tracing.max_spans_per_second had begun (rate_limited).",
            ["outcome"],
        )
        for outcome in OUTCOMES:  # here, since the exporter's thread must not add keys while they are read
            self.spans.inc(0, (outcome,))
        self._exporter = create_exporter(self.spans)

    @property
    def waiting(self) -> int:
        """Spans that have ended, and are neither sent nor given up."""
        return self._exporter.waiting

    def sampled(self) -> bool:
        """Decide on one command."""
        return self._random() < self._ratio

    def begin(
        self,
        name: str,
        kind: Kind,
        attributes: Attributes,
        started: float,
        parent: TraceContext | None = None,
    ) -> Span | None:
        """Begin a span at `started` (monotonic seconds), a root unless it has a parent. None: too many this second."""
        now = self._clock.monotonic()
        if not (self._ours if parent is None else self._others).take(now):
            self.spans.inc(1, ("rate_limited",))
            return None
        trace_id = (self._bits(128) or 1) if parent is None else parent.trace_id
        context = TraceContext(trace_id, self._bits(64) or 1, "" if parent is None else parent.state)
        span = Span(self, name, kind, context, parent)
        span.attributes = attributes
        span.start_ns = _unix_ns(self._clock.wall() - (now - started))
        return span

    def ended(self, span: Span) -> None:
        """Take a span that ends now."""
        span.end_ns = max(span.start_ns, _unix_ns(self._clock.wall()))
        self._exporter.put(span)

    async def close(self, log: FilteringBoundLogger) -> None:
        """Send what waits, for at most `tracing.flush_timeout`."""
        lost = await asyncio.to_thread(self._exporter.close, self._flush_timeout)
        if lost:
            log.warning("tracing.flush_incomplete", lost=lost)


def _unix_ns(seconds: float) -> int:
    return round(seconds * 1e6) * 1000  # a float of today's date holds no more than microseconds


class Complaints:
    """Writes at most one line a minute about an exporter in trouble; callable from any thread."""

    def __init__(self, log: FilteringBoundLogger, monotonic: Callable[[], float]) -> None:
        self._log = log
        self._seldom = Seldom(monotonic)

    def __call__(self, problem: str) -> None:
        """Write why spans do not arrive, unless a line was written within the minute."""
        if self._seldom.allows("tracing.export_failed"):
            self._log.warning("tracing.export_failed", problem=problem)


def create_tracer(config: TracingConfig, node: str, clock: Clock, log: FilteringBoundLogger) -> Tracer | None:
    """Return what a configuration asks for; None without an endpoint, and then OpenTelemetry is not even imported.

    Raises StartError: `tracing.ca_file` cannot be used.
    """
    if not config.endpoint:
        return None
    from tidewire.platform.otlp import OtlpExporter  # noqa: PLC0415 - 0.2 s and 15 MB that only tracing is worth

    complain = Complaints(log, clock.monotonic)
    random = Random()  # noqa: S311 - ids and samples protect nothing
    resource = {"service.instance.id": node, "service.version": __version__}
    try:
        return Tracer(config, clock, lambda spans: OtlpExporter(config, resource, spans, complain), random)
    except OSError as error:
        raise StartError(f"tracing.ca_file cannot be used ({error})") from error
