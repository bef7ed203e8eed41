from __future__ import annotations

import asyncio
import gc
from string import hexdigits
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode

from tests.fakes.door import MESSAGE, PENDING, Door, close_frame, connect_frame, frame, head
from tests.support.protocol import protocol
from tests.support.wait import eventually
from tidewire.edge import transport
from tidewire.edge.connection import Connection
from tidewire.edge.party import Party
from tidewire.edge.session import Session
from tidewire.edge.subscriptions import Subscriptions
from tidewire.edge.transport import TransportState, WebSocketTransport
from tidewire.kernel import errors
from tidewire.platform import rotation


@pytest.fixture
def door() -> Door:
    """With the fakes' configuration."""
    return Door()


# Frames.


@protocol("connect.optimistic", "transport.ws_ping")
def test_frames_in_the_packet_of_the_upgrade_are_read_behind_it(door: Door) -> None:
    """A client may be quick, and a ping's answer must not overtake ours to the handshake."""
    tcp = door.tcp()
    tcp.receive(head() + frame(b"early", Opcode.PING) + connect_frame() + frame(b"x", Opcode.PING)[:3])
    http, _, rest = tcp.taken().partition(b"\r\n\r\n")
    assert http.startswith(b"HTTP/1.1 101 ")
    assert Frame(Opcode.PONG, b"early").serialize(mask=False) in rest
    assert b'{"id":1,"connect":' in rest
    tcp.receive(frame(b"x", Opcode.PING)[3:])
    assert tcp.taken()[:2] == b"\x8a\x01"


@protocol("transport.ws_ping")
def test_pong_goes_before_the_answer_to_the_message_around_the_ping(door: Door) -> None:
    """It is due as soon as may be (RFC 6455, section 5.5.2), also when all of it comes in one read."""
    tcp = door.opened()
    begin = b"\x01" + connect_frame()[1:]
    tcp.receive(begin + frame(b"x", Opcode.PING) + frame(b"", Opcode.CONT))
    assert tcp.taken().startswith(b"\x8a\x01x\x81")


@protocol("message.size", "message.utf8")
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"x" * (MESSAGE + 1)), 1009),
        (frame(b"\xff"), 1007),
        (Frame(Opcode.TEXT, b"{}").serialize(mask=False), 1002),
    ],
    ids=["too long", "not UTF-8", "not masked"],
)
def test_broken_rules_of_frames_end_the_connection(door: Door, data: bytes, code: int) -> None:
    """With a close frame, at once; the edge is the one that closed.

    What the peer still sends is read and forgotten: unread, it would reset the connection before the frame is seen.
    """
    tcp = door.client()
    tcp.receive(data)
    written = tcp.taken()
    assert (written[0], int.from_bytes(written[2:4], "big")) == (0x88, code)
    assert (door.dispatcher.connections, door.hub.subscriptions) == ({}, 0)
    tcp.receive(frame(b"{}") * 100)
    assert (tcp.half_closed, tcp.closing, tcp.reading, tcp.taken()) == (True, False, True, b"")
    tcp.finish()
    assert [disconnect.code for disconnect in door.ended] == [code]


@protocol("format.malformed")
def test_frame_that_is_no_command_closes_with_3501(door: Door) -> None:
    """What stands behind it in the same read is dropped."""
    tcp = door.client()
    tcp.receive(frame(b"nonsense") + frame(b'{"id":3,"publish":{"channel":"chat:a","data":1}}'))
    assert int.from_bytes(tcp.taken()[2:4], "big") == 3501
    assert (door.broker.published, door.metrics.of("commands_dropped")) == ([], [(1,)])


def test_bytes_are_counted(door: Door) -> None:
    """Of frames, both ways; the handshake's answer goes out too."""
    tcp = door.tcp()
    tcp.receive(head())
    upgrade = len(tcp.taken())
    tcp.receive(frame(b"x", Opcode.PING))
    assert isinstance(tcp.protocol, WebSocketTransport)
    assert (tcp.protocol.bytes_in, tcp.protocol.bytes_out) == (7, upgrade + 3)
    assert (door.metrics.of("bytes_in"), door.metrics.of("bytes_out")) == ([(7,)], [(upgrade,), (3,)])
    assert tcp.protocol.peer == "192.0.2.1:40000"


# A peer that does not read.


def test_what_waits_goes_out_in_order_when_the_peer_reads_on(door: Door) -> None:
    """And is counted as pending until then."""
    tcp = door.client()
    tcp.stall()
    for number in range(5):
        door.publish(b"%d" % number)
    assert isinstance(tcp.protocol, WebSocketTransport)
    assert (tcp.taken(), tcp.buffered) == (b"", b"")
    assert tcp.protocol.pending > 0
    tcp.read_on()
    door.publish(b"5")
    assert [int(part[0:1]) for part in tcp.taken().split(b'"data":')[1:]] == list(range(6))
    assert tcp.protocol.pending == 0


@protocol("close.slow", "disconnect.3008")
def test_slow_consumer_is_closed_and_what_waits_is_not_sent(door: Door) -> None:
    """Its close frame is; a neighbour has every publication."""
    slow, fine = door.client("slow"), door.client("fine")
    slow.stall()
    large = b'"' + b"x" * 700 + b'"'
    for _ in range(2):
        door.publish(large)
    assert not door.metrics.of("slow_consumer")
    door.publish(large)
    assert slow.buffered == close_frame(3008, "slow")
    assert door.metrics.of("slow_consumer") == [()]
    assert fine.taken().count(large) == 3
    slow.read_on()
    assert slow.taken() == close_frame(3008, "slow")
    slow.receive(frame(Close(3008, "").serialize(), Opcode.CLOSE))
    assert slow.closing
    assert not slow.aborted
    slow.finish()
    assert door.ended == [errors.SLOW]


@protocol("close.slow")
def test_pongs_for_a_peer_that_does_not_read_are_bounded_and_counted(door: Door) -> None:
    """A flood of pings is a slow consumer like any other."""
    tcp = door.client()
    tcp.stall()
    assert isinstance(tcp.protocol, WebSocketTransport)
    ping = frame(b"x" * 100, Opcode.PING)
    while tcp.protocol.state is TransportState.OPEN:
        tcp.receive(ping * 3)
        assert tcp.protocol.pending <= PENDING
    assert tcp.buffered == close_frame(3008, "slow")
    assert door.metrics.of("slow_consumer") == [()]
    tcp.receive(ping)
    assert tcp.buffered == close_frame(3008, "slow")
    door.run(3)
    assert tcp.aborted
    tcp.finish()
    assert door.ended == [errors.SLOW]


def test_close_for_another_reason_lets_what_waits_go_first(door: Door) -> None:
    """A drained client is owed what was accepted for it."""
    tcp = door.client()
    tcp.stall()
    door.publish(b"1")
    (connection,) = door.dispatcher.connections
    door.dispatcher.retire(connection, errors.SHUTDOWN)
    tcp.read_on()
    written = tcp.taken()
    assert b'"data":1' in written
    assert written.endswith(close_frame(3001, "shutdown"))


def test_nothing_is_written_behind_the_close_frame(door: Door) -> None:
    """Not even what waited when the peer itself said goodbye."""
    tcp = door.client()
    tcp.stall()
    door.publish(b"1")
    tcp.receive(frame(Close(1000, "").serialize(), Opcode.CLOSE))
    tcp.read_on()
    assert tcp.taken() == close_frame(1000)


# Closing.


@protocol("disconnect.3000")
def test_close_by_the_peer(door: Door) -> None:
    """Echoed, and the socket ends; the session is gone before that."""
    tcp = door.client()
    tcp.receive(frame(b'{"id":3,"unsubscribe":{"channel":"chat:a"}}') + frame(b"\x03\xe8", Opcode.CLOSE))
    assert b'{"id":3,"unsubscribe":{}}' in tcp.delivered
    assert tcp.taken().endswith(close_frame(1000))
    assert (tcp.closing, tcp.aborted, door.dispatcher.connections) == (True, False, {})
    tcp.finish()
    assert door.ended == [None]
    assert isinstance(tcp.protocol, WebSocketTransport)
    assert (tcp.protocol.close_code, len(door.gate.transports)) == (1000, 0)
    assert len(door.gate._deadlines) == 0


@protocol("close.owed")
def test_close_by_the_edge_waits_for_the_peers_part_and_counts_what_crosses(door: Door) -> None:
    """A publish that was on its way is dropped, never carried out."""
    tcp = door.client()
    (connection,) = door.dispatcher.connections
    door.dispatcher.retire(connection, errors.SHUTDOWN)
    assert (tcp.taken(), tcp.closing) == (close_frame(3001, "shutdown"), False)
    tcp.receive(frame(b'{"id":3,"publish":{"channel":"chat:a","data":1}}'))
    assert (door.broker.published, door.metrics.of("commands_dropped")) == ([], [(1,)])
    tcp.receive(frame(b"ping", Opcode.PING))
    tcp.receive(frame(Close(3001, "").serialize(), Opcode.CLOSE))
    assert (tcp.closing, tcp.aborted) == (True, False)
    tcp.finish()
    assert door.ended == [errors.SHUTDOWN]


def test_peer_that_does_not_answer_the_close_is_cut_off(door: Door) -> None:
    """After the close timeout, whatever else it sends."""
    tcp = door.client()
    (connection,) = door.dispatcher.connections
    door.dispatcher.retire(connection, errors.SHUTDOWN)
    door.run(2.9)
    tcp.receive(frame(b"{}"))
    assert not tcp.closing
    door.run(0.1)
    assert (tcp.aborted, door.handshakes) == (True, ["accepted"])
    tcp.finish()
    door.run(10)
    assert len(door.gate._deadlines) == 0


def test_peer_that_breaks_the_rules_and_stays_is_cut_off(door: Door) -> None:
    """It may go on sending for as long as a close may take, and no longer."""
    tcp = door.client()
    tcp.receive(Frame(Opcode.TEXT, b"{}").serialize(mask=False))
    door.run(2.9)
    tcp.receive(frame(b"{}"))
    assert not tcp.closing
    door.run(0.1)
    assert tcp.aborted


@pytest.mark.parametrize("polite", [True, False])
def test_network_that_goes_takes_the_session_with_it(door: Door, polite: bool) -> None:
    """An end of stream or none: the close code is 1006."""
    tcp = door.client()
    if polite:
        assert tcp.protocol.eof_received() is False
    tcp.finish()
    assert (door.dispatcher.connections, door.hub.subscriptions, door.ended) == ({}, 0, [None])
    assert isinstance(tcp.protocol, WebSocketTransport)
    assert (tcp.protocol.close_code, tcp.protocol.state) == (1006, TransportState.CLOSED)
    tcp.protocol.close(errors.SHUTDOWN)
    assert tcp.protocol.send(b"x")
    tcp.protocol.overdue()


chunks_of_a_client = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [
            connect_frame(),
            frame(b"{}"),
            frame(b'{"id":2,"subscribe":{"channel":"chat:a"}}'),
            frame(b"p", Opcode.PING),
            frame(b"\x03\xe8", Opcode.CLOSE),
            frame(b"\xff"),
        ]
    ),
)


@given(st.lists(chunks_of_a_client, max_size=8), st.booleans())
def test_no_client_raises_or_stays(chunks: list[bytes], stalled: bool) -> None:
    """Whatever comes, in time nothing is left of it."""
    door = Door()
    tcp = door.opened()
    if stalled:
        tcp.stall()
    for chunk in chunks:
        tcp.receive(chunk)
    for connection in list(door.dispatcher.connections):
        door.dispatcher.retire(connection, errors.SHUTDOWN)
    door.run(3.1)
    for _, _, done in list(door.broker.subscribed.values()):
        done(None)
    door.run(3.1)
    assert tcp.closing
    tcp.finish()
    assert (len(door.gate.transports), door.dispatcher.connections, door.hub.subscriptions) == (0, {}, 0)
    assert len(door.gate._deadlines) == 0


async def test_floods_leave_turns_to_the_others(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads of many pings: in one turn of the loop one piece is worked off, whoever and however many sent them.

    Meanwhile nothing more is read from those sockets.
    """
    monkeypatch.setattr(rotation, "TURN", 0.0)  # whatever the machine: over after each piece
    flooders = [door.client(f"flooder-{number}") for number in range(5)]
    neighbour = door.client("neighbour", "chat:b")
    for flooder in flooders:
        flooder.receive((b"\x89\x80" + b"\x00" * 4) * 4_000)
    assert len(door.gate.floods) == 5
    await asyncio.sleep(0)
    assert 0 < sum(len(flooder.delivered) for flooder in flooders) <= transport.SLICE
    assert not flooders[0].reading
    neighbour.receive(frame(b'{"id":3,"unsubscribe":{"channel":"chat:b"}}'))
    assert b'"unsubscribe"' in neighbour.taken()
    await eventually(lambda: not door.gate.floods and all(flooder.reading for flooder in flooders))
    assert [flooder.delivered.count(b"\x8a\x00") for flooder in flooders] == [4_000] * 5
    assert len(door.metrics.of("turn_over")) > 10


async def test_a_client_that_compresses_takes_turns_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its few bytes may be many: of a read of 4 KiB, one turn of the loop inflates those of 256."""
    monkeypatch.setattr(rotation, "TURN", 0.0)
    door = Door(deflate_min_size=128)
    tcp = door.opened(("Sec-WebSocket-Extensions", "permessage-deflate"))
    ping = b"\x89\x80" + b"\x00" * 4
    tcp.receive(ping * 42)
    assert tcp.taken() == b"\x8a\x00" * 42
    tcp.receive(ping * 682)
    assert not tcp.reading
    await asyncio.sleep(0)
    assert 0 < len(tcp.taken()) <= transport.SLICE_DEFLATED // 3
    await eventually(lambda: tcp.reading)


async def test_what_waits_at_the_end_of_the_stream_still_counts(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may send much and go at once; the socket closes behind the last of it."""
    monkeypatch.setattr(rotation, "TURN", 0.0)
    client = door.client()
    publish = b'{"id":%d,"publish":{"channel":"chat:a","data":%d}}'
    client.receive(b"".join(frame(publish % (n, n)) for n in range(1, 101)))
    assert client.protocol.eof_received() is True
    await eventually(lambda: client.closing)
    assert [data for _, data, _, _ in door.broker.published] == [b"%d" % n for n in range(1, 101)]


async def test_what_waits_for_its_turn_is_worked_off_in_order(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publications, then the close frame behind them."""
    monkeypatch.setattr(rotation, "TURN", 0.0)
    client = door.client()
    publish = b'{"id":%d,"publish":{"channel":"chat:a","data":%d}}'
    goodbye = Frame(Opcode.CLOSE, Close(1000, "").serialize()).serialize(mask=True)
    client.receive(b"".join(frame(publish % (n, n)) for n in range(1, 101)) + goodbye)
    await eventually(lambda: client.closing)
    assert [data for _, data, _, _ in door.broker.published] == [b"%d" % n for n in range(1, 101)]


@pytest.mark.parametrize("ends", ["the peer goes", "the edge closes", "the peer breaks a rule"])
def test_a_connection_is_freed_at_its_end_without_the_garbage_collector(door: Door, ends: str) -> None:
    """A full collection, which an edge makes rare, would find what refers to itself."""

    def left() -> list[object]:
        kinds = (WebSocketTransport, Connection, Session, Party, Subscriptions)
        return [each for each in gc.get_objects() if isinstance(each, kinds)]

    gc.collect()
    gc.disable()
    try:
        before = len(left())
        tcp = door.client()
        assert len(left()) > before
        if ends == "the edge closes":
            door.dispatcher.retire(next(iter(door.dispatcher.connections)), errors.SHUTDOWN)
        elif ends == "the peer breaks a rule":
            tcp.receive(b"\xff" * 20)
        tcp.finish()
        door.metrics.events.clear()
        del tcp
        assert len(left()) == before
    finally:
        gc.enable()


# Client ids.


def test_client_ids_are_random_uuids_and_all_different() -> None:
    """Version 4 and the variant of RFC 9562, sections 4.1 and 5.4, in the usual form; every digit that is free varies."""
    found = [transport._new_client() for _ in range(1000)]
    for client in found:
        uuid = UUID(client)
        assert (str(uuid), uuid.version, uuid.variant) == (client, 4, RFC_4122)
    assert len(set(found)) == len(found)
    hyphens = {8: "-", 13: "-", 18: "-", 23: "-"}
    expected = [
        hyphens.get(at, "4" if at == 14 else "89ab" if at == 19 else hexdigits[:16]) for at in range(36)
    ]
    columns = list(zip(*found, strict=True))
    assert ["".join(sorted(set(digits))) for digits in columns] == expected
    assert len(set(columns)) == 36 - 3, "but for the hyphens, none repeats another"


def test_each_connection_has_a_client_id_of_its_own(door: Door) -> None:
    """From its upgrade on."""
    for _ in range(3):
        door.opened()
    assert len({connection.session.party.client for connection in door.dispatcher.connections}) == 3
