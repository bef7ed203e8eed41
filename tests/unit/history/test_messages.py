from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewire.history import messages
from tidewire.history.messages import Message, block_of, message_of, nanoseconds, published

SAID = (
    b"\r\nNats-Stream: TW_default_0\r\nNats-Subject: tw.in.0.chat.a\r\nNats-Sequence: 7"
    b"\r\nNats-Time-Stamp: 2026-11-26T20:48:44.5Z\r\nNats-Last-Sequence: 5\r\n\r\n"
)


def test_what_jetstream_says() -> None:
    """Beside what the publisher said."""
    found = message_of(b"NATS/1.0\r\nTw-V: 1" + SAID, b"x")
    time_ns = 1_795_726_124_500_000_000
    assert found == Message(b"TW_default_0", b"tw.in.0.chat.a", 7, time_ns, 5, b"\r\nTw-V: 1", b"x")


def test_the_last_of_headers_counts() -> None:
    """A publisher's own come first."""
    forged = SAID[:-4].replace(b"7", b"99").replace(b"5\r", b"6\r").replace(b"chat.a", b"chat.b")
    found = message_of(b"NATS/1.0" + forged + SAID, b"")
    assert found is not None
    assert (found.sequence, found.key, found.last) == (7, b"tw.in.0.chat.a", 5)


@pytest.mark.parametrize("name", [b"Nats-Stream", b"Nats-Subject", b"Nats-Sequence", b"Nats-Time-Stamp"])
def test_what_jetstream_always_says(name: bytes) -> None:
    """Without it, nothing is believed."""
    assert message_of(b"NATS/1.0" + SAID.replace(name, b"X"), b"") is None


@pytest.mark.parametrize("number", [b"", b"x", b"-1", b"9" * 20, "²".encode()])
def test_numbers_are_numbers(number: bytes) -> None:
    """And not too long ones."""
    assert message_of(b"NATS/1.0" + SAID.replace(b"Sequence: 7", b"Sequence: " + number), b"") is None


def test_what_the_stream_does_not_say_when_read() -> None:
    """The one before."""
    found = message_of(b"NATS/1.0" + SAID.replace(b"\r\nNats-Last-Sequence: 5", b""), b"")
    assert found is not None
    assert found.last is None


@pytest.mark.parametrize(
    ("header", "left"),
    [
        (b"", b""),
        (b"NATS/1.0\r\n\r\n", b""),
        (b"NATS/1.0\r\nNats-Msg-Id: x\r\nnats-anything: y\r\n NATS-X: z\r\n\r\n", b""),
        (b"NATS/1.0 204 EOB\r\nTw-V: 1\r\n\r\n", b"\r\nTw-V: 1"),
        (b"NATS/1.0\r\nTw-V: 1\nNats-Sequence: 9\r\nTw-Key: a\r\n\r\n", b"\r\nTw-Key: a"),
        (b"NATS/1.0\r\nTw-V: 1\rx\r\n\r\n", b""),
    ],
)
def test_what_a_publisher_said(header: bytes, left: bytes) -> None:
    """Without anything that NATS could have said, or that could be taken for it."""
    assert published(header) == left
    assert published(block_of(left)) == left


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        (b"1970-01-01T00:00:01Z", 1_000_000_000),
        (b"1970-01-01T00:00:01.000000001Z", 1_000_000_001),
        (b"1970-01-01T00:00:01.1Z", 1_100_000_000),
        (b"1970-01-01T00:00:01", None),
        (b"1970-01-01T00:00:01.xZ", None),
        (b"soon", None),
        (b"", None),
    ],
)
def test_times(text: bytes, time_ns: int | None) -> None:
    """In nanoseconds, all of them."""
    assert nanoseconds(text) == time_ns


LINES = [
    b"Nats-Msg-Id: a-1",
    b"Nats-Stream: b",
    b"nats-x: y",
    b" Nats-Y: z",
    b"Tw-V: 1",
    b"N: 1",
    b"odd",
    b"",
    b"a\nb",
    b"c\rd",
]


@given(st.lists(st.sampled_from(LINES)), st.sampled_from([b"", b"\r\nNats-Other: 1", b"\r\nTw-Key: k"]))
def test_the_usual_order_says_what_any_order_says(lines: list[bytes], between: bytes) -> None:
    """Whatever the publisher said before it, or somebody put into it."""
    header = b"\r\n".join([b"NATS/1.0", *lines]) + SAID.replace(b"\r\nNats-Time", between + b"\r\nNats-Time")
    assert message_of(header, b"x") == messages._message_of(header, b"x") is not None


@pytest.mark.parametrize("space", [b"", b" ", b"  ", b" \t", b"\t"])
def test_space_before_a_subject_is_none_of_it(space: bytes) -> None:
    """In the usual order as in any other."""
    header = b"NATS/1.0" + SAID.replace(b"Nats-Subject: ", b"Nats-Subject:" + space)
    message = message_of(header, b"x")
    assert message is not None
    assert message.key == b"tw.in.0.chat.a"
