"""What JetStream publishes again on `tw.out`: which subject a channel with history is heard on, and which messages to believe.

Whoever may publish can have his acknowledgement sent to any subject, and put any header into his message; a direct get can
have stored messages sent anywhere. Only the stream itself adds, behind all other headers, its name, the sequence, and the
subject that it took the message from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

from tidewire.kernel.channels import split_channel
from tidewire.kernel.streams import stream_name
from tidewire.kernel.subjects import NO_NAMESPACE, SUBJECT_CACHE, in_subject, out_pattern, out_subject

HEADER: Final = re.compile(
    rb"\r\n(Nats-Stream|Nats-Subject|Nats-Sequence|Nats-Last-Sequence|Nats-Time-Stamp|"
    rb"Tw-V|Tw-Time|Tw-Info|Tw-Tags|Tw-Key|Tw-Delta):[ \t]*([^\r\n]*)"
)
_DIGITS: Final = 20
"""More than a sequence has."""


class Stamp(NamedTuple):
    """Where a message stands in its stream: see ports.Publication."""

    offset: int
    previous: int
    time_ns: int


NOT_STORED: Final = Stamp(0, 0, 0)


class StoredMessages:
    """Knows which namespaces are stored, by their subject token, each with the name of its profile."""

    __slots__ = ("_origin", "_partitions", "_profiles")

    def __init__(self, partitions: int, profiles: Mapping[str, str]) -> None:
        self._partitions = partitions
        self._profiles = profiles
        self._origin = lru_cache(SUBJECT_CACHE)(self._find_origin)

    def subject(self, channel: str) -> bytes | None:
        """Return where a channel is heard, None where it is not stored."""
        return out_subject(channel, self._partitions) if self._profile(channel) is not None else None

    def pattern(self, pattern: str) -> bytes | None:
        """Return where a wildcard hears its channels, None where they are not stored."""
        return out_pattern(pattern) if self._profile(pattern) is not None else None

    def stamp(self, channel: str, fields: Mapping[bytes, bytes]) -> Stamp | None:
        """Return where a message on the channel's subject stands, by its headers (the last of each name); None: forged."""
        source, stream = self._origin(channel)
        if fields.get(b"Nats-Subject") != source or fields.get(b"Nats-Stream") != stream:
            return None
        offset, previous = fields.get(b"Nats-Sequence", b""), fields.get(b"Nats-Last-Sequence", b"")
        if not (_is_number(offset) and _is_number(previous)):
            return None
        return Stamp(int(offset), int(previous), nanoseconds(fields.get(b"Nats-Time-Stamp", b"")))

    def _profile(self, channel: str) -> str | None:
        return self._profiles.get(split_channel(channel).namespace or NO_NAMESPACE)

    def _find_origin(self, channel: str) -> tuple[bytes, bytes]:
        """Return the subject and the stream that a channel's publications come from; `_origin` remembers it."""
        source = in_subject(channel, self._partitions)
        partition = int(source.split(b".", 3)[2])
        return source, stream_name(self._profile(channel) or "", partition).encode()


def nanoseconds(stamp: bytes) -> int:
    """Return the nanoseconds since 1970 of a time as the server writes it (RFC 3339, in UTC); 0 for anything else."""
    seconds, _, fraction = stamp.rstrip(b"Z").partition(b".")
    if not (stamp.endswith(b"Z") and len(fraction) <= 9 and (not fraction or fraction.isdigit())):
        return 0
    return _seconds(seconds) * 1_000_000_000 + int(fraction.ljust(9, b"0"))


@lru_cache(maxsize=64)
def _seconds(text: bytes) -> int:
    try:
        return int(datetime.strptime(text.decode(), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return 0


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) <= _DIGITS
