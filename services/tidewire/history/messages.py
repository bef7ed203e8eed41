"""Stored publications as NATS shows them: what JetStream says about one, and what its publisher said.

JetStream puts its own headers behind those of the publisher, who may have sent some of the same name: the last one counts,
and none of either is handed on. It takes two bytes off the publisher's block first, without looking: where those are no line
end, its first line, `Nats-Stream`, begins in the middle of another.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

_OURS = re.compile(rb"\r\n(Nats-Subject|Nats-Sequence|Nats-Time-Stamp|Nats-Last-Sequence):[ \t]*([^\r\n]*)")
_STREAM = re.compile(rb"Nats-Stream: ([^\r\n]*)\r\nNats-Subject:")
_OURS_BEGIN = b"\r\nNats-Stream: "
_OURS_IN_ORDER = re.compile(
    rb"\r\nNats-Stream: ([^\r\n ]*)\r\nNats-Subject: ([^\r\n]*)\r\nNats-Sequence: (\d{1,19})"
    rb"\r\nNats-Time-Stamp: ([^\r\n]*)\r\nNats-Last-Sequence: (\d{1,19})\r\n\r\n\Z"
)
"""How JetStream ends the headers of what it publishes again. No stream has a space in its name."""
_PLAIN = re.compile(rb"NATS/1\.0(?:\r\nNats-Msg-Id: [^\r\n]*)?((?:\r\n[A-MO-Za-mo-z][^\r\n]*)+)\Z")
"""Headers of which only the first is one of NATS's, if any: whose names begin otherwise."""
VERSION_LINE = b"NATS/1.0"
BILLION = 1_000_000_000
MOST_DIGITS = 19


class Kept(NamedTuple):
    """What a publication carries: its data, and its publisher's header block (b"" without headers)."""

    data: bytes
    header: bytes


class Message(NamedTuple):
    """One stored publication: `key` is its subject in the stream (`tw.in.<p>.<C>`).

    `last` is the sequence of the one before it on its subject that was still stored when it came (0: none); None where
    JetStream did not say so, as when it was read from the stream.
    """

    stream: bytes
    key: bytes
    sequence: int
    time_ns: int
    last: int | None
    kept: Kept


def message_of(header: bytes, data: bytes) -> Message | None:
    """Return what a message of JetStream's says; None for one that is none."""
    at = header.rfind(_OURS_BEGIN)
    found = _OURS_IN_ORDER.match(header, at) if at >= 0 else None
    time_ns = nanoseconds(found[4]) if found is not None else None
    if found is None or time_ns is None:
        return _message_of(header, data)
    kept = Kept(data, _published_plainly(header[:at]) or published(header))
    return Message(found[1], found[2], int(found[3]), time_ns, int(found[5]), kept)


def _message_of(header: bytes, data: bytes) -> Message | None:
    """Return the same whatever the headers' order, at four times the cost."""
    said = dict(_OURS.findall(header))
    sequence, last = said.get(b"Nats-Sequence", b""), said.get(b"Nats-Last-Sequence")
    time_ns = nanoseconds(said.get(b"Nats-Time-Stamp", b""))
    streams, key = _STREAM.findall(header), said.get(b"Nats-Subject")
    if not _is_number(sequence) or time_ns is None or not streams or key is None:
        return None
    known = int(last) if last is not None and _is_number(last) else None
    return Message(streams[-1], key, int(sequence), time_ns, known, Kept(data, published(header)))


def published(header: bytes) -> bytes:
    """Return a header block without the headers of NATS, be they the server's or the publisher's; b"" where none is left.

    A line that holds half a line end is nobody's honest header, and is left out as well.
    """
    lines = header.split(b"\r\n")[1:]
    left = [
        line for line in lines if line and not _is_of_nats(line) and b"\n" not in line and b"\r" not in line
    ]
    return b"\r\n".join([VERSION_LINE, *left, b"", b""]) if left else b""


def _published_plainly(header: bytes) -> bytes:
    """Return what `published` does of a header block without its end, where an edge has made it; b"" for any other."""
    plain = _PLAIN.match(header)
    return b"%b%b\r\n\r\n" % (VERSION_LINE, plain[1]) if plain is not None else b""


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
