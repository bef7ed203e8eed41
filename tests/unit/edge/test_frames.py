from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from tests.support.protocol import protocol
from tidewire.edge.frames import ServerProtocolReader
from tidewire.kernel.errors import Disconnect

LIMIT = 1000


class Peer:
    """A client and the edge's reader behind one handshake. The client's bytes are sent when the test says so."""

    def __init__(self) -> None:
        self.client = ClientProtocol(parse_uri("ws://edge/connection/websocket"))
        request = self.client.connect()
        self.client.send_request(request)
        server = ServerProtocol(max_size=LIMIT)
        server.receive_data(b"".join(self.client.data_to_send()))
        (event,) = server.events_received()
        server.send_response(server.accept(event))
        self.client.receive_data(b"".join(server.data_to_send()))
        self.client.events_received()
        assert self.client.state is State.OPEN
        self.reader = ServerProtocolReader(server)

    def said(self) -> bytes:
        """What the client wrote since the last call."""
        return b"".join(self.client.data_to_send())

    def heard(self) -> list[tuple[Opcode, bytes]]:
        """Frames that the client reads of what the edge owes it; the end of the stream is left out."""
        self.client.receive_data(b"".join(self.reader.outgoing()))
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


def closing_frame(sent: Sequence[bytes]) -> tuple[int, str]:
    """Code and reason of the one close frame in what the reader wants to write; the end of the stream follows."""
    assert sent[-1] == b"", "a failed connection is ended at once"
    data = b"".join(sent)
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
    assert peer.reader.outgoing() == []


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
    assert len(peer.reader._message) == 1
    assert peer.reader.feed(frame(Opcode.CONT, b"z")) == [b"az"]
    assert len(peer.reader._message) == 0


# What is refused.


@protocol("message.utf8")
@pytest.mark.parametrize("text", [b"\xff", b"ok \xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"])
def test_text_that_is_not_utf8_closes_with_1007(peer: Peer, text: bytes) -> None:
    """What came before it counts, what came behind it does not."""
    assert peer.reader.feed(
        frame(Opcode.TEXT, b"a") + frame(Opcode.TEXT, text) + frame(Opcode.TEXT, b"b")
    ) == [b"a"]
    assert peer.reader.closing
    assert closing_frame(peer.reader.outgoing())[0] == 1007
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
    assert closing_frame(peer.reader.outgoing())[0] == 1007


@protocol("message.size")
def test_message_size_is_bounded_also_in_fragments(peer: Peer) -> None:
    """1009, as soon as the length is announced; a message of exactly the limit passes."""
    assert peer.reader.feed(frame(Opcode.BINARY, bytes(LIMIT))) == [bytes(LIMIT)]
    half = frame(Opcode.BINARY, bytes(LIMIT // 2), fin=False)
    whole = frame(Opcode.CONT, bytes(LIMIT // 2))
    assert peer.reader.feed(half + whole) == [bytes(LIMIT)]
    too_large = frame(Opcode.CONT, bytes(LIMIT // 2 + 1))
    assert peer.reader.feed(half + too_large[:10]) == []
    assert closing_frame(peer.reader.outgoing())[0] == 1009
    assert peer.reader.close_code == 1009
    fresh = Peer()
    assert fresh.reader.feed(frame(Opcode.TEXT, b"x" * (LIMIT + 1))[:8]) == []
    assert closing_frame(fresh.reader.outgoing())[0] == 1009


@protocol("transport.websocket")
@pytest.mark.parametrize(
    "data",
    [
        frame(Opcode.TEXT, b"x", mask=False),
        frame(Opcode.PING, b"x", mask=False),
        frame(Opcode.CONT, b"x"),
        frame(Opcode.TEXT, b"x", fin=False) + frame(Opcode.TEXT, b"y"),
        b"\xc1\x80\x00\x00\x00\x00",
        b"\x83\x80\x00\x00\x00\x00",
        b"\x09\x80\x00\x00\x00\x00",
        b"\x89\xfe\x00\x7e\x00\x00\x00\x00" + bytes(126),
        frame(Opcode.CLOSE, b"\x03"),
        frame(Opcode.CLOSE, b"\x03\xed"),
        frame(Opcode.CLOSE, b"\x00\x01"),
        frame(Opcode.TEXT, b"x", fin=False) + frame(Opcode.CLOSE, b"\x03\xe8"),
    ],
    ids=[
        "unmasked",
        "unmasked ping",
        "nothing to continue",
        "a message inside another",
        "reserved bit",
        "reserved opcode",
        "fragmented ping",
        "long ping",
        "close of one byte",
        "close 1005",
        "close 1",
        "close inside a message",
    ],
)
def test_broken_rules_close_with_1002(peer: Peer, data: bytes) -> None:
    """The fault is known to whoever logs it."""
    assert peer.reader.feed(frame(Opcode.BINARY, b"before") + data + frame(Opcode.BINARY, b"behind")) == [
        b"before"
    ]
    assert closing_frame(peer.reader.outgoing())[0] == 1002
    assert peer.reader.closing
    assert peer.reader.fault is not None
    assert peer.reader.fault.code == 1002


# Closing.


@protocol("transport.websocket")
@pytest.mark.parametrize(("payload", "code"), [(b"\x03\xe8", 1000), (b"\x0f\xa0bye", 4000), (b"", 1005)])
def test_close_of_the_peer_is_echoed_and_what_came_before_it_counts(
    peer: Peer, payload: bytes, code: int
) -> None:
    """Also in one read. Nothing behind it does."""
    data = frame(Opcode.TEXT, b"last words") + frame(Opcode.CLOSE, payload) + frame(Opcode.TEXT, b"more")
    assert peer.reader.feed(data) == [b"last words"]
    assert peer.reader.closing
    assert peer.reader.outgoing() == [Frame(Opcode.CLOSE, payload).serialize(mask=False), b""]
    assert (peer.reader.close_code, peer.reader.fault) == (code, None)
    peer.reader.close(3001, "too late")
    assert peer.reader.outgoing() == []


def test_our_close_waits_for_the_peers(peer: Peer) -> None:
    """Messages still come in until then, for whoever counts them; the stream ends behind the peer's close frame."""
    assert not peer.reader.closing
    peer.reader.close(3001, "shutdown")
    peer.reader.close(3008, "slow")
    assert peer.reader.outgoing() == [Frame(Opcode.CLOSE, b"\x0b\xb9shutdown").serialize(mask=False)]
    assert (peer.reader.closing, peer.reader.close_code, peer.reader.fault) == (True, 3001, None)
    assert peer.reader.feed(frame(Opcode.TEXT, b"crossed")) == [b"crossed"]
    assert peer.reader.feed(frame(Opcode.CLOSE, b"\x0b\xb9")) == []
    assert peer.reader.outgoing() == [b""]
    assert peer.reader.close_code == 3001


def test_close_code_without_any_close_frame_is_1006(peer: Peer) -> None:
    """Before and after the stream ends."""
    assert peer.reader.close_code == 1006
    peer.reader.feed(frame(Opcode.TEXT, b"half a mess")[:5])
    peer.reader.eof()
    assert peer.reader.close_code == 1006
    assert peer.reader.closing
    assert peer.reader.fault is None
    assert [data for data in peer.reader.outgoing() if data] == []


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
