"""What may stand on a line of the NATS protocol, and between two of them."""

from __future__ import annotations

_NOT_IN_A_SUBJECT = b" \t\r\n\x0b\x0c\x00"


def check_subject(subject: bytes) -> None:
    """Refuse what would end a protocol line or its word early: it could inject commands.

    Raises:
        ValueError: The subject, reply subject or queue group is empty, or holds white space.
    """
    if not subject or subject.translate(None, _NOT_IN_A_SUBJECT) != subject:
        raise ValueError("a NATS subject is not empty and holds no white space")


def check_header(header: bytes) -> None:
    """Refuse a header block that the payload would be taken for a part of.

    Raises:
        ValueError: It does not end with an empty line.
    """
    if header[-4:] != b"\r\n\r\n":
        raise ValueError("a header block ends with an empty line")
