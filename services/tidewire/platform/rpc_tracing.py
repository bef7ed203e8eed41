"""Trace context in the metadata of calls, and a span on either side. The keys are those of W3C Trace Context."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Final

from tidewire.kernel.trace_context import TraceContext, context_of, parent_value
from tidewire.platform.tracing import Attributes

Pairs = tuple[tuple[str, str], ...]

_PARENT: Final = "traceparent"
_STATE: Final = "tracestate"

current: ContextVar[TraceContext | None] = ContextVar("tidewire.rpc.trace", default=None)
"""In a servicer's method: the sampled trace that its call belongs to, for what it calls itself."""


def received(metadata: Iterable[tuple[str, str | bytes]]) -> TraceContext | None:
    """Return the sampled context that a call came with; None: none, or one that is not valid."""
    parents, states = [], []
    for key, value in metadata:
        if key == _PARENT:
            parents.append(_bytes(value))
        elif key == _STATE:
            states.append(_bytes(value))
    return context_of(parents[0], states) if len(parents) == 1 else None


def sent(context: TraceContext | None) -> Pairs:
    """Return the metadata that make `context` the parent of a call."""
    if context is None:
        return ()
    parent = (_PARENT, parent_value(context).decode())
    return (parent, (_STATE, context.state)) if context.state.isprintable() and context.state else (parent,)


def attributes(method: str) -> Attributes:
    """Return what OpenTelemetry's conventions say of a call of `/package.Service/Method`."""
    _, service, name = method.split("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
