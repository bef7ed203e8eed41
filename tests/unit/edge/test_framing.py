from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from tests.support.protocol import protocol
from tidewire.edge.framing import (
    FIN_BINARY,
    FIN_TEXT,
    MAX_JOINED,
    WEBSOCKET_JSON,
    WEBSOCKET_PROTOBUF,
    Framing,
    websocket_frame,
)
from tidewire.edge.wire.json_codec import JSON
from tidewire.edge.wire.protobuf_codec import PROTOBUF
from tidewire.edge.wire.replies import PublishResult, Reply, UnsubscribeResult


def read(data: bytes) -> list[Frame]:
    """Frames as a client reads them: unmasked, whole."""
    client = ClientProtocol(parse_uri("ws://edge/"), max_size=None)
    client.state = client.state.__class__.OPEN
    client.parser = super(ClientProtocol, client).parse()
    next(client.parser)
    client.receive_data(data)
    assert client.parser_exc is None
    return [event for event in client.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_lengths_around_each_boundary(size: int) -> None:
    """7, 16 and 64 bits (RFC 6455, section 5.2)."""
    payload = bytes(size)
    data = websocket_frame(FIN_BINARY, payload)
    assert data == Frame(Opcode.BINARY, payload).serialize(mask=False)
    (frame,) = read(data)
    assert (frame.opcode, bytes(frame.data), frame.fin) == (Opcode.BINARY, payload, True)


@given(st.sampled_from([FIN_TEXT, FIN_BINARY]), st.binary(max_size=300))
def test_frames_are_those_of_the_library(first: int, payload: bytes) -> None:
    """Byte for byte."""
    opcode = Opcode.TEXT if first == FIN_TEXT else Opcode.BINARY
    assert websocket_frame(first, payload) == Frame(opcode, payload).serialize(mask=False)


@protocol("format.json", "format.protobuf", "format.batches")
def test_json_is_text_and_protobuf_is_binary() -> None:
    """Several replies in one frame; both SDKs call methods of text on JSON frames."""
    replies = [Reply(id=1, publish=PublishResult()), Reply(id=2, unsubscribe=UnsubscribeResult())]
    (text,) = read(WEBSOCKET_JSON.together([JSON.encode([reply]) for reply in replies]))
    assert (text.opcode, bytes(text.data)) == (
        Opcode.TEXT,
        b'{"id":1,"publish":{}}\n{"id":2,"unsubscribe":{}}',
    )
    (binary,) = read(WEBSOCKET_PROTOBUF.together([PROTOBUF.encode([reply]) for reply in replies]))
    assert (binary.opcode, bytes(binary.data)) == (Opcode.BINARY, b"\x04\x08\x01\x42\x00\x04\x08\x02\x3a\x00")


def test_pings() -> None:
    """An empty reply in each format."""
    assert WEBSOCKET_JSON.ping == b"\x81\x02{}"
    assert WEBSOCKET_PROTOBUF.ping == b"\x82\x01\x00"


@pytest.mark.parametrize("framing", [WEBSOCKET_JSON, WEBSOCKET_PROTOBUF])
@given(st.lists(st.integers(1, MAX_JOINED + 10), min_size=1, max_size=8))
def test_joined_items_keep_their_order_and_their_bound(framing: Framing, sizes: list[int]) -> None:
    """No frame is over the bound but that of a single large item, and no two neighbours would have fitted in one."""
    items = [b"%c" % (65 + index) * size for index, size in enumerate(sizes)]
    frames = [bytes(frame.data) for data in framing.joined(items) for frame in read(data)]
    found = b"".join(frames).replace(b"\n", b"")
    assert found == b"".join(items)
    for frame in frames:
        assert len(frame) <= MAX_JOINED or frame.strip(frame[:1]) == b""
    assert all(len(one) + len(two) >= MAX_JOINED for one, two in pairwise(frames))
