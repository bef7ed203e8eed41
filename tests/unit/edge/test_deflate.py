from __future__ import annotations

import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from tests.support.protocol import protocol
from tidewire.edge.deflate import TAIL, InflatedTooLarge, Inflater, deflate
from tidewire.edge.frames import FrameReader
from tidewire.edge.framing import WEBSOCKET_JSON, WEBSOCKET_PROTOBUF, deflated, websocket_frame
from tidewire.edge.transport import SLICE_DEFLATED as SLICE

LIMIT = 1000
MESSAGE = 65_536
TEXT_COMPRESSED, CONTINUATION_COMPRESSED = 0xC1, 0x40


def masked(first: int, payload: bytes) -> bytes:
    """A client's frame, whatever its first byte says."""
    whole = Frame(Opcode.BINARY, payload).serialize(mask=True)
    return bytes((first,)) + whole[1:]


def fragments(payload: bytes, size: int, first: int = TEXT_COMPRESSED) -> bytes:
    """A compressed message in frames of this size."""
    parts = [payload[at : at + size] for at in range(0, len(payload), size)]
    firsts = [first & 0x7F, *[0] * (len(parts) - 1)]
    firsts[-1] |= 0x80
    return b"".join(map(masked, firsts, parts))


def code(reader: FrameReader) -> int:
    """Of the close frame that the reader owes; 0 for none."""
    owed = reader.outgoing()
    return int.from_bytes(owed[2:4], "big") if owed else 0


@pytest.fixture
def reader() -> FrameReader:
    """Of a connection that agreed on compression."""
    return FrameReader(LIMIT, deflate=True)


# Messages of clients (section 7.2.2).


@protocol("transport.deflate")
@given(st.text(max_size=LIMIT // 4), st.integers(9, 15), st.integers(1, 50), st.integers(0, 9))
def test_compressed_messages_are_read_in_any_fragments(text: str, window: int, size: int, level: int) -> None:
    """Whatever window, level and fragments the client chose."""
    whole = text.encode()
    compressor = zlib.compressobj(level, wbits=-window)
    payload = (compressor.compress(whole) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)
    reader = FrameReader(LIMIT, deflate=True)
    assert reader.feed(fragments(payload, size) * 2) == [whole, whole]
    assert not reader.closing


@protocol("transport.deflate")
@pytest.mark.parametrize(
    "payload",
    [
        bytes.fromhex("f248cdc9c90700"),
        bytes.fromhex("000500faff48656c6c6f00"),
        bytes.fromhex("f348cdc9c9070000"),
        bytes.fromhex("f248050000 00ffffcac9c90700"),
    ],
    ids=["7.2.3.1 one block", "7.2.3.3 no compression", "7.2.3.4 BFINAL", "7.2.3.5 two blocks"],
)
def test_examples_of_the_rfc(reader: FrameReader, payload: bytes) -> None:
    """All of them say Hello, whole and in fragments of one byte; uncompressed messages stand between."""
    assert reader.feed(masked(TEXT_COMPRESSED, payload) + masked(0x81, b"plain")) == [b"Hello", b"plain"]
    assert reader.feed(fragments(payload, 1)) == [b"Hello"]


@protocol("transport.deflate")
def test_no_context_is_carried_over(reader: FrameReader) -> None:
    """A message that refers to the one before it cannot be read (section 7.1.1.2)."""
    compressor = zlib.compressobj(wbits=-15)
    first, second = (
        (compressor.compress(b"Hello, Hello") + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)
        for _ in range(2)
    )
    assert reader.feed(masked(TEXT_COMPRESSED, first)) == [b"Hello, Hello"]
    assert reader.feed(masked(TEXT_COMPRESSED, second)) == []
    assert code(reader) == 1002


@protocol("transport.deflate")
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (masked(TEXT_COMPRESSED, b"\xff\xff\xff"), 1002),
        (masked(0x41, b"") + masked(CONTINUATION_COMPRESSED, b""), 1002),
        (masked(0xC9, b""), 1002),
        (masked(0xE1, b""), 1002),
        (masked(0xD2, b""), 1002),
        (masked(TEXT_COMPRESSED, deflate(b"\xff", 12)), 1007),
        (fragments(deflate("€".encode()[:2], 12), 1), 1007),
    ],
    ids=[
        "no deflate",
        "RSV1 in a continuation",
        "RSV1 in a ping",
        "RSV2",
        "RSV3",
        "no UTF-8",
        "half a letter",
    ],
)
def test_what_is_refused(reader: FrameReader, data: bytes, expected: int) -> None:
    """Section 6: RSV1 stands on the first frame of a message only; the rest is RFC 6455."""
    assert reader.feed(data) == []
    assert code(reader) == expected
    assert reader.ended


@protocol("transport.deflate", "message.size")
def test_limit_counts_before_and_after_inflating(reader: FrameReader) -> None:
    """A message of exactly the limit passes, one byte more does not; nor does a frame that is itself too long."""
    assert reader.feed(masked(TEXT_COMPRESSED, deflate(b"x" * LIMIT, 12))) == [b"x" * LIMIT]
    assert reader.feed(fragments(deflate(b"x" * LIMIT, 12), 3)) == [b"x" * LIMIT]
    for data in (
        masked(TEXT_COMPRESSED, deflate(b"x" * (LIMIT + 1), 12)),
        fragments(deflate(b"x" * (LIMIT + 1), 12), 3),
        masked(0x41, deflate(b"x" * (LIMIT - 5), 12)) + masked(0x80, b"y" * 6),
        masked(TEXT_COMPRESSED, bytes(LIMIT + 1))[:8],
        masked(0x41, bytes.fromhex("aba81805a321301a02c33e0400"))
        + masked(0x80, b""),  # zlib holds one byte back
    ):
        fresh = FrameReader(LIMIT, deflate=True)
        assert fresh.feed(data) == []
        assert code(fresh) == 1009


@protocol("transport.deflate", "message.size")
def test_bomb_is_inflated_no_further_than_the_limit() -> None:
    """64 MiB in 64 KiB: what is held never exceeds the limit and zlib's own state."""
    bomb = zlib.compress(bytes(64 << 20), 9, wbits=-15)
    large = FrameReader(len(bomb), deflate=True)
    frame = masked(TEXT_COMPRESSED, bomb)
    tracemalloc.start()
    large.feed(frame)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert code(large) == 1009
    assert peak < 8 * len(frame)


def test_a_slice_of_bombs_inflates_to_a_thousand_times_its_size() -> None:
    """The most that one look at the clock can cost (docs/operations.md): deflate's own ratio is at most 1032."""
    hardest = zlib.compressobj(9, wbits=-15)
    packed = hardest.compress(bytes(MESSAGE)) + hardest.flush(zlib.Z_SYNC_FLUSH)
    bomb = masked(TEXT_COMPRESSED, packed.removesuffix(TAIL))
    messages = FrameReader(MESSAGE, deflate=True).feed((bomb * SLICE)[:SLICE])
    assert len(messages) == SLICE // len(bomb) > 1
    assert 700 * SLICE < sum(map(len, messages)) < 1032 * SLICE


def test_what_stands_behind_a_final_block_is_not_kept() -> None:
    """It inflates to nothing, so no size would ever bound it."""
    reader = FrameReader(LIMIT, deflate=True)
    assert reader.feed(masked(0x41, bytes.fromhex("f348cdc9c90700"))) == []
    tracemalloc.start()
    for _ in range(200):
        assert reader.feed(masked(0x00, bytes(LIMIT - 5))) == []
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 20 * LIMIT
    assert reader.feed(masked(0x80, b"")) == [b"Hello"]


def test_inflater_stops_one_byte_behind_its_room() -> None:
    """And says so; room for nothing is not room without end."""
    with pytest.raises(InflatedTooLarge):
        Inflater().inflate(deflate(bytes(10_000), 12), 0, final=True)
    assert Inflater().inflate(deflate(b"", 12), 0, final=True) == b""


# Messages to clients (section 7.2.1).


@protocol("transport.deflate")
@given(st.binary(max_size=300).map(lambda data: data * 20), st.integers(9, 15), st.booleans())
def test_clients_read_what_is_compressed_for_their_window(data: bytes, window: int, json: bool) -> None:
    """Each frame by itself, in either format; never longer than the plain one."""
    plain = WEBSOCKET_JSON if json else WEBSOCKET_PROTOBUF
    frame = deflated(plain, window, 10).wrap(data)
    client = PerMessageDeflate(True, True, window, 15)
    assert len(frame) <= len(plain.wrap(data))
    if frame[0] & 0x40:
        head = 2 if frame[1] < 126 else 4
        found = client.decode(Frame(Opcode(frame[0] & 0xF), frame[head:], rsv1=True))
        assert (found.opcode, bytes(found.data)) == (Opcode.TEXT if json else Opcode.BINARY, data)
    else:
        assert frame == plain.wrap(data)


def test_short_and_random_messages_are_sent_as_they_are() -> None:
    """From the least size on, and where it makes them smaller."""
    framing = deflated(WEBSOCKET_JSON, 12, 100)
    assert framing.wrap(b"x" * 99) == websocket_frame(0x81, b"x" * 99)
    assert framing.wrap(b"x" * 100)[0] == 0xC1
    noise = random.Random(1).randbytes(500)
    assert framing.wrap(noise) == websocket_frame(0x81, noise)
    assert framing.ping == WEBSOCKET_JSON.ping


def test_all_who_agreed_on_the_same_share_one_framing_and_its_bytes() -> None:
    """That is what the hub's audiences go by."""
    framing = deflated(WEBSOCKET_JSON, 12, 100)
    assert deflated(WEBSOCKET_JSON, 12, 100) is framing
    assert len({framing, deflated(WEBSOCKET_JSON, 11, 100), deflated(WEBSOCKET_PROTOBUF, 12, 100)}) == 3
    assert framing.wrap(b"x" * 200) is framing.wrap(b"x" * 200)
