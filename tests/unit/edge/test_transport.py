from __future__ import annotations

import asyncio
import gc
import json
import zlib
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode

from tests.fakes.clock import ManualClock
from tests.fakes.edge import CountingMetrics, FakeBroker, FakeKeys, at_once, now, rules, token
from tests.fakes.tcp import FakeTcp
from tests.support.protocol import protocol
from tests.support.wait import eventually
from tidewire.edge import rotation, transport
from tidewire.edge.connection import Connection
from tidewire.edge.deflate import TAIL, deflate
from tidewire.edge.dispatcher import Dispatcher
from tidewire.edge.framing import WEBSOCKET_JSON
from tidewire.edge.gate import Gate, Limits
from tidewire.edge.hub import Hub
from tidewire.edge.loop_lag import SAMPLES
from tidewire.edge.pacer import Pacer
from tidewire.edge.party import Party
from tidewire.edge.policies.origins import OriginPolicy
from tidewire.edge.ports import Publication
from tidewire.edge.request_head import MAX_HEAD
from tidewire.edge.rotation import Rotation
from tidewire.edge.session import Session
from tidewire.edge.subscriptions import Subscriptions
from tidewire.edge.timers import TICK, Timers, Timing
from tidewire.edge.transport import TransportState, WebSocketTransport
from tidewire.kernel import errors
from tidewire.kernel.token_bucket import Allowance

PENDING = 2_000
MESSAGE = 1_000
UPGRADE = {
    "Host": "edge",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def head(target: str = "/connection/websocket", *more: tuple[str, str], **changes: str | None) -> bytes:
    """A request. `changes` replace fields (None leaves one out), underscores stand for hyphens."""
    fields = {**UPGRADE, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [f"{name}: {value}" for name, value in [*fields.items(), *more] if value is not None]
    return "\r\n".join([f"GET {target} HTTP/1.1", *lines, "", ""]).encode("latin-1")


def frame(data: bytes, opcode: Opcode = Opcode.TEXT) -> bytes:
    """A frame of a client."""
    return Frame(opcode, data).serialize(mask=True)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame of the edge."""
    return Frame(Opcode.CLOSE, Close(code, reason).serialize()).serialize(mask=False)


def connect_frame(user: str = "alice") -> bytes:
    """The connect command."""
    return frame(json.dumps({"id": 1, "connect": {"token": token(user)}}).encode())


def inflated(data: bytes) -> bytes:
    """The payload of one compressed frame of the edge."""
    assert data[0] == 0xC1
    return zlib.decompressobj(wbits=-15).decompress(data[4 if data[1] == 126 else 2 :] + TAIL)


class Guest(asyncio.Protocol):
    """Plain HTTP: keeps what it is given."""

    def __init__(self) -> None:
        self.tcp: asyncio.BaseTransport | None = None
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.tcp = transport

    def data_received(self, data: bytes) -> None:
        self.data += data


class Door:
    """An edge's gate, core and fake broker; sockets are opened with `tcp`."""

    def __init__(
        self, *, origins: tuple[str, ...] = (), connections: int = 10, deflate_min_size: int | None = None
    ) -> None:
        self.clock = ManualClock()
        self.broker = FakeBroker()
        self.metrics = CountingMetrics()
        self.hub = Hub(self.broker, self.metrics, self.clock, 10)
        self.dispatcher = Dispatcher(
            rules(self.clock),
            self.hub,
            self.broker,
            FakeKeys(),
            self.metrics,
            Timers(Timing(25, 8, 10), lambda: 0.0),
            Pacer(self.clock, at_once),
        )
        limits = Limits(connections, MESSAGE, PENDING, 5.0, 3.0, deflate_min_size)
        self.guests: list[Guest] = []
        self.gate = Gate(
            limits,
            OriginPolicy(origins),
            "",
            self.dispatcher,
            self.metrics,
            lambda: self.broker.available,
            self._guest,
        )
        self.gate.handshakes = Rotation(self.metrics.turn_over, now)

    def _guest(self) -> Guest:
        self.guests.append(Guest())
        return self.guests[-1]

    def tcp(self, address: str = "192.0.2.1") -> FakeTcp:
        """A new socket."""
        return FakeTcp(WebSocketTransport(self.gate), address)

    def opened(self, *more: tuple[str, str]) -> FakeTcp:
        """A socket whose handshake is done."""
        tcp = self.tcp()
        tcp.receive(head("/connection/websocket", *more))
        assert tcp.taken().startswith(b"HTTP/1.1 101 ")
        return tcp

    def client(self, user: str = "alice", channel: str = "chat:a") -> FakeTcp:
        """A client that is connected and subscribed."""
        tcp = self.opened()
        tcp.receive(connect_frame(user))
        tcp.receive(frame(json.dumps({"id": 2, "subscribe": {"channel": channel}}).encode()))
        if b"subscribe" not in tcp.delivered:
            self.broker.confirm(channel)
        assert b'{"id":2,"subscribe":{}}' in tcp.taken()
        return tcp

    def publish(self, data: bytes, channel: str = "chat:a") -> None:
        """One publication."""
        self.broker.sink(channel).receive(Publication(data))
        self.hub.flush()

    def run(self, seconds: float) -> None:
        """Let time pass for the gate's deadlines."""
        for _ in range(round(seconds / TICK)):
            self.gate.tick()

    @property
    def handshakes(self) -> list[str]:
        """Outcomes so far."""
        return [outcome for (outcome,) in self.metrics.of("handshake")]

    @property
    def ended(self) -> list[Any]:
        """What each ended connection was closed with by the edge; None where the peer went."""
        return [connection.disconnect for connection, _ in self.metrics.of("ended")]


@pytest.fixture
def door() -> Door:
    """With the fakes' configuration."""
    return Door()


def answer(tcp: FakeTcp) -> tuple[int, dict[str, str]]:
    """Status and fields of the HTTP answer."""
    first, *lines = tcp.taken().partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return int(first.split(" ")[1]), {line.partition(": ")[0]: line.partition(": ")[2] for line in lines}


# Handshake.


@protocol("transport.websocket", "format.subprotocol", "transport.deflate")
@pytest.mark.parametrize(
    ("fields", "answered", "format_name"),
    [
        ([], None, "json"),
        ([""], None, "json"),
        (["centrifuge-json"], "centrifuge-json", "json"),
        (["centrifuge-protobuf"], "centrifuge-protobuf", "protobuf"),
        (["centrifuge-json", "centrifuge-protobuf"], "centrifuge-protobuf", "protobuf"),
        (["else"], None, "json"),
    ],
)
def test_accepted_handshake(door: Door, fields: list[str], answered: str | None, format_name: str) -> None:
    """The subprotocol is echoed only where one was offered that we speak; compression is declined."""
    tcp = door.tcp()
    offered = [("Sec-WebSocket-Protocol", field) for field in fields]
    tcp.receive(head("/connection/websocket", *offered, Sec_WebSocket_Extensions="permessage-deflate"))
    status, found = answer(tcp)
    assert (status, found["Sec-WebSocket-Accept"]) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    assert found.get("Sec-WebSocket-Protocol") == answered
    assert "Sec-WebSocket-Extensions" not in found
    assert isinstance(tcp.protocol, WebSocketTransport)
    assert tcp.protocol.framing.codec.name == format_name
    assert (door.handshakes, len(door.dispatcher.connections)) == (["accepted"], 1)


@protocol("transport.deflate")
def test_compression_is_agreed_on_where_it_is_enabled() -> None:
    """From the least size on, both ways; clients that do not offer it, or offer what cannot be kept, go without."""
    door = Door(deflate_min_size=100)
    offers = ("permessage-deflate; server_max_window_bits=9", "permessage-deflate; client_max_window_bits")
    one, two, same = (door.opened(("Sec-WebSocket-Extensions", offer)) for offer in (*offers, offers[1]))
    plain, odd = (
        door.opened(),
        door.opened(("Sec-WebSocket-Extensions", "permessage-deflate; server_max_window_bits=8")),
    )
    framings = [cast("WebSocketTransport", tcp.protocol).framing for tcp in (one, two, same, plain, odd)]
    assert framings[1] is framings[2] is not framings[0]
    assert framings[3] is framings[4] is WEBSOCKET_JSON
    command = deflate(json.dumps({"id": 1, "connect": {"token": token()}}).encode(), 12)
    whole = Frame(Opcode.TEXT, command).serialize(mask=True)
    for tcp in (one, two):
        tcp.receive(bytes((whole[0] | 0x40,)) + whole[1:])
        assert b'{"id":1,"connect":{"client":' in inflated(tcp.taken())
    for tcp in (plain, odd):
        tcp.receive(bytes((whole[0] | 0x40,)) + whole[1:])
        assert tcp.taken() == close_frame(1002, "reserved bits must be 0")


@protocol("transport.deflate")
def test_answer_names_what_was_agreed_on() -> None:
    """Neither side keeps a context. An offer that is no field of extensions is no upgrade (RFC 6455, section 9.1)."""
    door = Door(deflate_min_size=0)
    tcp = door.tcp()
    tcp.receive(head("/connection/websocket", ("Sec-WebSocket-Extensions", "permessage-deflate")))
    _, fields = answer(tcp)
    assert (
        fields["Sec-WebSocket-Extensions"]
        == "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    )
    broken = door.tcp()
    broken.receive(head("/connection/websocket", ("Sec-WebSocket-Extensions", "permessage-deflate; =")))
    assert (answer(broken)[0], door.handshakes[-1]) == (400, "bad_upgrade")


def test_handshake_in_single_bytes(door: Door) -> None:
    """TCP cuts where it likes."""
    tcp = door.tcp()
    for byte in head()[:-1]:
        tcp.receive(bytes((byte,)))
        assert tcp.taken() == b""
    tcp.receive(b"\n")
    assert answer(tcp)[0] == 101


class CountedSearch(bytearray):
    """Counts the bytes that `find` looks at."""

    looked_at = 0

    def find(self, *arguments: Any) -> int:
        self.looked_at += len(self) - (arguments[1] if len(arguments) > 1 else 0)
        return super().find(*arguments)


def test_head_in_single_bytes_is_searched_once(door: Door) -> None:
    """What was searched is not searched again, or 16 KiB of single bytes would cost 128 MiB of searching."""
    tcp = door.tcp()
    backlog = cast("WebSocketTransport", tcp.protocol)._backlog = CountedSearch()
    request = head(Cookie="x" * 8_000)
    for byte in request[:-1]:
        tcp.receive(bytes((byte,)))
    assert 0 < backlog.looked_at <= 4 * len(request)
    tcp.receive(b"\n")
    assert answer(tcp)[0] == 101


@protocol("handshake.origin", "handshake.token_in_url", "handshake.limit", "handshake.broker_away")
@pytest.mark.parametrize(
    ("request_head", "state", "status", "outcome"),
    [
        (head(Origin="https://evil.example"), {}, 403, "origin"),
        (head("/connection/websocket", ("Origin", "a"), ("Origin", "b")), {}, 403, "origin"),
        (head("/connection/websocket?token=x"), {}, 400, "token_in_url"),
        (head(), {"away": True}, 503, "broker_away"),
        (head(), {"full": True}, 503, "connection_limit"),
        (head(Upgrade=None), {}, 426, "bad_upgrade"),
        (head(Sec_WebSocket_Key="short"), {}, 400, "bad_upgrade"),
        (head(Sec_WebSocket_Version="8"), {}, 426, "bad_upgrade"),
        (head().replace(b"GET", b"POST"), {}, 405, "bad_upgrade"),
        (head().replace(b"Host: edge", b"Host edge"), {}, 400, "bad_request"),
        (head(Cookie="x" * 9_000), {}, 400, "bad_request"),
        (head(Cookie="x" * MAX_HEAD), {}, 431, "head_too_large"),
        (b"x" * (MAX_HEAD + 1), {}, 431, "head_too_large"),
    ],
    ids=lambda value: None if isinstance(value, bytes | dict) else str(value),
)
def test_refused_handshake(request_head: bytes, state: dict[str, bool], status: int, outcome: str) -> None:
    """Answered, counted and closed; no session exists, and frames behind it are nobody's."""
    door = Door(connections=1 if state.get("full") else 10)
    if state.get("full"):
        door.opened()
    door.broker.available = not state.get("away")
    before = len(door.dispatcher.connections)
    tcp = door.tcp()
    tcp.receive(request_head + connect_frame())
    found, fields = answer(tcp)
    assert (found, door.handshakes[-1], tcp.closing) == (status, outcome, True)
    assert fields.get("Retry-After") == ("2" if status == 503 else None)
    assert (len(door.dispatcher.connections), tcp.taken()) == (before, b"")
    tcp.finish()
    assert door.ended == []
    assert tcp.protocol not in door.gate.transports


@protocol("handshake.origin")
def test_log_is_told_who_was_refused(door: Door) -> None:
    """Each Origin field as it came; an accepted request is no line."""
    door.tcp().receive(head("/connection/websocket", ("Origin", "a"), ("Origin", "b")))
    door.tcp().receive(head().replace(b"Host: edge", b"Host edge"))
    door.opened()
    peer = "192.0.2.1:40000"
    assert door.metrics.of("refused") == [("origin", "a, b", peer), ("bad_request", "", peer)]


@protocol("handshake.origin")
def test_listed_origin_is_accepted(door: Door) -> None:
    """And any request of the edge's own pages."""
    Door(origins=("https://app.example.com",)).opened(("Origin", "https://app.example.com"))
    door.opened(("Origin", "http://edge"))


@protocol("handshake.timeout")
@pytest.mark.parametrize("begun", [b"", b"GET /connection", head()[:-1]])
def test_handshake_has_its_time(door: Door, begun: bytes) -> None:
    """Also for peers that send something now and then; an accepted one has none to keep."""
    tcp, fine = door.tcp(), door.opened()
    tcp.receive(begun)
    door.run(4.9)
    assert not tcp.closing
    door.run(0.1)
    assert (tcp.aborted, door.handshakes) == (True, ["accepted", "timeout"])
    tcp.finish()
    door.run(60)
    assert not fine.closing


def test_too_many_sockets_are_not_even_answered(door: Door) -> None:
    """A tenth, or 64, over the limit: enough for refusals, not for a flood."""
    sockets = [door.tcp(f"192.0.2.{number}") for number in range(10 + 64)]
    assert not any(tcp.aborted for tcp in sockets)
    extra = door.tcp("192.0.2.99")
    assert (extra.aborted, extra.delivered, door.handshakes) == (True, b"", ["sockets"])
    extra.finish()
    sockets[0].finish()
    assert not door.tcp("192.0.2.99").aborted


@protocol("handshake.address_limit")
def test_address_with_enough_connections_gets_429_and_other_addresses_notice_nothing(door: Door) -> None:
    """What ends gives its place back at once; sockets that got a refusal, or no answer yet, have none."""
    door.gate.limits = msgspec.structs.replace(door.gate.limits, address_connections=2)
    waiting = door.tcp()
    first, _ = door.opened(), door.opened()
    refused = door.tcp()
    refused.receive(head())
    answer = refused.taken()
    assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"\r\nRetry-After: " in answer
    assert (refused.closing, door.handshakes[-1]) == (True, "address_limit")
    refused.finish()
    other = door.tcp("192.0.2.2")
    other.receive(head())
    assert other.taken().startswith(b"HTTP/1.1 101 ")
    waiting.receive(head())
    assert waiting.taken().startswith(b"HTTP/1.1 429 ")
    waiting.finish()
    first.finish()
    door.opened()
    assert len(door.gate.shedder.addresses) == 2


@protocol("handshake.overload", "handshake.rate")
def test_what_is_refused_for_load_costs_no_session(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusing must stay cheap: nothing is made for a client that cannot be served now."""
    monkeypatch.setattr(WebSocketTransport, "_open", None)
    door.gate.limits = msgspec.structs.replace(door.gate.limits, max_loop_lag=0.5)
    for _ in range(SAMPLES):
        door.gate.shedder.lag.note(0.6)
    tcp = door.tcp()
    tcp.receive(head())
    answer = tcp.taken()
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nRetry-After: " in answer
    door.gate.limits = msgspec.structs.replace(
        door.gate.limits, max_loop_lag=0, connection_rate=Allowance(1, 0)
    )
    tcp = door.tcp()
    tcp.receive(head())
    assert tcp.taken().startswith(b"HTTP/1.1 503 ")
    assert door.handshakes == ["overload", "connection_rate"]


def test_other_requests_go_to_the_http_application_with_all_that_was_read(door: Door) -> None:
    """The socket is its own from then on: it is no WebSocket, and its handshake is over."""
    tcp = door.tcp()
    tcp.receive(b"POST / HTTP/1.1\r\nHo")
    tcp.receive(b"st: edge\r\nContent-Length: 4\r\n\r\nbo")
    (guest,) = door.guests
    tcp.receive(b"dy")
    assert guest.tcp is tcp
    assert guest.data == b"POST / HTTP/1.1\r\nHost: edge\r\nContent-Length: 4\r\n\r\nbody"
    assert (len(door.gate.transports), door.handshakes) == (0, [])
    door.run(10)
    assert not tcp.closing


@pytest.mark.parametrize(
    "line",
    [
        "GET /connection/websocket/ HTTP/1.1",
        "GET //connection/websocket HTTP/1.1",
        "GET / HTTP/1.1",
        "nonsense",
    ],
)
def test_path_is_exact(door: Door, line: str) -> None:
    """What is another path, or no request at all, is the HTTP application's to refuse."""
    tcp = door.tcp()
    tcp.receive(line.encode() + b"\r\nHost: edge\r\n\r\n")
    assert (len(door.guests), tcp.delivered) == (1, b"")


@given(st.lists(st.binary(max_size=60), max_size=5), st.sampled_from([b"", b"GET /connection/websocket"]))
def test_no_request_raises(chunks: list[bytes], begin: bytes) -> None:
    """Anyone may send anything before a handshake."""
    door = Door()
    tcp = door.tcp()
    for chunk in [begin, *chunks, b"\r\n\r\n"]:
        tcp.receive(chunk)
    door.run(6)
    tcp.finish()
    assert len(door.gate.transports) == 0


names = st.sampled_from(
    [*UPGRADE, "Origin", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Content-Length"]
)
values = st.sampled_from(
    ["", "13", "centrifuge-json", "websocket", "Upgrade", "edge", "a=;", ",", "\x80", '"']
)


@given(st.lists(st.tuples(names, values), max_size=6))
def test_no_fields_raise(fields: list[tuple[str, str]]) -> None:
    """Odd and repeated ones are answered, one way or the other."""
    door = Door()
    tcp = door.tcp()
    tcp.receive(head("/connection/websocket", *fields))
    assert tcp.taken().startswith(b"HTTP/1.1 ")
    assert len(door.handshakes) == 1


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


@pytest.fixture
def line(door: Door, monkeypatch: pytest.MonkeyPatch) -> Rotation:
    """The line of handshakes, of which one is answered in a turn of the loop, whatever the machine."""
    monkeypatch.setattr(rotation, "TURN", 0.0)
    door.gate.handshakes = Rotation(door.metrics.turn_over)
    return door.gate.handshakes


async def test_a_herd_is_let_in_a_few_in_each_turn_of_the_loop(door: Door, line: Rotation) -> None:
    """In the order in which they came, with what they sent meanwhile."""
    herd = [door.tcp() for _ in range(5)]
    for tcp in herd:
        tcp.receive(head("/connection/websocket"))
        tcp.receive(connect_frame())
    assert (len(line), door.handshakes) == (5, [])
    for answered in range(1, 6):
        await asyncio.sleep(0)
        assert [tcp.delivered.startswith(b"HTTP/1.1 101 ") for tcp in herd] == [True] * answered + [False] * (
            5 - answered
        )
    assert all(b'"connect"' in tcp.delivered for tcp in herd)
    assert len(line) == 0


@pytest.mark.parametrize("filling", [0, 7_000])
async def test_a_request_that_waits_is_not_read_on_without_bound(
    door: Door, line: Rotation, filling: int
) -> None:
    """What came with it is taken up, and the socket read again, once it is let in: also where the head was most of it."""
    pings = (MAX_HEAD - 2 * filling) // 7 + 1
    tcp = door.tcp()
    tcp.receive(head("/connection/websocket", ("X", "x" * filling), ("Y", "y" * filling)))
    tcp.receive(frame(b"p", Opcode.PING) * pings)
    assert not tcp.reading
    await eventually(lambda: tcp.reading and not door.gate.floods)
    assert tcp.delivered.count(b"\x8a\x01p") == pings


async def test_a_request_that_waited_too_long_is_told_to_try_again(
    door: Door, line: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client is about to give up."""
    monkeypatch.setattr(transport, "MAX_WAIT", -1.0)
    tcp = door.tcp()
    tcp.receive(head("/connection/websocket"))
    await eventually(lambda: tcp.closing)
    status, fields = answer(tcp)
    assert (status, 2 <= int(fields["Retry-After"]) < 10) == (503, True)
    assert (door.handshakes, len(door.dispatcher.connections)) == (["overload"], 0)


async def test_no_handshake_is_done_for_a_client_that_has_left(
    door: Door, line: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither when that was read already nor when only the kernel knows."""
    known, unknown = door.tcp(), door.tcp()
    monkeypatch.setattr(transport, "has_left", lambda tcp: tcp is unknown)
    for tcp in (known, unknown):
        tcp.receive(head("/connection/websocket"))
    known.finish()
    await eventually(lambda: not line)
    assert (known.delivered, unknown.delivered, unknown.aborted) == (b"", b"", True)
    assert (door.handshakes, door.dispatcher.connections) == (["gone"], {})


async def test_the_time_for_a_handshake_goes_on_while_it_waits(door: Door, line: Rotation) -> None:
    """It is over as for one whose request never came."""
    tcp = door.tcp()
    tcp.receive(head("/connection/websocket"))
    door.run(5.1)
    assert (tcp.aborted, door.handshakes) == (True, ["timeout"])


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


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_absolute_form_of_the_target_is_accepted(door: Door, scheme: str) -> None:
    """RFC 9112, section 3.2.2."""
    tcp = door.tcp()
    tcp.receive(head(f"{scheme}://edge.example/connection/websocket"))
    assert answer(tcp)[0] == 101
