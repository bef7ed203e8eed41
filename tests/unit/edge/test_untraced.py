from __future__ import annotations

from tidewire.edge.untraced import NO_SPAN, OFF


def test_nothing_is_traced() -> None:
    """Every question has the empty answer."""
    assert OFF.publish("chat:a", 1.0) is NO_SPAN
    assert OFF.call("sum", 1.0) is NO_SPAN
    assert OFF.deliver("chat:a", b"NATS/1.0\r\n\r\n") is None
    OFF.answered("connect", 1.0, 0)
    NO_SPAN.end(100, subscribers=3)
    assert NO_SPAN.header == b""
