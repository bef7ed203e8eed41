"""Stand-ins for spans and tracers where nothing is traced: the core asks no question first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tidewire.edge.ports import Span, Tracer


class NoSpan:
    """The span of a command that is not traced."""

    header = b""

    def end(self, code: int = 0, **attributes: int) -> None:
        """See ports.Span."""


class NoTracer:
    """Tracing that is not configured."""

    def publish(self, channel: str, started: float) -> Span:  # noqa: ARG002 - the port's signature, here and below
        """See ports.Tracer."""
        return NO_SPAN

    def call(self, method: str, started: float) -> Span:  # noqa: ARG002
        """See ports.Tracer."""
        return NO_SPAN

    def answered(self, method: str, started: float, code: int) -> None:
        """See ports.Tracer."""

    def deliver(self, channel: str, header: bytes) -> Span | None:  # noqa: ARG002
        """See ports.Tracer."""
        return None


NO_SPAN: Final[Span] = NoSpan()
OFF: Final[Tracer] = NoTracer()
