from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.errors import ProtocolError

from tests.support.compared_parsers import (
    MAX_PAYLOAD,
    RAW_SIDS,
    Harness,
    RecordingClient,
    fast_events,
    stock_events,
)
from tidewire.platform.nats_parser import MAX_ADDED_HEADERS, MAX_LINE
from tidewire.platform.nats_types import RawSubscription

subjects = st.from_regex(rb"[-a-zA-Z0-9_%$.]{1,30}", fullmatch=True)
payloads = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"", b"\r\n", b"MSG a 1 3\r\nabc\r\n", b"PING\r\n", b"-ERR 'x'\r\n", b"MSG ", b"x" * 700]
    ),
)
headers = st.one_of(
    st.just(b"NATS/1.0 503\r\n\r\n"),
    st.just(b"NATS/1.0\r\n\r\n"),
    st.binary(max_size=30).map(lambda value: b"NATS/1.0\r\nA: " + value + b"\r\n\r\n"),
)
sids = st.one_of(st.sampled_from(RAW_SIDS), st.integers(1, 300))


@st.composite
def msg(draw: st.DrawFn) -> bytes:
    """One whole message without headers."""
    words = [b"MSG", draw(subjects), b"%d" % draw(sids)]
    if draw(st.booleans()):
        words.append(draw(subjects))
    payload = draw(payloads)
    space = draw(st.sampled_from([b" ", b" ", b" ", b"  ", b"\t"]))
    return space.join([*words, b"%d" % len(payload)]) + b"\r\n" + payload + b"\r\n"


@st.composite
def hmsg(draw: st.DrawFn) -> bytes:
    """One whole message with a header block."""
    words = [b"HMSG", draw(subjects), b"%d" % draw(sids)]
    if draw(st.booleans()):
        words.append(draw(subjects))
    header, payload = draw(headers), draw(payloads)
    words += [b"%d" % len(header), b"%d" % (len(header) + len(payload))]
    return b" ".join(words) + b"\r\n" + header + payload + b"\r\n"


control = st.one_of(
    st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"PING \r\n", b"PONG\t\r\n", b"+OK  \r\n"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40).map(
        lambda text: b"-ERR '" + text.encode() + b"'\r\n"
    ),
    st.dictionaries(st.text(max_size=8), st.one_of(st.integers(), st.text(max_size=8)), max_size=4).map(
        lambda info: b"INFO " + json.dumps(info).encode() + b"\r\n"
    ),
)
valid = st.one_of(msg(), hmsg(), msg(), hmsg(), control)
malformed = st.sampled_from(
    [
        b"MSG a 1\r\n",
        b"MSG a\r\n",
        b"MSG\r\n",
        b"MSG a x 1\r\n",
        b"MSG a 999 -1\r\n",
        b"MSG a 1 2 \r\n",
        b"MSG a 1 1x\r\n",
        b"MSG a 1 r 2 3\r\n",
        b"MSGa 1 2\r\n",
        b"HMSG a 1 1\r\n",
        b"HMSG a 1 r q 1 1\r\n",
        b"HMSG a 1 x 1\r\n",
        b"HMSGa 1 1 1\r\n",
        b"msg a 1 1\r\n",
        b"PINGX\r\n",
        b"PON\r\n",
        b"OK\r\n",
        b"-ERR\r\n",
        b"-ERR x\r\n",
        b"INFO\r\n",
        b" MSG a 1 1\r\n",
        b"\r\n",
        b"hello\r\n",
    ]
)


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    """Cut the stream at these places, counted round and round."""
    edges = [0, *sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


chunkings = st.one_of(st.just([]), st.lists(st.integers(0, 100_000), max_size=25))


@settings(max_examples=500)
@given(st.lists(valid, max_size=12), chunkings)
async def test_every_stream_in_any_chunks_gives_the_events_of_the_stock_parser(
    frames: list[bytes], cuts: list[int]
) -> None:
    """Messages, headers, replies and control lines come out equal and in the same order."""
    chunks = split(b"".join(frames), cuts)
    assert await fast_events(Harness(), chunks) == await stock_events(chunks)


@settings(max_examples=60)
@given(st.lists(valid, max_size=3))
async def test_single_bytes_give_the_events_of_the_stock_parser(frames: list[bytes]) -> None:
    """The worst chunking: one byte at a time."""
    chunks = [bytes([byte]) for byte in b"".join(frames)]
    assert await fast_events(Harness(), chunks) == await stock_events(chunks)


@settings(max_examples=300)
@given(st.lists(valid, max_size=5), malformed)
async def test_a_malformed_line_is_refused_where_the_stock_parser_refuses_it(
    frames: list[bytes], bad: bytes
) -> None:
    """What came before the bad line is delivered; the verdict on it is the same."""
    harness = Harness()
    chunks = [*frames, bad]
    events, refused = await fast_events(harness, chunks)
    assert (events, refused) == await stock_events(chunks)
    assert refused


@settings(max_examples=100)
@given(st.lists(valid, max_size=12), chunkings)
async def test_callbacks_that_raise_change_nothing_for_the_others(
    frames: list[bytes], cuts: list[int]
) -> None:
    """Each exception is reported once, and every event still comes in order."""
    harness = Harness(raising=frozenset(RAW_SIDS))
    chunks = split(b"".join(frames), cuts)
    events = await fast_events(harness, chunks)
    assert events == await stock_events(chunks)
    raw = [event for event in events[0] if event[0] == "msg" and event[1] in RAW_SIDS]
    assert len(harness.errors) == len(raw) == harness.traffic.in_msgs
    assert harness.traffic.in_bytes == sum(len(event[4] or b"") + len(event[5]) for event in raw)


async def test_the_chunk_end_comes_after_all_events_of_its_chunk() -> None:
    """One call for each chunk, when everything in it was delivered."""
    harness = Harness()
    await harness.parser.parse(b"MSG a 1 1\r\nx\r\nPONG\r\nMSG a 2 1\r\ny\r\nMSG a 1")
    assert harness.chunk_ends == [3]
    await harness.parser.parse(b" 1\r\nz\r\n")
    assert harness.chunk_ends == [3, 4]


async def test_the_chunk_end_comes_also_when_the_chunk_is_refused() -> None:
    """What was delivered before the bad line can still be written out."""
    harness = Harness()
    with pytest.raises(ProtocolError):
        await harness.parser.parse(b"MSG a 1 1\r\nx\r\nnonsense\r\n")
    assert harness.chunk_ends == [1]


async def test_a_frame_up_to_the_limit_is_taken_and_one_above_is_refused() -> None:
    """The limit is the server's max_payload and room for the headers that republishing adds."""
    limit = MAX_PAYLOAD + MAX_ADDED_HEADERS
    harness = Harness()
    await harness.parser.parse(b"MSG a 1 %d\r\n" % limit + b"x" * limit + b"\r\n")
    assert len(harness.events[0][5]) == limit
    with pytest.raises(ProtocolError):
        await harness.parser.parse(b"MSG a 1 %d\r\n" % (limit + 1))


@pytest.mark.parametrize("digits", [b"9" * 20, b"9" * 5000, b"0" * 19 + b"2"])
@pytest.mark.parametrize("line", [b"MSG a 1 %b", b"HMSG a 1 1 %b", b"HMSG a 1 %b 9", b"MSG a %b 2"])
async def test_a_number_with_many_digits_is_refused(line: bytes, digits: bytes) -> None:
    """Not even read, and never cut: the first digits of a size or a subscription are another one's."""
    harness = Harness()
    with pytest.raises(ProtocolError):
        await harness.parser.parse(line % digits + b"\r\n" + b"x" * 11)
    assert harness.events == []


async def test_a_header_larger_than_its_message_is_refused() -> None:
    """The stock parser would read into the next frame."""
    with pytest.raises(ProtocolError):
        await Harness().parser.parse(b"HMSG a 1 20 10\r\n" + b"x" * 30)


async def test_a_control_line_up_to_the_limit_is_taken_and_a_longer_one_is_refused() -> None:
    """INFO of a large cluster is long, but not without bound."""
    harness = Harness()
    info = b'INFO {"a": "' + b"x" * (MAX_LINE - 20) + b'"}\r\n'
    for start in range(0, len(info), 1000):
        await harness.parser.parse(info[start : start + 1000])
    assert harness.events[0][0] == "info"
    for _ in range(MAX_LINE // 1000):
        await harness.parser.parse(b"I" * 1000)
    with pytest.raises(ProtocolError):
        await harness.parser.parse(b"I" * 1000)


async def test_a_bad_line_in_a_full_buffer_is_refused_at_once() -> None:
    """The stock parser waits for ever when more than 4 KiB follow."""
    with pytest.raises(ProtocolError):
        await Harness().parser.parse(b"nonsense\r\n" + b"PING\r\n" * 1000)


@pytest.mark.parametrize("line", [b"INFO nojson\r\n", b"INFO \xff\xfe\r\n"])
async def test_an_info_that_cannot_be_read_is_a_protocol_error(line: bytes) -> None:
    """Not an exception that nats-py does not expect, which would end its read loop."""
    with pytest.raises(ProtocolError):
        await Harness().parser.parse(line)


@pytest.mark.parametrize(("line", "text"), [(b"-ERR \r\n", ""), (b"-ERR '\xff'\r\n", "'�'")])
async def test_an_odd_error_text_does_not_end_the_read_loop(line: bytes, text: str) -> None:
    """The stock parser raises AttributeError or UnicodeDecodeError here."""
    harness = Harness()
    await harness.parser.parse(line + b"PING\r\n")
    assert harness.events == [("err", text), ("ping",)]


async def test_an_exception_of_nats_pys_own_message_handling_is_reported() -> None:
    """A strange header block for one of its subscriptions must not end the read loop either."""

    class Failing(RecordingClient):
        async def _process_msg(
            self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
        ) -> None:
            raise IndexError("header")

    harness = Harness()
    harness.parser.nc = Failing()
    await harness.parser.parse(b"HMSG a 99 8 8\r\nNATS/1.0\r\nMSG a 1 1\r\nx\r\n")
    assert [type(error) for error in harness.errors] == [IndexError]
    assert len(harness.events) == 1


@pytest.mark.parametrize("end", ["reset", "close"])
async def test_the_rest_of_a_chunk_is_dropped_when_a_callback_ends_the_connection(end: str) -> None:
    """A message of a connection that was given up must not be delivered."""
    harness = Harness()
    harness.subscriptions[b"1"] = RawSubscription(lambda *_: getattr(harness.parser, end)(), b"")
    await harness.parser.parse(b"MSG a 2 1\r\nx\r\nMSG a 1 1\r\nx\r\nMSG a 2 1\r\ny\r\nMSG a 2")
    assert [event[5] for event in harness.events] == [b"x"]
    await harness.parser.parse(b"MSG a 2 1\r\nz\r\n")
    assert [event[5] for event in harness.events] == ([b"x", b"z"] if end == "reset" else [b"x"])


async def test_a_large_message_in_many_chunks_is_joined_once() -> None:
    """Its bytes are kept as they come: the parser holds each chunk, not ever larger copies."""
    harness = Harness()
    harness.client._max_payload = 4_000_000
    body = bytes(range(256)) * 12_000
    stream = b"MSG a 1 %d\r\n" % len(body) + body + b"\r\nPING\r\n"
    chunks = [stream[start : start + 1024] for start in range(0, len(stream), 1024)]
    for count, chunk in enumerate(chunks[:-1], 1):
        await harness.parser.parse(chunk)
        assert len(harness.parser._parts) == count
    await harness.parser.parse(chunks[-1])
    assert harness.events[0][5] == body
    assert harness.events[1] == ("ping",)
