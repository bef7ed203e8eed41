"""Tracers whose spans the test reads, and whose dice it may load."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.fakes.clock import ManualClock
from tidewire.edge.ports import Span as AnySpan
from tidewire.kernel.config import decode
from tidewire.platform.metrics import Counter
from tidewire.platform.tracing import Span, Tracer
from tidewire.platform.tracing_options import TracingConfig


class RecordingExporter:
    """Keeps spans in the order of their ends."""

    def __init__(self, spans: Counter) -> None:
        self.spans = spans
        self.ended: list[Span] = []
        self.waiting = 0
        self.lost = 0
        self.closed_within: float | None = None

    def put(self, span: Span) -> None:
        self.ended.append(span)

    def close(self, timeout: float) -> int:
        self.closed_within = timeout
        return self.lost


class LoadedDice(Random):
    """Draws what it was told, else what chance gives."""

    def __init__(self, draws: float | None, bits: int | None) -> None:
        super().__init__(1)
        self._draws = draws
        self._bits = bits

    def random(self) -> float:
        return super().random() if self._draws is None else self._draws

    def getrandbits(self, k: int, /) -> int:
        return super().getrandbits(k) if self._bits is None else self._bits


def recording_tracer(
    clock: ManualClock, *, draws: float | None = None, bits: int | None = None, **settings: Any
) -> tuple[Tracer, RecordingExporter]:
    """Return a tracer with these settings, by default of everything, and its exporter."""
    config = decode(TracingConfig, {"endpoint": "http://x/v1/traces", "sample_ratio": 1.0, **settings})
    exporters: list[RecordingExporter] = []

    def create(spans: Counter) -> RecordingExporter:
        exporters.append(RecordingExporter(spans))
        return exporters[0]

    tracer = Tracer(config, clock, create, LoadedDice(draws, bits))
    return tracer, exporters[0]


class RecordingTracer:
    """The edge's tracer, for what uses it: spans are named by what they are about, and so are their headers."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, int]] = []
        self.answers: list[tuple[str, float, int]] = []

    def publish(self, channel: str, started: float) -> AnySpan:
        return NamedSpan(self, f"publish {channel}")

    def call(self, method: str, started: float) -> AnySpan:
        return NamedSpan(self, f"rpc {method}")

    def answered(self, method: str, started: float, code: int) -> None:
        if method in {"connect", "subscribe"}:
            self.answers.append((method, started, code))

    def deliver(self, channel: str, header: bytes) -> AnySpan | None:
        return NamedSpan(self, f"deliver {channel}") if b"traceparent" in header else None


class NamedSpan:
    """A span of `RecordingTracer`; further attributes stand behind its name when it ends."""

    def __init__(self, tracer: RecordingTracer, name: str) -> None:
        self._tracer = tracer
        self._name = name
        self.header = name.encode()

    def end(self, code: int = 0, **attributes: int) -> None:
        said = "".join(f" {name}={value}" for name, value in attributes.items())
        self._tracer.ended.append((self._name + said, code))
