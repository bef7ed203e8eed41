from __future__ import annotations

import pytest

from tidewire.kernel.trace_context import TraceContext
from tidewire.platform.rpc_tracing import attributes, received, sent

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CONTEXT = TraceContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7)


@pytest.mark.parametrize("state", ["", "a=1,b=2"])
def test_what_is_sent_is_received(state: str) -> None:
    """With other metadata beside it."""
    context = TraceContext(CONTEXT.trace_id, CONTEXT.span_id, state)
    assert received((("user-agent", "x"), *sent(context), ("bin-bin", b"\xff"))) == context


def test_nothing_is_sent_of_no_trace() -> None:
    """Nor received."""
    assert sent(None) == ()
    assert received(()) is None


def test_a_state_that_no_metadata_can_hold_is_left_out() -> None:
    """GRPC refuses the whole call for one."""
    assert sent(TraceContext(CONTEXT.trace_id, CONTEXT.span_id, "a=\x01")) == (("traceparent", PARENT),)


@pytest.mark.parametrize(
    "metadata",
    [
        [("traceparent", PARENT[:-1] + "0")],
        [("traceparent", "näh")],
        [("traceparent", PARENT), ("traceparent", PARENT)],
        [("tracestate", "a=1")],
    ],
)
def test_what_is_not_valid_is_no_trace(metadata: list[tuple[str, str]]) -> None:
    """Two parents are none (section 3.2)."""
    assert received(metadata) is None


def test_a_method_is_named_as_the_conventions_say() -> None:
    """In OpenTelemetry's words."""
    assert attributes("/a.b.Service/Method") == {
        "rpc.system": "grpc",
        "rpc.service": "a.b.Service",
        "rpc.method": "Method",
    }
