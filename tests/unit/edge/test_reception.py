from __future__ import annotations

import asyncio
import json
import zlib
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from tests.fakes.door import UPGRADE, Door, answer, close_frame, connect_frame, frame, head
from tests.fakes.edge import token
from tests.support.protocol import protocol
from tests.support.wait import eventually
from tidewire.edge import reception
from tidewire.edge.deflate import TAIL, deflate
from tidewire.edge.framing import WEBSOCKET_JSON
from tidewire.edge.loop_lag import SAMPLES
from tidewire.edge.reception import Reception
from tidewire.edge.request_head import MAX_HEAD
from tidewire.edge.transport import WebSocketTransport
from tidewire.kernel.token_bucket import Allowance
from tidewire.platform import rotation
from tidewire.platform.rotation import Rotation


def inflated(data: bytes) -> bytes:
    """The payload of one compressed frame of the edge."""
    assert data[0] == 0xC1
    return zlib.decompressobj(wbits=-15).decompress(data[4 if data[1] == 126 else 2 :] + TAIL)


@pytest.fixture
def door() -> Door:
    """With the fakes' configuration."""
    return Door()


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
    backlog = cast("Reception", tcp.protocol)._backlog = CountedSearch()
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


def test_refusal_is_counted_once_whatever_becomes_of_it(door: Door) -> None:
    """Its client may not take it in time: then the socket is cut, without another word."""
    tcp = door.tcp()
    tcp.receive(head("/connection/websocket?token=x"))
    assert door.metrics.of("bytes_out") == [(len(tcp.taken()),)]
    door.run(5)
    assert (tcp.aborted, door.handshakes) == (True, ["token_in_url"])


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
    assert [(outcome, origin) for outcome, origin, _ in door.metrics.of("refused")] == [("sockets", "")]
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
    monkeypatch.setattr(Reception, "_open", None)
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


@pytest.mark.parametrize("path", ["/", "/app.js", "/dev/info", "/dev/token", "/vendor/centrifuge.js"])
def test_without_pages_other_requests_are_refused_at_once(door: Door, path: str) -> None:
    """One answer for each socket, however many requests come: no application, whose work nothing would ration."""
    door.gate.http = None
    tcp = door.tcp()
    tcp.receive(f"GET {path} HTTP/1.1\r\nHost: edge\r\n\r\n".encode() * 20)
    answers = tcp.taken()
    assert answers.count(b"HTTP/1.1 404 Not Found\r\n") == answers.count(b"HTTP/1.1") == 1
    assert b"\r\nConnection: close\r\n" in answers
    assert b"/connection/websocket" in answers
    assert (tcp.closing, door.handshakes, door.guests) == (True, ["not_found"], [])
    tcp.finish()
    assert (door.gate.sockets, len(door.gate.shedder.addresses)) == (0, 0)


@pytest.mark.parametrize(
    "begun", [b"nonsense\r\n\r\n", b"\r\n\r\n", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n\r\n"]
)
def test_what_is_no_request_is_a_bad_one_without_pages_too(door: Door, begun: bytes) -> None:
    """Such as the header of a proxy that nobody configured."""
    door.gate.http = None
    tcp = door.tcp()
    tcp.receive(begun)
    assert (answer(tcp)[0], door.handshakes) == (400, ["bad_request"])


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


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_absolute_form_of_the_target_is_accepted(door: Door, scheme: str) -> None:
    """RFC 9112, section 3.2.2."""
    tcp = door.tcp()
    tcp.receive(head(f"{scheme}://edge.example/connection/websocket"))
    assert answer(tcp)[0] == 101


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


async def test_a_request_whose_head_is_long_is_read_on_behind_it(door: Door, line: Rotation) -> None:
    """It fills what may wait almost alone, so that little comes with it."""
    tcp = door.tcp()
    tcp.receive(head("/connection/websocket", ("A", "x" * 8_000), ("B", "x" * 8_000)))
    tcp.receive(frame(b"p" * 100, Opcode.PING) * 4)
    assert not tcp.reading
    await eventually(lambda: tcp.reading)
    assert tcp.delivered.count(b"p" * 100) == 4


async def test_a_request_that_waited_too_long_is_told_to_try_again(
    door: Door, line: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client is about to give up."""
    monkeypatch.setattr(reception, "MAX_WAIT", -1.0)
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
    monkeypatch.setattr(reception, "has_left", lambda tcp: tcp is unknown)
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
