"""What may stand on a line of the NATS protocol, and between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tidewire.platform.nats_types import Message

_CRLF: Final = b"\r\n"
_SUBJECT: Final = "a NATS subject is not empty and holds no white space"


def check_subject(subject: bytes) -> None:
    """Refuse what would end a protocol line or its word early: it could inject commands.

    Raises:
        ValueError: The subject, reply subject or queue group is empty, or holds white space.
    """
    if subject.split() != [subject] or 0 in subject:
        raise ValueError(_SUBJECT)


def check_header(header: bytes) -> None:
    """Refuse a header block that the payload would be taken for a part of.

    Raises:
        ValueError: It does not end with an empty line.
    """
    if header[-4:] != b"\r\n\r\n":
        raise ValueError("a header block ends with an empty line")


def publication(subject: bytes, reply: bytes, header: bytes, payload: bytes) -> bytes:
    """Return what publishes one message; `reply` and `header` may be b"".

    Raises:
        ValueError: As `check_subject`, for subject or reply, or as `check_header`.
    """
    if reply:
        to = b"%b %b" % (subject, reply)
        if to.split() != [subject, reply] or 0 in to:
            raise ValueError(_SUBJECT)
    else:
        check_subject(subject)
        to = subject
    if not header:
        return b"PUB %b %d\r\n%b\r\n" % (to, len(payload), payload)
    check_header(header)
    head = len(header)
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (to, head, head + len(payload), header, payload)


def publications(messages: Sequence[Message]) -> tuple[list[bytes], int]:
    """Return what publishes messages that have a header block each, in pieces, and the bytes of headers and payloads.

    Joining pieces once, when they are written, costs half of what making each message costs.

    Raises:
        ValueError: As `publication`, for any of them.
    """
    words: list[bytes] = []
    pieces: list[bytes] = []
    bytes_ = 0
    for subject, reply, header, payload in messages:
        check_header(header)
        head = len(header)
        total = head + len(payload)
        if reply:
            words += subject, reply
            line = b"HPUB %b %b %d %d\r\n" % (subject, reply, head, total)
        else:
            words.append(subject)
            line = b"HPUB %b %d %d\r\n" % (subject, head, total)
        pieces += line, header, payload, _CRLF
        bytes_ += total
    together = b" ".join(words)
    if together.split() != words or 0 in together:
        raise ValueError(_SUBJECT)
    return pieces, bytes_


def equal_publications(subject: bytes, header: bytes, payloads: Sequence[bytes]) -> list[bytes]:
    """Return the pieces of messages with one subject and header block, and without reply subjects."""
    check_subject(subject)
    check_header(header)
    head = len(header)
    pieces: list[bytes] = []
    for payload in payloads:
        pieces += b"HPUB %b %d %d\r\n" % (subject, head, head + len(payload)), header, payload, _CRLF
    return pieces
