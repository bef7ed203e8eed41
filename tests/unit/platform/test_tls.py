from __future__ import annotations

import asyncio
import contextlib
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.fakes.edge import now
from tests.fakes.tcp import FakeTcp
from tests.support.certificates import write_certificate
from tests.support.wait import eventually
from tidewire.platform import rotation, tls
from tidewire.platform.certificates import TlsFiles, read_identity
from tidewire.platform.rotation import Rotation
from tidewire.platform.tls import MOST_OWED, TlsPort, TlsSocket
from tidewire.platform.tls_engine import PIECE
from tidewire.platform.tls_outcomes import PLAIN_ANSWER

NOW = datetime.now(UTC)


class Served(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.data: list[bytes] = []
        self.events: list[str] = []
        self.busy = False
        """Whether it has work left when the stream ends."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.data.append(data)

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self.busy

    def pause_writing(self) -> None:
        self.events.append("paused")

    def resume_writing(self) -> None:
        self.events.append("resumed")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")


class Wire:
    """A TLS socket, the protocol behind it, and OpenSSL as its client."""

    def __init__(self, cert: Path, key: Path, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        self.served = Served()
        self.outcomes: list[str] = []
        context = read_identity(TlsFiles(str(cert), str(key)), NOW.timestamp()).context
        at_once = Rotation(lambda: None, now)
        self.port = TlsPort(at_once, at_once, lambda outcome, _: self.outcomes.append(outcome))
        self.socket = TlsSocket(context, self.served, self.port)
        self.tcp = FakeTcp(self.socket)
        trusting = ssl.create_default_context(cafile=str(cert))
        trusting.maximum_version = version
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = trusting.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")

    def wait_in(self, line: Rotation) -> None:
        """Take turns there from now on."""
        self.port.handshakes = self.port.floods = line

    def hello(self) -> bytes:
        """The first flight of the client."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.client.do_handshake()
        return self._outgoing.read()

    def shake(self) -> None:
        """The whole handshake."""
        flight = self.hello()
        while flight:
            self.tcp.receive(flight)
            self._incoming.write(self.tcp.taken())
            flight = self.hello()

    def sent(self, data: bytes) -> bytes:
        """Data of the client as they go over the wire."""
        self.client.write(data)
        return self._outgoing.read()

    def read(self) -> bytes:
        """What the client has been sent; it ends with the edge's goodbye."""
        self._incoming.write(self.tcp.taken())
        found = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while data := self.client.read(65_536):
                found += data
            found += b"<goodbye>"
        return found

    def goodbye(self) -> bytes:
        """The client's close_notify."""
        with contextlib.suppress(ssl.SSLError):
            self.client.unwrap()
        return self._outgoing.read()


VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@pytest.fixture(params=list(VERSIONS))
def wires(request: pytest.FixtureRequest, tmp_path: Path) -> list[Wire]:
    """Three of them; nothing has been sent yet."""
    write_certificate(tmp_path / "c", [NOW + timedelta(days=1)], tmp_path / "k")
    return [Wire(tmp_path / "c", tmp_path / "k", VERSIONS[request.param]) for _ in range(3)]


@pytest.fixture
def wire(wires: list[Wire]) -> Wire:
    """One of them."""
    return wires[0]


@pytest.fixture
def over() -> list[str]:
    """One entry for each turn that was too short."""
    return []


@pytest.fixture
def line(over: list[str], monkeypatch: pytest.MonkeyPatch) -> Rotation:
    """One in which a single piece is done in a turn of the loop, whatever the machine."""
    monkeypatch.setattr(rotation, "TURN", 0.0)
    return Rotation(lambda: over.append("over"))


def opened(wire: Wire) -> asyncio.Transport:
    """The transport that the protocol has, after the handshake."""
    wire.shake()
    assert wire.outcomes == ["ok"]
    assert wire.served.transport is wire.socket
    return wire.socket


def test_bytes_go_both_ways(wire: Wire) -> None:
    """The protocol is told of the connection at once, and sees only its bytes."""
    assert wire.served.events == ["made"]
    transport = opened(wire)
    wire.tcp.receive(wire.sent(b"ping"))
    assert wire.served.data == [b"ping"]
    transport.write(b"pong")
    assert wire.read() == b"pong"


async def test_long_data_pass_in_pieces_that_bound_the_buffers(wire: Wire) -> None:
    """OpenSSL's memory buffers keep the size that they once had."""
    transport = opened(wire)
    long = bytes(range(256)) * 1024
    transport.write(long)
    assert wire.read() == long
    wire.tcp.receive(wire.sent(long))
    await eventually(lambda: b"".join(wire.served.data) == long)
    assert not wire.socket._backlog


def test_record_may_come_in_any_chunks(wire: Wire) -> None:
    """Byte by byte, the handshake too."""
    for byte in wire.hello():
        wire.tcp.receive(bytes([byte]))
    wire._incoming.write(wire.tcp.taken())
    for byte in wire.hello():
        wire.tcp.receive(bytes([byte]))
    wire._incoming.write(wire.tcp.taken())
    wire.hello()
    assert wire.outcomes == ["ok"]
    for byte in wire.sent(b"ping"):
        wire.tcp.receive(bytes([byte]))
    assert b"".join(wire.served.data) == b"ping"


def test_data_behind_the_handshake_are_not_lost(wire: Wire) -> None:
    """A client may send its request in the flight that ends the handshake."""
    wire.tcp.receive(wire.hello())
    wire._incoming.write(wire.tcp.taken())
    flight = wire.hello()
    if wire.client.version() == "TLSv1.3":
        wire.tcp.receive(flight + wire.sent(b"request"))
        assert b"".join(wire.served.data) == b"request"


async def test_floods_of_records_take_turns(wires: list[Wire], line: Rotation, over: list[str]) -> None:
    """In one turn of the loop one piece is decrypted, whoever and however many sent them; no socket is read meanwhile."""
    for wire in wires:
        opened(wire)
        wire.wait_in(line)
        wire.tcp.receive(b"".join(wire.sent(b"%d," % number) for number in range(2000)))
    assert (len(line), [wire.tcp.reading for wire in wires]) == (3, [False] * 3)
    assert [wire.served.data for wire in wires] == [[]] * 3
    await asyncio.sleep(0)
    assert [0 < len(b"".join(wire.served.data)) < PIECE for wire in wires] == [True, False, False]
    await eventually(lambda: not line and all(wire.tcp.reading for wire in wires))
    for wire in wires:
        assert b"".join(wire.served.data).split(b",")[:-1] == [b"%d" % number for number in range(2000)]
    assert len(over) > 10


async def test_handshakes_take_turns(wires: list[Wire], line: Rotation) -> None:
    """One is answered in one turn of the loop, in the order in which they came, and nothing more is read meanwhile."""
    for wire in wires:
        wire.wait_in(line)
        hello = wire.hello()
        wire.tcp.receive(hello[:50])
        wire.tcp.receive(hello[50:])
    assert (len(line), [wire.tcp.reading for wire in wires]) == (3, [False] * 3)
    for answered in range(4):
        assert [bool(wire.tcp.delivered) for wire in wires] == [True] * answered + [False] * (3 - answered)
        await asyncio.sleep(0)
    assert (len(line), [wire.tcp.reading for wire in wires]) == (0, [True] * 3)


@pytest.mark.parametrize("wires", ["1.3"], indirect=True)
async def test_what_stands_behind_a_handshake_waits_with_the_floods(wire: Wire, line: Rotation) -> None:
    """Otherwise it would keep up those that are to come in."""
    wire.tcp.receive(wire.hello())
    wire._incoming.write(wire.tcp.taken())
    flight = wire.hello()
    flood = b"x" * 100_000
    wire.wait_in(line)
    wire.port.handshakes, wire.port.floods = Rotation(lambda: None, now), line
    wire.tcp.receive(flight + wire.sent(flood))
    assert (wire.outcomes, len(wire.port.handshakes), len(line)) == (["ok"], 0, 1)
    await eventually(lambda: b"".join(wire.served.data) == flood)
    assert (len(line), wire.tcp.reading) == (0, True)


@pytest.mark.parametrize("pieces", [1, 2])
async def test_no_handshake_is_done_for_a_client_that_has_left(
    wire: Wire, line: Rotation, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    """Only the kernel knows, since the socket is not read; also where its first message came in pieces."""
    hello = wire.hello()
    if pieces == 2:
        wire.tcp.receive(hello[:50])
        hello = hello[50:]
    wire.wait_in(line)
    wire.tcp.receive(hello)
    monkeypatch.setattr(tls, "has_left", lambda tcp: tcp is wire.tcp)
    await asyncio.sleep(0)
    assert (wire.outcomes, wire.tcp.aborted, wire.tcp.delivered) == (["gone"], True, b"")
    assert wire.socket._engine.begun is (pieces == 2)
    wire.tcp.finish()
    assert (wire.outcomes, len(line)) == (["gone"], 0)


async def test_no_handshake_is_done_that_waited_too_long(
    wire: Wire, line: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client is about to give up."""
    monkeypatch.setattr(tls, "MAX_WAIT", -1.0)
    wire.wait_in(line)
    wire.tcp.receive(wire.hello())
    await asyncio.sleep(0)
    assert (wire.outcomes, wire.tcp.aborted, wire.tcp.delivered) == (["overload"], True, b"")
    assert not wire.socket._engine.begun


async def test_handshake_that_was_paid_for_is_finished(
    wire: Wire, line: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late, and also if its client says nothing more behind it."""
    wire.tcp.receive(wire.hello())
    wire._incoming.write(wire.tcp.taken())
    monkeypatch.setattr(tls, "MAX_WAIT", -1.0)
    monkeypatch.setattr(tls, "has_left", lambda _: True)
    wire.wait_in(line)
    wire.tcp.receive(wire.hello())
    await asyncio.sleep(0)
    assert wire.outcomes == ["ok"]


async def test_socket_that_is_lost_in_line_is_nothing_to_do(wire: Wire, line: Rotation) -> None:
    """Its handshake had begun, though it cost nothing yet."""
    wire.wait_in(line)
    wire.tcp.receive(wire.hello())
    assert wire.socket.eof_received() is False
    wire.tcp.finish()
    await eventually(lambda: not line)
    assert (wire.outcomes, wire.served.events) == (["closed"], ["made", "lost"])
    assert not wire.socket._engine.begun


async def test_protocol_that_stops_reading_leaves_the_line(wire: Wire, line: Rotation) -> None:
    """And comes back to it with what waits."""
    transport = opened(wire)
    wire.wait_in(line)
    long = b"x" * 20_000
    wire.tcp.receive(wire.sent(long))
    transport.pause_reading()
    await eventually(lambda: not line)
    assert (wire.served.data, wire.tcp.reading) == ([], False)
    transport.resume_reading()
    assert len(line) == 1
    await eventually(lambda: b"".join(wire.served.data) == long)
    assert wire.tcp.reading


@pytest.mark.parametrize("busy", [False, True])
async def test_what_came_before_the_end_of_the_stream_still_counts(
    wire: Wire, line: Rotation, *, busy: bool
) -> None:
    """The socket closes behind the last of it, or leaves that to a protocol that has work left itself."""
    opened(wire)
    wire.served.busy = busy
    wire.wait_in(line)
    long = b"x" * 20_000
    wire.tcp.receive(wire.sent(long))
    assert wire.socket.eof_received() is True
    assert wire.served.events == ["made"]
    await eventually(lambda: not line)
    assert b"".join(wire.served.data) == long
    assert (wire.served.events, wire.tcp.closing, wire.tcp.reading) == (["made", "eof"], not busy, False)


async def test_protocol_with_work_left_keeps_the_socket_open(wire: Wire) -> None:
    """At the end of the stream and at the peer's goodbye alike, as without TLS."""
    opened(wire)
    wire.served.busy = True
    assert wire.socket.eof_received() is True
    wire.tcp.receive(wire.goodbye())
    assert (wire.served.events, wire.tcp.closing) == (["made", "eof", "eof"], False)


async def test_protocol_may_stop_reading(wire: Wire) -> None:
    """What came before stays encrypted, and the socket is paused."""
    transport = opened(wire)
    transport.pause_reading()
    assert not transport.is_reading()
    assert not wire.tcp.reading
    wire.tcp.receive(wire.sent(b"later"))
    assert wire.served.data == []
    transport.resume_reading()
    assert transport.is_reading()
    await eventually(lambda: wire.served.data == [b"later"])
    assert wire.tcp.reading


def test_flow_control_is_the_sockets(wire: Wire) -> None:
    """What is written is encrypted at once, so that no second buffer hides a slow reader."""
    transport = opened(wire)
    wire.tcp.stall()
    transport.write(b"x" * 1000)
    assert transport.get_write_buffer_size() > 1000
    wire.tcp.read_on()
    assert wire.served.events == ["made", "paused", "resumed"]


def test_goodbye_stands_behind_what_was_written(wire: Wire) -> None:
    """And the peer's is not waited for."""
    transport = opened(wire)
    transport.write(b"last words")
    transport.close()
    assert wire.tcp.closing
    assert transport.is_closing()
    assert wire.read() == b"last words<goodbye>"
    transport.write(b"too late")
    assert wire.tcp.taken() == b""


async def test_end_of_our_side_alone(wire: Wire) -> None:
    """The close frame is on its way; what the peer still sends is read and dropped."""
    transport = opened(wire)
    assert transport.can_write_eof()
    transport.write(b"1009")
    transport.write_eof()
    assert wire.tcp.half_closed
    assert not wire.tcp.closing
    assert wire.read() == b"1009<goodbye>"
    wire.tcp.receive(b"\x17\x03\x03\x40\x00" + b"x" * 100_000)
    assert wire.served.data == []
    assert not wire.socket._backlog
    transport.close()
    assert wire.tcp.closing


def test_goodbye_of_the_peer_ends_the_connection(wire: Wire) -> None:
    """The protocol is told, and ours follows."""
    opened(wire)
    wire.tcp.receive(wire.sent(b"bye") + wire.goodbye())
    assert wire.served.data == [b"bye"]
    assert wire.served.events == ["made", "eof"]
    assert wire.tcp.closing


def test_end_of_the_stream_without_goodbye(wire: Wire) -> None:
    """As without TLS: WebSocket and HTTP tell themselves what is incomplete."""
    opened(wire)
    assert wire.socket.eof_received() is False
    assert wire.served.events == ["made", "eof"]


def test_lost_connection_lets_go_of_everything(wire: Wire) -> None:
    """The ring of socket and protocol would stay until the collector comes."""
    opened(wire)
    wire.tcp.finish()
    assert wire.served.events == ["made", "lost"]
    assert wire.socket._engine._tls is None
    assert wire.socket.get_protocol() is not wire.served
    assert wire.outcomes == ["ok"]


def test_record_that_was_changed_breaks_the_connection(wire: Wire) -> None:
    """An alert, and the end."""
    opened(wire)
    record = bytearray(wire.sent(b"secret"))
    record[-1] ^= 1
    wire.tcp.receive(bytes(record))
    assert wire.outcomes == ["ok", "broken"]
    assert wire.served.data == []
    assert wire.tcp.closing
    assert wire.tcp.taken()


def test_plain_http_is_told_so(wire: Wire) -> None:
    """In its own language."""
    wire.tcp.receive(b"GET / HTTP/1.1\r\n\r\n")
    assert wire.outcomes == ["http"]
    assert wire.tcp.taken() == PLAIN_ANSWER
    assert wire.tcp.closing


def test_nothing_is_said_for_a_socket_that_was_silent(wire: Wire) -> None:
    """Balancers probe ports that way; and OpenSSL has had no part in it."""
    wire.tcp.finish()
    assert wire.outcomes == []
    assert wire.served.events == ["made", "lost"]


@pytest.mark.parametrize("ends", ["timeout", "closed"])
def test_handshake_that_did_not_end(wire: Wire, ends: str) -> None:
    """Once, whoever ends it."""
    wire.tcp.receive(wire.hello()[:50])
    if ends == "timeout":
        wire.socket.abort()
        assert wire.tcp.aborted
    wire.tcp.finish()
    assert wire.outcomes == [ends]


def test_answers_to_a_peer_that_reads_none_are_bounded(wire: Wire) -> None:
    """Each key update and each refused renegotiation is answered: for nothing an attacker could fill our memory."""
    opened(wire)
    wire.tcp.receive(wire.sent(b"x"))
    wire.tcp.stall()
    wire.socket._engine._outgoing.write(b"a" * MOST_OWED)
    wire.tcp.receive(wire.sent(b"y"))
    assert not wire.tcp.aborted
    wire.socket._engine._outgoing.write(b"a")
    wire.tcp.receive(wire.sent(b"z"))
    assert wire.tcp.aborted
    assert wire.outcomes == ["ok", "broken"]


def test_version_is_told(wire: Wire) -> None:
    """For the log; and uvicorn asks whether there is TLS at all."""
    assert wire.socket.get_extra_info("tls_version", "") == ""
    opened(wire)
    assert wire.socket.get_extra_info("tls_version") == wire.client.version()
    assert wire.socket.get_extra_info("sslcontext") is not None
    assert wire.socket.get_extra_info("peername") == ("192.0.2.1", 40_000)


def test_protocol_can_be_changed(wire: Wire) -> None:
    """As for plain HTTP on the same port."""
    opened(wire)
    other = Served()
    wire.socket.set_protocol(other)
    wire.tcp.receive(wire.sent(b"GET"))
    assert (other.data, wire.served.data) == ([b"GET"], [])
