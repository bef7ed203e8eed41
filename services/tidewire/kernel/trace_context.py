"""W3C Trace Context (level 1) in the headers of NATS messages and gRPC calls: `traceparent` and `tracestate`. Pure.

The rules are those of https://www.w3.org/TR/trace-context-1/, sections 3.2 (traceparent) and 3.3 (tracestate).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

MAX_STATE = 512
"""Characters of `tracestate` that everybody must pass on (section 3.3.1.5); a longer one is left out."""
_MARK = b"raceparent"
_VALUE = rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f][13579bdf](-[^\r\n]*)?[ \t]*"
"""A valid value whose flags are odd: bit 0 is `sampled`, the only flag of level 1."""
_PARENT = re.compile(rb"\r\n[Tt]raceparent:[ \t]*" + _VALUE + rb"\r\n")
_PARENT_VALUE = re.compile(_VALUE)
_STATE = re.compile(rb"\r\n[Tt]racestate:[ \t]*([^\r\n]*)")
_INVALID_VERSION = b"ff"
_OUR_VERSION = b"00"


class TraceContext(msgspec.Struct, frozen=True, gc=False):
    """A place in a sampled trace: 128 bits of trace, 64 bits of span, and what vendors add, as it came."""

    trace_id: int
    span_id: int
    state: str = ""


def sampled_context(header: bytes) -> TraceContext | None:
    """Return the context in a header block, None where there is none, an invalid one, or one that is not sampled.

    Names are case-sensitive in NATS (ADR-4), and read as its clients write them: `traceparent`, or `Traceparent`,
    which is Go's form. A block without it costs one search. A version after 00 is read as 00 and may say more behind it (section 3.2.4).
    """
    if header.find(_MARK) < 0:  # `in` takes twice as long: it tries whether the bytes are a number first
        return None
    found = _PARENT.search(header)
    return _context(found, _STATE.findall(header)) if found else None


def context_of(parent: bytes, states: Sequence[bytes] = ()) -> TraceContext | None:
    """Return the context in the values of `traceparent` and of every `tracestate`; None as for `sampled_context`."""
    found = _PARENT_VALUE.fullmatch(parent)
    return _context(found, states) if found else None


def header_line(context: TraceContext) -> bytes:
    """Return the line of a header block that says "sampled, and this is the parent"."""
    return b"traceparent: %s\r\n" % parent_value(context)


def parent_value(context: TraceContext) -> bytes:
    """Return the value of `traceparent` that says the same."""
    return b"00-%032x-%016x-01" % (context.trace_id, context.span_id)


def _context(found: re.Match[bytes], states: Sequence[bytes]) -> TraceContext | None:
    if found[1] == _INVALID_VERSION or (found[1] == _OUR_VERSION and found[4]):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    return TraceContext(trace_id, span_id, _state(states)) if trace_id and span_id else None


def _state(states: Sequence[bytes]) -> str:
    """Return `tracestate`, joined where it stands more than once (section 3.3.1)."""
    text = b",".join(states).strip()
    return text.decode() if text.isascii() and len(text) <= MAX_STATE else ""
