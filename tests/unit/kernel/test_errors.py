from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewire.kernel import errors
from tidewire.kernel.errors import MAX_REASON, Disconnect, ReplyError


def known(kind: type) -> list[ReplyError | Disconnect]:
    """The table's entries of one kind."""
    return [value for value in vars(errors).values() if isinstance(value, kind)]


def test_codes_are_unique_and_in_their_ranges() -> None:
    """Errors and disconnects cannot be mistaken for each other or for an application's."""
    replies = [entry.code for entry in known(ReplyError)]
    closes = [entry.code for entry in known(Disconnect)]
    assert len(set(replies)) == len(replies)
    assert len(set(closes)) == len(closes)
    assert all(100 <= code < 200 for code in replies)
    assert all(3000 <= code < 4000 for code in closes)


def test_everything_says_something() -> None:
    """The Python SDK indexes an error's message, and a reason that is JSON would be taken apart by the JavaScript SDK."""
    assert all(entry.message for entry in known(ReplyError) if isinstance(entry, ReplyError))
    assert all(entry.reason[0].isalpha() for entry in known(Disconnect) if isinstance(entry, Disconnect))


@pytest.mark.parametrize(
    ("code", "reconnect"),
    [
        (2999, True),
        (3000, True),
        (3499, True),
        (3500, False),
        (3999, False),
        (4000, True),
        (4499, True),
        (4500, False),
        (4999, False),
        (5000, True),
    ],
)
def test_reconnect_follows_the_code(code: int, reconnect: bool) -> None:
    """The SDKs know nothing else of a close."""
    assert Disconnect(code, "x").reconnect is reconnect


def test_saying_keeps_code_and_temporariness() -> None:
    """Only the sentence changes."""
    assert errors.INTERNAL.saying("NATS is away") == ReplyError(100, "NATS is away", temporary=True)
    assert errors.STALE.saying("too late") == Disconnect(3502, "too late")


@given(st.text())
def test_reason_always_fits_into_a_close_frame(reason: str) -> None:
    """Cut between letters, at 123 bytes of UTF-8."""
    said = errors.BAD_PROTOCOL.saying(reason).reason
    assert len(said.encode()) <= MAX_REASON
    clean = reason.encode(errors="replace").decode()
    assert clean.startswith(said)
    assert len(clean.encode()) <= MAX_REASON or len(said.encode()) > MAX_REASON - 4
