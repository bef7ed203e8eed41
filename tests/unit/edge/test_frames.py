from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from tests.support.protocol import protocol
from tidewire.edge.frames import FrameReader
from tidewire.kernel.errors import Disconnect

LIMIT = 1000


class Peer:
    """A client and the edge's reader, their handshake done. The client's bytes are sent when the test says so."""

    def __init__(self) -> None:
        self.client = ClientProtocol(parse_uri("ws://edge/connection/websocket"), state=State.OPEN)
        self.reader = FrameReader(LIMIT)

    def said(self) -> bytes:
        """What the client wrote since the last call."""
        return b"".join(self.client.data_to_send())

    def heard(self) -> list[tuple[Opcode, bytes]]:
        """Frames that the client reads of what the edge owes it."""
        self.client.receive_data(self.reader.outgoing())
        assert self.client.parser_exc is None
        return [
            (event.opcode, bytes(event.data))
            for event in self.client.events_received()
            if isinstance(event, Frame)
        ]


@pytest.fixture
def peer() -> Peer:
    """An open connection."""
    return Peer()


def frame(opcode: Opcode, data: bytes, *, fin: bool = True, mask: bool = True) -> bytes:
    """One frame of a client, also one that the library would not write."""
    whole = Frame(opcode, data).serialize(mask=mask)
    return whole if fin else bytes((opcode,)) + whole[1:]


def ending(reader: FrameReader) -> tuple[int, str]:
    """Code and reason of the one close frame that the reader owes; the connection is to end behind it."""
    assert reader.ended, "a failed connection is ended at once"
    data = reader.outgoing()
    assert data[0] == 0x88
    assert data[1] == len(data) - 2, "the close frame is the only one"
    close = Close.parse(data[2:])
    return int(close.code), close.reason


# Messages.


@protocol("transport.websocket")
def test_text_and_binary_messages(peer: Peer) -> None:
    """Several in one read, or one in several."""
    peer.client.send_text(b"one")
    peer.client.send_binary(b"\xff\x00")
    data = peer.said()
    assert peer.reader.feed(data[:3]) == []
    assert peer.reader.feed(data[3:]) == [b"one", b"\xff\x00"]
    assert peer.reader.feed(b"") == []
    assert peer.reader.outgoing() == b""


@protocol("transport.websocket", "transport.ws_ping")
def test_control_frames_between_fragments(peer: Peer) -> None:
    """The message comes out whole, and the ping is answered with its own bytes at once."""
    peer.client.send_text(b"a", fin=False)
    peer.client.send_ping(b"are you there")
    peer.client.send_continuation(b"b", fin=False)
    peer.client.send_pong(b"unasked")
    first = peer.said()
    assert peer.reader.feed(first) == []
    assert peer.heard() == [(Opcode.PONG, b"are you there")]
    peer.client.send_continuation(b"c", fin=True)
    assert peer.reader.feed(peer.said()) == [b"abc"]


@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(st.text(max_size=5), min_size=1, max_size=4)),
        min_size=1,
        max_size=5,
    ),
    st.randoms(use_true_random=False),
)
def test_any_fragments_in_any_chunks_are_the_same_messages(
    messages: list[tuple[bool, list[str]]], chance: random.Random
) -> None:
    """Neither TCP's cuts nor the sender's change a message."""
    data, expected = b"", []
    for text, parts in messages:
        encoded = [part.encode() for part in parts]
        expected.append(b"".join(encoded))
        for index, part in enumerate(encoded):
            opcode = (Opcode.TEXT if text else Opcode.BINARY) if index == 0 else Opcode.CONT
            data += frame(opcode, part, fin=index == len(encoded) - 1)
    reader, found = Peer().reader, []
    while data:
        size = chance.randint(1, 9)
        found += reader.feed(data[:size])
        data = data[size:]
    assert found == expected


def test_empty_fragments_are_not_kept(peer: Peer) -> None:
    """They cost a peer six bytes each and no size bounds their number."""
    empty = frame(Opcode.CONT, b"", fin=False)
    assert peer.reader.feed(frame(Opcode.BINARY, b"a", fin=False) + empty * 10_000) == []
    assert peer.reader._message is not None
    assert peer.reader._message.data == b"a"
    assert peer.reader.feed(frame(Opcode.CONT, b"z")) == [b"az"]
    assert peer.reader._message is None


# What is refused.


@protocol("message.utf8")
@pytest.mark.parametrize("text", [b"\xff", b"ok \xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"])
def test_text_that_is_not_utf8_closes_with_1007(peer: Peer, text: bytes) -> None:
    """What came before it counts, what came behind it does not."""
    assert peer.reader.feed(
        frame(Opcode.TEXT, b"a") + frame(Opcode.TEXT, text) + frame(Opcode.TEXT, b"b")
    ) == [b"a"]
    assert peer.reader.closing
    assert ending(peer.reader)[0] == 1007
    assert peer.reader.feed(frame(Opcode.TEXT, b"c")) == []


@protocol("message.utf8")
def test_utf8_is_judged_over_the_whole_message_and_only_for_text(peer: Peer) -> None:
    """A letter may be cut by fragments; binary is anything."""
    euro = "€".encode()
    parts = frame(Opcode.TEXT, euro[:1], fin=False) + frame(Opcode.CONT, euro[1:])
    assert peer.reader.feed(parts) == [euro]
    assert peer.reader.feed(frame(Opcode.BINARY, b"\xff", fin=False) + frame(Opcode.CONT, b"\xfe")) == [
        b"\xff\xfe"
    ]
    cut = frame(Opcode.TEXT, euro[:1], fin=False) + frame(Opcode.CONT, b"x")
    assert peer.reader.feed(cut) == []
    assert ending(peer.reader)[0] == 1007


@protocol("message.size")
def test_message_size_is_bounded_also_in_fragments(peer: Peer) -> None:
    """1009, as soon as the length is announced; a message of exactly the limit passes."""
    assert peer.reader.feed(frame(Opcode.BINARY, bytes(LIMIT))) == [bytes(LIMIT)]
    half = frame(Opcode.BINARY, bytes(LIMIT // 2), fin=False)
    whole = frame(Opcode.CONT, bytes(LIMIT // 2))
    assert peer.reader.feed(half + whole) == [bytes(LIMIT)]
    too_large = frame(Opcode.CONT, bytes(LIMIT // 2 + 1))
    assert peer.reader.feed(half + too_large[:10]) == []
    assert ending(peer.reader)[0] == 1009
    assert peer.reader.close_code == 1009
    fresh = Peer()
    assert fresh.reader.feed(frame(Opcode.TEXT, b"x" * (LIMIT + 1))[:8]) == []
    assert ending(fresh.reader)[0] == 1009


BROKEN = {
    "unmasked (5.1)": frame(Opcode.TEXT, b"x", mask=False),
    "unmasked, and longer than any head (5.1)": frame(Opcode.TEXT, b"x" * 20, mask=False),
    "unmasked ping (5.1)": frame(Opcode.PING, b"x", mask=False),
    "RSV1 without an extension (5.2)": b"\xc1\x80\x00\x00\x00\x00",
    "RSV2 (5.2)": b"\xa2\x80\x00\x00\x00\x00",
    "RSV3 in a ping (5.2)": b"\x99\x80\x00\x00\x00\x00",
    "reserved opcode 3 (5.2)": b"\x83\x80\x00\x00\x00\x00",
    "reserved opcode 15 (5.2)": b"\x8f\x80\x00\x00\x00\x00",
    "nothing to continue (5.4)": frame(Opcode.CONT, b"x"),
    "a message inside another (5.4)": frame(Opcode.TEXT, b"x", fin=False) + frame(Opcode.TEXT, b"y"),
    "a message inside another, binary (5.4)": frame(Opcode.TEXT, b"x", fin=False)
    + frame(Opcode.BINARY, b"y"),
    "fragmented ping (5.5)": b"\x09\x80\x00\x00\x00\x00",
    "ping of 126 bytes (5.5)": b"\x89\xfe",
    "close of 65,536 bytes (5.5)": b"\x88\xff",
    "close of one byte (5.5.1)": frame(Opcode.CLOSE, b"\x03"),
    "close 0 (7.4.2)": frame(Opcode.CLOSE, b"\x00\x00"),
    "close 999 (7.4.2)": frame(Opcode.CLOSE, b"\x03\xe7"),
    "close 1004 (7.4.1)": frame(Opcode.CLOSE, b"\x03\xec"),
    "close 1005 (7.4.1)": frame(Opcode.CLOSE, b"\x03\xed"),
    "close 1006 (7.4.1)": frame(Opcode.CLOSE, b"\x03\xee"),
    "close 1015 (7.4.1)": frame(Opcode.CLOSE, b"\x03\xf7"),
    "close 2999 (7.4.2)": frame(Opcode.CLOSE, b"\x0b\xb7"),
    "close 5000 (7.4.2)": frame(Opcode.CLOSE, b"\x13\x88"),
}


@protocol("transport.websocket")
@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_broken_rules_close_with_1002(peer: Peer, data: bytes) -> None:
    """As soon as the frame's head tells. What came before it counts; the fault is known to whoever logs it."""
    assert peer.reader.feed(frame(Opcode.BINARY, b"before") + data) == [b"before"]
    assert ending(peer.reader)[0] == 1002
    assert peer.reader.closing
    assert peer.reader.fault is not None
    assert (peer.reader.fault.code, peer.reader.close_code) == (1002, 1002)
    assert peer.reader.feed(frame(Opcode.BINARY, b"behind")) == []
    assert peer.reader.outgoing() == b""


@protocol("transport.ws_ping", "message.size")
def test_ping_inside_a_message_at_its_limit_is_answered(peer: Peer) -> None:
    """Control frames have their own bound (5.5), and no share in that of the message around them."""
    peer.reader.feed(frame(Opcode.TEXT, b"x" * LIMIT, fin=False) + frame(Opcode.PING, b"y" * 125))
    assert peer.reader.outgoing() == frame(Opcode.PONG, b"y" * 125, mask=False)
    assert peer.reader.feed(frame(Opcode.CONT, b"")) == [b"x" * LIMIT]


@protocol("message.size", "transport.websocket")
def test_short_way_for_one_whole_frame_knows_the_same_rules() -> None:
    """A frame that comes alone may be too long, or stand inside a message, or behind the end, like any other."""
    too_long, inside, behind = FrameReader(3), FrameReader(LIMIT), FrameReader(LIMIT)
    assert too_long.feed(frame(Opcode.TEXT, b"abc")) == [b"abc"]
    assert too_long.feed(frame(Opcode.TEXT, b"abcd")) == []
    assert ending(too_long)[0] == 1009
    inside.feed(frame(Opcode.TEXT, b"a", fin=False))
    assert inside.feed(frame(Opcode.TEXT, b"b")) == []
    assert ending(inside)[0] == 1002
    behind.feed(frame(Opcode.CLOSE, b""))
    assert behind.feed(frame(Opcode.TEXT, b"c")) == []


def test_short_way_reads_no_length_of_64_bits() -> None:
    """The begin of such a frame, as long as its first form of length would make it, is not whole."""
    reader, whole = FrameReader(70_000), frame(Opcode.BINARY, bytes(70_000))
    assert whole[1] & 0x7F == 127
    assert reader.feed(whole[: 6 + 127]) == []
    assert reader.feed(whole[6 + 127 :]) == [bytes(70_000)]


def test_frame_that_comes_in_many_reads_is_looked_at_when_it_can_be_read() -> None:
    """Not with each byte, which would cost its square."""

    class Counting(FrameReader):
        looks = 0

        def _frame(self, data: bytes, at: int, messages: list[bytes]) -> int:
            Counting.looks += 1
            return super()._frame(data, at, messages)

    reader, found = Counting(LIMIT), []
    for byte in frame(Opcode.BINARY, bytes(LIMIT)):
        found += reader.feed(bytes((byte,)))
    assert found == [bytes(LIMIT)]
    assert Counting.looks <= 4


@protocol("transport.websocket")
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536])
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_each_form_of_length(size: int, opcode: Opcode) -> None:
    """7, 16 and 64 bits (section 5.2), cut at each byte of the head."""
    data = frame(opcode, b"x" * size)
    for cut in range(15):
        reader = FrameReader(65_536)
        assert reader.feed(data[:cut]) + reader.feed(data[cut:]) == [b"x" * size]
        assert reader._rest is None


def test_lengths_in_a_longer_form_than_they_need_are_read(peer: Peer) -> None:
    """Senders must not (section 5.2), receivers are told nothing: websockets reads them, too."""
    assert peer.reader.feed(b"\x82\xfe\x00\x01\x00\x00\x00\x00a") == [b"a"]
    assert peer.reader.feed(b"\x82\xff\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00b") == [b"b"]


def test_what_a_peer_announces_is_not_reserved(peer: Peer) -> None:
    """A length of 63 bits and more is refused by its head; less than the limit costs what has come."""
    assert peer.reader.feed(b"\x82\xfe\x03\xe8") == []
    assert peer.reader._rest is not None
    assert len(peer.reader._rest) == 4
    for head in (b"\x7f", b"\xff"):
        reader = FrameReader(LIMIT)
        assert reader.feed(b"\x82\xff" + head + b"\xff" * 7) == []
        assert ending(reader)[0] == 1009


def test_an_idle_reader_holds_no_buffer(peer: Peer) -> None:
    """There is one for each connection, and most are idle."""
    peer.reader.feed(frame(Opcode.TEXT, b"a", fin=False) + frame(Opcode.PING, b"p") + b"\x80")
    assert None not in [peer.reader._rest, peer.reader._message, peer.reader._owed]
    assert peer.reader.feed(frame(Opcode.CONT, b"b")[1:]) == [b"ab"]
    assert peer.reader.outgoing() == frame(Opcode.PONG, b"p", mask=False)
    assert (peer.reader._rest, peer.reader._message, peer.reader._owed) == (None, None, None)


# Closing.


@protocol("transport.websocket")
@pytest.mark.parametrize(("payload", "code"), [(b"\x03\xe8", 1000), (b"\x0f\xa0bye", 4000), (b"", 1005)])
def test_close_of_the_peer_is_echoed_and_what_came_before_it_counts(
    peer: Peer, payload: bytes, code: int
) -> None:
    """Also in one read. Nothing behind it does."""
    data = frame(Opcode.TEXT, b"last words") + frame(Opcode.CLOSE, payload) + frame(Opcode.TEXT, b"more")
    assert peer.reader.feed(data) == [b"last words"]
    assert (peer.reader.closing, peer.reader.ended) == (True, True)
    assert peer.reader.outgoing() == Frame(Opcode.CLOSE, payload).serialize(mask=False)
    assert (peer.reader.close_code, peer.reader.fault) == (code, None)
    peer.reader.close(3001, "too late")
    assert peer.reader.outgoing() == b""


@protocol("transport.websocket")
@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1012, 1014, 3000, 3999, 4000, 4999])
def test_codes_that_a_peer_may_close_with(peer: Peer, code: int) -> None:
    """Sections 7.4.1 and 7.4.2, and what was registered since."""
    peer.reader.feed(frame(Opcode.CLOSE, Close(code, "€").serialize()))
    assert (peer.reader.close_code, peer.reader.fault) == (code, None)


@protocol("transport.websocket")
def test_close_inside_a_message_is_a_close(peer: Peer) -> None:
    """Control frames may stand between fragments (section 5.4); the message is lost with the connection."""
    peer.reader.feed(frame(Opcode.TEXT, b"x", fin=False) + frame(Opcode.CLOSE, b"\x03\xe8"))
    assert ending(peer.reader) == (1000, "")
    assert (peer.reader.close_code, peer.reader.fault, peer.reader._message) == (1000, None, None)


@protocol("message.utf8")
def test_reason_that_is_not_utf8_closes_with_1007(peer: Peer) -> None:
    """Section 5.5.1 wants UTF-8, section 8.1 this code."""
    peer.reader.feed(frame(Opcode.CLOSE, b"\x03\xe8\xff"))
    assert ending(peer.reader)[0] == 1007


def test_pings_behind_our_close_frame_are_not_answered(peer: Peer) -> None:
    """Nothing follows it, least of all pongs that nobody bounds."""
    peer.reader.feed(frame(Opcode.PING, b"before"))
    peer.reader.close(3001, "shutdown")
    peer.reader.feed(frame(Opcode.PING, b"behind"))
    pong = frame(Opcode.PONG, b"before", mask=False)
    assert peer.reader.outgoing() == pong + frame(Opcode.CLOSE, b"\x0b\xb9shutdown", mask=False)


def test_broken_rules_behind_our_close_frame_end_the_connection(peer: Peer) -> None:
    """Without a second close frame (section 7.1.7); what the edge said stays what it said."""
    peer.reader.close(3001, "shutdown")
    peer.reader.outgoing()
    peer.reader.feed(frame(Opcode.CONT, b""))
    assert (peer.reader.ended, peer.reader.outgoing()) == (True, b"")
    assert (peer.reader.close_code, peer.reader.fault) == (3001, None)


@protocol("message.utf8")
@pytest.mark.parametrize("parts", [[b"\xe2\x82", b"x"], [b"ok\xf4\x90"], [b"\xed", b"\xa0\x80"], [b"\xff"]])
def test_utf8_is_judged_with_each_fragment(peer: Peer, parts: list[bytes]) -> None:
    """Not only when the message is whole (section 8.1)."""
    peer.reader.feed(frame(Opcode.TEXT, b"", fin=False))
    for part in parts:
        assert not peer.reader.closing
        peer.reader.feed(frame(Opcode.CONT, part, fin=False))
    assert ending(peer.reader)[0] == 1007


def test_our_close_waits_for_the_peers(peer: Peer) -> None:
    """Messages still come in until then, for whoever counts them; the stream ends behind the peer's close frame."""
    assert not peer.reader.closing
    peer.reader.close(3001, "shutdown")
    peer.reader.close(3008, "slow")
    assert peer.reader.outgoing() == Frame(Opcode.CLOSE, b"\x0b\xb9shutdown").serialize(mask=False)
    assert not peer.reader.ended
    assert (peer.reader.closing, peer.reader.close_code, peer.reader.fault) == (True, 3001, None)
    assert peer.reader.feed(frame(Opcode.TEXT, b"crossed")) == [b"crossed"]
    assert peer.reader.feed(frame(Opcode.CLOSE, b"\x0b\xb9")) == []
    assert (peer.reader.outgoing(), peer.reader.ended) == (b"", True)
    assert peer.reader.close_code == 3001


def test_close_code_without_any_close_frame_is_1006(peer: Peer) -> None:
    """Before and after the stream ends."""
    assert peer.reader.close_code == 1006
    peer.reader.feed(frame(Opcode.TEXT, b"half a mess")[:5])
    peer.reader.eof()
    assert peer.reader.close_code == 1006
    assert peer.reader.closing
    assert peer.reader.fault is None
    assert peer.reader.outgoing() == b""


def test_fault_keeps_the_reason(peer: Peer) -> None:
    """It is what the log says."""
    peer.reader.feed(frame(Opcode.TEXT, b"\xff"))
    assert peer.reader.fault == Disconnect(1007, "text that is not UTF-8")


@protocol("transport.websocket")
@given(st.lists(st.binary(max_size=40), max_size=6), st.booleans())
def test_no_bytes_raise(chunks: list[bytes], ended: bool) -> None:
    """Whatever a peer sends; a connection that is not open delivers nothing."""
    peer = Peer()
    for chunk in chunks:
        closed = peer.reader.closing
        messages = peer.reader.feed(chunk)
        assert not (closed and messages)
        peer.reader.outgoing()
    if ended:
        peer.reader.eof()
        peer.reader.eof()
    peer.reader.close(3000, "bye")
    assert 1000 <= peer.reader.close_code < 5000
    assert peer.reader.closing


opcodes = st.sampled_from(list(Opcode))
frames = st.builds(
    frame, opcodes, st.binary(max_size=8), fin=st.booleans(), mask=st.sampled_from([True] * 9 + [False])
)


@given(st.lists(frames, max_size=8))
def test_no_frames_raise(sent: list[bytes]) -> None:
    """Well-formed ones in any order get further than random bytes."""
    peer = Peer()
    for data in sent:
        peer.reader.feed(data)
        peer.reader.outgoing()
    peer.reader.close(3000, "bye")
    assert peer.reader.closing
