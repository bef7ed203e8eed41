from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewire.kernel.trace_context import (
    MAX_STATE,
    TraceContext,
    context_of,
    header_line,
    parent_value,
    sampled_context,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
CONTEXT = TraceContext(int(TRACE, 16), int(SPAN, 16))


def block(*lines: str) -> bytes:
    """A header block."""
    return "".join(f"{line}\r\n" for line in ("NATS/1.0", *lines, "")).encode()


@pytest.mark.parametrize(
    "line",
    [
        f"traceparent: 00-{TRACE}-{SPAN}-01",
        f"Traceparent: 00-{TRACE}-{SPAN}-01",
        f"traceparent:00-{TRACE}-{SPAN}-01",
        f"traceparent: \t00-{TRACE}-{SPAN}-01 \t",
        f"traceparent: 00-{TRACE}-{SPAN}-03",
        f"traceparent: 00-{TRACE}-{SPAN}-ff",
        f"traceparent: 01-{TRACE}-{SPAN}-01",
        f"traceparent: cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like",
        f"traceparent: cc-{TRACE}-{SPAN}-01-",
    ],
)
def test_sampled_contexts(line: str) -> None:
    """Also those of later versions, and with flags of later levels."""
    assert sampled_context(block(line)) == CONTEXT
    assert sampled_context(block("Tw-V: 1", line, "Tw-Tags: {}")) == CONTEXT


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"00-{TRACE}-{SPAN}-00",
        f"00-{TRACE}-{SPAN}-02",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-001",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01.",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"0g-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE[:-1]}x-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN[:-1]}-01",
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
        "x" * 10_000,
    ],
)
def test_what_is_not_sampled_or_not_valid(value: str) -> None:
    """None, whatever is wrong."""
    assert sampled_context(block(f"traceparent: {value}")) is None


@pytest.mark.parametrize(
    "line",
    [
        f'Tw-Info: {{"user":"traceparent: 00-{TRACE}-{SPAN}-01"}}',
        f"X-traceparent: 00-{TRACE}-{SPAN}-01",
        f"traceparent : 00-{TRACE}-{SPAN}-01",
        f"tracestate: traceparent: 00-{TRACE}-{SPAN}-01",
    ],
)
def test_only_a_header_of_that_name_counts(line: str) -> None:
    """A client's text in another header is no context."""
    assert sampled_context(block(line)) is None


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        ([], ""),
        (["tracestate: congo=t61rcWkgMzE"], "congo=t61rcWkgMzE"),
        (["Tracestate: a=1", "tracestate:b=2 "], "a=1,b=2"),
        ([f"tracestate: a={'x' * (MAX_STATE - 2)}"], f"a={'x' * (MAX_STATE - 2)}"),
        ([f"tracestate: a={'x' * (MAX_STATE - 1)}"], ""),
        (["tracestate: a=ü"], ""),
    ],
)
def test_the_state_of_vendors(lines: list[str], state: str) -> None:
    """Joined, bounded, in ASCII; without it the context still counts."""
    found = sampled_context(block(*lines, f"traceparent: 00-{TRACE}-{SPAN}-01"))
    assert found == TraceContext(CONTEXT.trace_id, CONTEXT.span_id, state)


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1))
def test_a_context_comes_back(trace: int, span: int) -> None:
    """What is written is read."""
    line = header_line(TraceContext(trace, span))
    assert len(line) == len("traceparent: ") + 55 + 2
    assert sampled_context(b"NATS/1.0\r\n" + line + b"\r\n") == TraceContext(trace, span)


@given(st.binary(), st.binary())
def test_any_bytes_are_read_without_an_error(before: bytes, after: bytes) -> None:
    """A header block may hold anything."""
    sampled_context(before)
    sampled_context(before + b"\r\ntraceparent: " + after + b"\r\n\r\n")
    sampled_context(block(f"traceparent: 00-{TRACE}-{SPAN}-01")[:-2] + b"tracestate: " + after + b"\r\n\r\n")


@given(st.from_regex(rb"(00|cc|ff)-[0-9a-f]{31,32}-[0-9a-f]{16}-0[0-3](-[a-z]?)?[ \t]?", fullmatch=True))
def test_values_alone_are_read_as_in_a_header(value: bytes) -> None:
    """With their states, one or more."""
    header = b"NATS/1.0\r\ntraceparent:%s\r\ntracestate: a=1\r\ntracestate: b=2\r\n\r\n" % value
    assert context_of(value, [b"a=1", b"b=2"]) == sampled_context(header)


def test_a_value_is_read_as_it_was_written() -> None:
    """The same in both forms."""
    assert context_of(parent_value(CONTEXT)) == CONTEXT
    assert header_line(CONTEXT) == b"traceparent: %s\r\n" % parent_value(CONTEXT)
