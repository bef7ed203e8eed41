"""The edge's spans: what each is called and what it says, in OpenTelemetry's semantic conventions where they have a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.edge.untraced import NO_SPAN
from tidewire.kernel.channels import split_channel
from tidewire.kernel.trace_context import sampled_context
from tidewire.platform.tracing import Attributes, Kind

if TYPE_CHECKING:
    from tidewire.edge.ports import Span
    from tidewire.kernel.clock import Clock
    from tidewire.platform.tracing import Tracer

WITHOUT_MESSAGE = frozenset({"connect", "subscribe"})


class EdgeTracer:
    """`ports.Tracer` on the process's tracer."""

    def __init__(self, tracer: Tracer, clock: Clock) -> None:
        self._tracer = tracer
        self._clock = clock

    def publish(self, channel: str, started: float) -> Span:
        """See ports.Tracer."""
        if not self._tracer.sampled():
            return NO_SPAN
        attributes = _messaging("publish", "send", channel)
        return self._tracer.begin("publish", Kind.PRODUCER, attributes, started) or NO_SPAN

    def call(self, method: str, started: float) -> Span:
        """See ports.Tracer."""
        if not self._tracer.sampled():
            return NO_SPAN
        attributes: Attributes = {"rpc.system": "nats", "rpc.method": method}
        return self._tracer.begin("rpc", Kind.CLIENT, attributes, started) or NO_SPAN

    def answered(self, method: str, started: float, code: int) -> None:
        """See ports.Tracer."""
        if method in WITHOUT_MESSAGE and self._tracer.sampled():
            (self._tracer.begin(method, Kind.SERVER, {}, started) or NO_SPAN).end(code)

    def deliver(self, channel: str, header: bytes) -> Span | None:
        """See ports.Tracer."""
        parent = sampled_context(header)
        if parent is None:
            return None
        attributes = _messaging("deliver", "process", channel)
        return self._tracer.begin("deliver", Kind.CONSUMER, attributes, self._clock.monotonic(), parent)


def _messaging(operation: str, kind: str, channel: str) -> Attributes:
    """Return the attributes of a message. The destination is the namespace: a channel's name may tell who talks to whom."""
    attributes: Attributes = {
        "messaging.system": "nats",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
    }
    namespace = split_channel(channel).namespace
    if namespace:
        attributes["messaging.destination.name"] = namespace
    return attributes
