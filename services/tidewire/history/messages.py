"""Stored publications as NATS shows them: what JetStream says about one, and what its publisher said.

JetStream puts its own headers behind those of the publisher, who may have sent some of the same name: the last one counts,
and none of either is handed on. It takes two bytes off the publisher's block first, without looking: where those are no line
end, its first line, `Nats-Stream`, begins in the middle of another.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache

import msgspec

_OURS = re.compile(rb"\r\n(Nats-Subject|Nats-Sequence|Nats-Time-Stamp|Nats-Last-Sequence):[ \t]*([^\r\n]*)")
_STREAM = re.compile(rb"Nats-Stream: ([^\r\n]*)\r\nNats-Subject:")
_USUAL = re.compile(
    rb"NATS/1\.0(?:\r\nNats-Msg-Id: .*)?((?:\r\n[A-MO-Za-mo-z].*)*)"
    rb"\r\nNats-Stream: ([^\r\n ]*)\r\nNats-Subject: (\S.*)\r\nNats-Sequence: (\d{1,19})"
    rb"\r\nNats-Time-Stamp: ([^\r\n.]*)\.?(\d{0,9})Z\r\nNats-Last-Sequence: (\d{1,19})\r\n\r\n\Z"
)
"""What JetStream publishes again of an edge: at most one header of NATS's, headers whose names begin otherwise, and JetStream's in
their order. No stream has a space in its name. A dot is any byte but a line feed, which Python finds four times as fast as one
that is neither half of a line end: the other half is counted."""
VERSION_LINE = b"NATS/1.0"
LINE_END = b"\r\n"
BILLION = 1_000_000_000
MOST_DIGITS = 19


class Message(msgspec.Struct, frozen=True, gc=False):
    """One stored publication: `key` is its subject in the stream (`tw.in.<p>.<C>`).

    `last` is the sequence of the one before it on its subject that was still stored when it came (0: none); None where
    JetStream did not say so, as when it was read from the stream. `lines` are its publisher's headers, see `published`.
    """

    stream: bytes
    key: bytes
    sequence: int
    time_ns: int
    last: int | None
    lines: bytes
    data: bytes


def message_of(header: bytes, data: bytes) -> Message | None:
    """Return what a message of JetStream's says; None for one that is none."""
    usual = _USUAL.match(header)
    if usual is None or header.count(b"\r") != header.count(b"\n"):
        return _message_of(header, data)
    lines, stream, key, sequence, whole, fraction, last = usual.groups()
    seconds = _seconds(whole)
    if seconds is None:
        return _message_of(header, data)
    time_ns = seconds * BILLION + int(fraction.ljust(9, b"0"))
    return Message(stream, key, int(sequence), time_ns, int(last), lines, data)


def _message_of(header: bytes, data: bytes) -> Message | None:
    """Return the same whatever the headers' order, at several times the cost."""
    said = dict(_OURS.findall(header))
    sequence, last = said.get(b"Nats-Sequence", b""), said.get(b"Nats-Last-Sequence")
    time_ns = nanoseconds(said.get(b"Nats-Time-Stamp", b""))
    streams, key = _STREAM.findall(header), said.get(b"Nats-Subject")
    if not _is_number(sequence) or time_ns is None or not streams or key is None:
        return None
    known = int(last) if last is not None and _is_number(last) else None
    return Message(streams[-1], key, int(sequence), time_ns, known, published(header), data)


def published(header: bytes) -> bytes:
    """Return the lines of a header block that are not headers of NATS, be they the server's or the publisher's.

    Each is behind its line end. One that holds half a line end is nobody's honest header, and is left out as well.
    """
    lines = header.split(b"\r\n")[1:]
    left = [
        line for line in lines if line and not _is_of_nats(line) and b"\n" not in line and b"\r" not in line
    ]
    return b"".join([part for line in left for part in (LINE_END, line)])


def block_of(lines: bytes) -> bytes:
    """Return the header block of these lines; b"" without any."""
    return b"%b%b\r\n\r\n" % (VERSION_LINE, lines) if lines else b""


def nanoseconds(text: bytes) -> int | None:
    """Return an RFC 3339 time of the server's, in UTC, as nanoseconds since 1970; None for anything else."""
    whole, _, fraction = text.removesuffix(b"Z").partition(b".")
    seconds = _seconds(whole)
    if seconds is None or not text.endswith(b"Z") or (fraction and not fraction.isdigit()):
        return None
    return seconds * BILLION + int(fraction[:9].ljust(9, b"0"))


@lru_cache(maxsize=256)
def _seconds(text: bytes) -> int | None:
    """Cached, since what comes now mostly came in this second."""
    try:
        return int(datetime.fromisoformat(text.decode() + "+00:00").timestamp())
    except ValueError:
        return None


def _is_of_nats(line: bytes) -> bool:
    return line.lstrip()[:5].lower() == b"nats-"


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) <= MOST_DIGITS
