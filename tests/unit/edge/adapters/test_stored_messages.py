from __future__ import annotations

import pytest

from tidewire.edge.adapters.stored_messages import HEADER, Stamp, StoredMessages, nanoseconds
from tidewire.kernel.streams import stream_name
from tidewire.kernel.subjects import in_subject, out_subject

PARTITIONS = 4
CHANNEL = "chat:a"
SOURCE = in_subject(CHANNEL, PARTITIONS).decode()
PARTITION = int(SOURCE.split(".")[2])
STORED = StoredMessages(PARTITIONS, {"chat": "fast", "_": "default"})
GOOD = {
    "Nats-Stream": stream_name("fast", PARTITION),
    "Nats-Subject": SOURCE,
    "Nats-Sequence": "7",
    "Nats-Time-Stamp": "2026-11-26T20:42:30.5Z",
    "Nats-Last-Sequence": "5",
}
TIME = 1_795_725_750_500_000_000


def stamp(*headers: tuple[str, str]) -> Stamp | None:
    """What is believed of a message with these headers."""
    block = "NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n"
    return STORED.stamp(CHANNEL, dict(HEADER.findall(block.encode())))


def test_what_the_stream_adds_is_believed() -> None:
    """Its name, the subject, the sequence, and the one before."""
    assert stamp(*GOOD.items()) == Stamp(7, 5, TIME)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Nats-Stream", None),
        ("Nats-Stream", stream_name("default", PARTITION)),
        ("Nats-Stream", stream_name("fast", PARTITION + 1)),
        ("Nats-Subject", None),
        ("Nats-Subject", SOURCE + "b"),
        ("Nats-Subject", SOURCE.replace("tw.in", "tw.out")),
        ("Nats-Sequence", None),
        ("Nats-Sequence", ""),
        ("Nats-Sequence", "-7"),
        ("Nats-Sequence", "9" * 21),
        ("Nats-Last-Sequence", None),
        ("Nats-Last-Sequence", "x"),
    ],
)
def test_anything_else_is_forged(name: str, value: str | None) -> None:
    """One header that is missing or not as the stream would write it is enough."""
    headers = {**GOOD, name: value}
    assert stamp(*[(each, held) for each, held in headers.items() if held is not None]) is None


def test_headers_of_the_publisher_stand_before_and_count_for_nothing() -> None:
    """A message that claims to be another's, and one that claims nothing true behind good words."""
    lies = [("Nats-Sequence", "1"), ("Nats-Stream", "TW_x_0"), ("Nats-Subject", "tw.in.0.chat.b")]
    assert stamp(*lies, *GOOD.items()) == Stamp(7, 5, TIME)
    assert stamp(*GOOD.items(), *lies) is None


def test_subjects_are_those_of_stored_namespaces_only() -> None:
    """Channels and patterns, with a namespace or without."""
    assert (
        STORED.subject(CHANNEL)
        == out_subject(CHANNEL, PARTITIONS)
        == SOURCE.replace("tw.in", "tw.out").encode()
    )
    assert STORED.subject("news") == out_subject("news", PARTITIONS)
    assert STORED.subject("$chat:a") == out_subject("$chat:a", PARTITIONS)
    assert STORED.subject("other:a") is None
    assert STORED.pattern("chat:*") == b"tw.out.*.chat.*"
    assert STORED.pattern("other:*") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"2026-11-26T20:42:30.5Z", TIME),
        (b"2026-11-26T20:42:30.500000001Z", TIME + 1),
        (b"2026-11-26T20:42:30Z", TIME - 500_000_000),
        (b"1970-01-01T00:00:00.000000001Z", 1),
        (b"2026-11-26T20:42:30+01:00", 0),
        (b"2026-11-26T20:42:30.x5Z", 0),
        (b"2026-11-26T20:42:30.0123456789Z", 0),
        (b"yesterdayZ", 0),
        (b"\xff\xffZ", 0),
        (b"", 0),
    ],
)
def test_times(text: bytes, expected: int) -> None:
    """As Go writes them, without zeros at the end."""
    assert nanoseconds(text) == expected
