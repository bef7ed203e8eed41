"""A real edge on a real nats-server, spoken to in raw frames: bytes, sizes, sockets, load and limits.

What is sent and what comes back, command by command, is data: test_wire_table.py. The official SDKs are in
tests/e2e/test_sdks.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol

from tests.support.edges import Config, EdgeProcess, edge_config, mapping, token
from tests.support.http import upgrade
from tests.support.nats_server import NatsServer
from tests.support.protocol import protocol
from tests.support.raw_client import Clients
from tests.support.wait import PATIENCE, eventually

MESSAGE = 65_536


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One nats-server for the file."""
    with NatsServer(tmp_path_factory.mktemp("nats"), config=mapping()) as server:
        yield server


def edge_on(nats: NatsServer, folder: Path, changes: Config) -> EdgeProcess:
    """An edge with these settings."""
    return EdgeProcess(folder, edge_config(nats.url, changes))


@pytest.fixture(scope="module")
def edge(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeProcess]:
    """An edge with the times that it has by itself: nothing here takes as long as they are."""
    changes = {"client": {"queue_max_size": 131_072}}
    with edge_on(nats, tmp_path_factory.mktemp("edge"), changes) as process:
        yield process


class Wire:
    """One WebSocket: lines out, lines in. Pings are answered."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._lines: list[dict[str, Any]] = []

    async def say(self, *commands: dict[str, Any]) -> Wire:
        """Send commands in one frame."""
        await self.socket.send("\n".join(map(json.dumps, commands)))
        return self

    async def line(self) -> dict[str, Any]:
        """The next reply or push."""
        while not self._lines:
            async with asyncio.timeout(PATIENCE):
                frame = await self.socket.recv()
            assert isinstance(frame, str), "JSON goes in text frames"
            assert frame, "an empty frame"
            for text in frame.split("\n"):
                assert text, "a blank line"
                if text != "{}":
                    self._lines.append(json.loads(text))
                    continue
                await self.socket.send("{}")
        return self._lines.pop(0)

    async def pinged(self, times: int) -> None:
        """Wait for pings and answer them; nothing else may come."""
        for _ in range(times):
            async with asyncio.timeout(PATIENCE):
                assert await self.socket.recv() == "{}"
            await self.socket.send("{}")

    async def ask(self, *commands: dict[str, Any]) -> dict[str, Any]:
        """Send commands and return the next line."""
        await self.say(*commands)
        return await self.line()

    async def closed(self, *commands: dict[str, Any]) -> int:
        """Send commands and return the code that the edge closes with; nothing may come before."""
        if commands:
            await self.say(*commands)
        with pytest.raises(ConnectionClosed) as ending:
            raise AssertionError(f"not closed: {await self.line()}")
        assert ending.value.rcvd is not None
        assert ending.value.rcvd.reason or ending.value.rcvd.code < 3000
        return int(ending.value.rcvd.code)


@contextlib.asynccontextmanager
async def opened(edge: EdgeProcess, query: str = "", **options: Any) -> AsyncIterator[Wire]:
    """A WebSocket before its connect command."""
    options = {"compression": None, "ping_interval": None, "max_size": None, **options}
    async with connect(edge.ws_url + query, **options) as socket:
        yield Wire(socket)


@contextlib.asynccontextmanager
async def client(
    edge: EdgeProcess, user: str = "alice", channels: Sequence[str] = (), **options: Any
) -> AsyncIterator[Wire]:
    """A connected client, subscribed with the ids from 2 on."""
    async with opened(edge, **options) as wire:
        assert "connect" in await wire.ask({"id": 1, "connect": {"token": token(user)}})
        for number, channel in enumerate(channels, 2):
            assert await wire.ask(subscribe(number, channel)) == {"id": number, "subscribe": {}}
        yield wire


def subscribe(number: int, channel: str, **fields: Any) -> dict[str, Any]:
    """A subscribe command."""
    return {"id": number, "subscribe": {"channel": channel, **fields}}


def publish(number: int, channel: str, data: object) -> dict[str, Any]:
    """A publish command."""
    return {"id": number, "publish": {"channel": channel, "data": data}}


# The connection.


@protocol("format.protobuf", "format.subprotocol")
async def test_protobuf_in_binary_frames(edge: EdgeProcess) -> None:
    """Chosen by the subprotocol, which is echoed, or by the query, and then none is."""
    text = token().encode()
    request = b"\x0a" + bytes((len(text) & 127 | 128, len(text) >> 7)) + text
    command = b"\x08\x01\x22" + bytes((len(request) & 127 | 128, len(request) >> 7)) + request
    frame = bytes((len(command) & 127 | 128, len(command) >> 7)) + command
    offered = [Subprotocol("centrifuge-protobuf")]
    for query, options in (("", {"subprotocols": offered}), ("?cf_protocol=protobuf", {})):
        async with opened(edge, query, **options) as wire:
            assert wire.socket.subprotocol == ("centrifuge-protobuf" if options else None)
            await wire.socket.send(frame)
            reply = await wire.socket.recv()
            assert isinstance(reply, bytes)
            assert reply[1:4] == b"\x08\x01\x2a"
            await wire.socket.send(b"\x06\x08\x02\x2a\x02\x0a\x00")
            assert await wire.closed() == 3501


@protocol("transport.deflate", "transport.ws_ping", "transport.frame_ping")
async def test_compression_is_declined_and_websocket_pings_are_answered(edge: EdgeProcess) -> None:
    """Unknown parameters of the query are ignored. The Python SDK pings each 20 s and offers compression."""
    query = "?cf_protocol_version=v2&cf_ws_frame_ping_pong=true"
    async with opened(edge, query, compression="deflate") as wire:
        assert wire.socket.response is not None
        assert "Sec-WebSocket-Extensions" not in wire.socket.response.headers
        assert "Sec-WebSocket-Protocol" not in wire.socket.response.headers
        async with asyncio.timeout(PATIENCE):
            await (await wire.socket.ping(b"before connect"))
            await wire.ask({"id": 1, "connect": {"token": token()}})
            await (await wire.socket.ping(b"x" * 125))


@protocol("connect.optimistic")
async def test_client_that_sends_frames_with_its_handshake_loses_none(edge: EdgeProcess) -> None:
    """One packet with the request, a ping and two commands; the answers come in their order."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    request = (
        b"GET /connection/websocket HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    commands = [{"id": 1, "connect": {"token": token()}}, {"id": 2, "history": {"channel": "a"}}]
    frames = [Frame(Opcode.PING, b"hi").serialize(mask=True)]
    frames += [Frame(Opcode.TEXT, json.dumps(command).encode()).serialize(mask=True) for command in commands]
    with contextlib.closing(writer):
        writer.write(request + b"".join(frames))
        async with asyncio.timeout(PATIENCE):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            received, pong = b"", Frame(Opcode.PONG, b"hi").serialize(mask=False)
            while b'"id":2' not in received or pong not in received:
                received += await reader.read(4096)
    await writer.wait_closed()
    assert received.index(b'"id":1') < received.index(b'"id":2')


@protocol("format.malformed", "disconnect.3501")
async def test_reason_is_cut_to_what_a_close_frame_holds(edge: EdgeProcess) -> None:
    """The place of the mistake may be a long path."""
    deep: dict[str, Any] = {"op": 1}
    for _ in range(40):
        deep = {"nodes": [deep]}
    async with client(edge) as wire:
        assert await wire.closed(subscribe(2, "a", tf=deep)) == 3501


@protocol("message.size")
async def test_message_size(edge: EdgeProcess) -> None:
    """The last byte decides; a fragmented message is no way around."""
    async with client(edge) as wire:
        command = json.dumps({"id": 2, "history": {"channel": "a"}})
        assert (await wire.ask({"id": 2, "history": {"channel": "a"}}))["error"]["code"] == 108
        await wire.socket.send(command + " " * (MESSAGE - len(command)))
        assert (await wire.line())["error"]["code"] == 108
        await wire.socket.send(command + " " * (MESSAGE + 1 - len(command)))
        assert await wire.closed() == 1009
    async with client(edge) as wire:
        await wire.socket.send([" " * 40_000, " " * 40_000])
        assert await wire.closed() == 1009


@protocol("message.utf8")
async def test_text_that_is_not_utf8(edge: EdgeProcess) -> None:
    """1007, whatever the JSON around it."""
    async with client(edge) as wire:
        await wire.socket.send(b'{"id":2,"publish":{"channel":"a","data":"\xff"}}', text=True)
        assert await wire.closed() == 1007


@protocol("handshake.origin", "handshake.token_in_url")
async def test_refused_handshakes(edge: EdgeProcess) -> None:
    """With a sentence for whoever reads it; nothing of the token in it."""
    foreign = await upgrade(edge.websocket_url, headers={"Origin": "https://evil.example"})
    assert (foreign.status, b"allowed_origins" in foreign.body) == (403, True)
    own = await upgrade(edge.websocket_url, headers={"Origin": edge.base_url})
    assert own.status == 101
    text = token()
    with_token = await upgrade(f"{edge.websocket_url}?token={text}")
    assert (with_token.status, b"in connect" in with_token.body) == (400, True)
    assert text.encode() not in with_token.body
    assert text not in edge.log


# Channels and commands.


@protocol("publish.own", "publish.info", "command.publish", "publish.order")
async def test_publications_of_clients(edge: EdgeProcess) -> None:
    """With the sender's info, in the order of the commands; the push to oneself comes before the reply."""
    async with client(edge, "bob", ["live:own"]) as other, client(edge, "alice", ["live:own"]) as wire:
        await wire.say(*(publish(number, "live:own", {"n": number}) for number in range(10, 30)))
        seen: list[int] = []
        replied: list[int] = []
        while len(seen) < 20 or len(replied) < 20:
            line = await wire.line()
            if "push" in line:
                assert line["push"]["channel"] == "live:own"
                info = line["push"]["pub"]["info"]
                assert (info["user"], str(uuid.UUID(info["client"]))) == ("alice", info["client"])
                assert set(line["push"]["pub"]) == {"data", "info"}
                seen.append(line["push"]["pub"]["data"]["n"])
            else:
                assert line == {"id": line["id"], "publish": {}}
                assert line["id"] in seen, "the reply before the push"
                replied.append(line["id"])
        assert seen == replied == list(range(10, 30))
        assert [(await other.line())["push"]["pub"]["data"]["n"] for _ in range(20)] == seen


@protocol("subscribe.pairs", "command.unsubscribe")
async def test_ten_pairs_sent_without_waiting(edge: EdgeProcess) -> None:
    """They end unsubscribed, each answered; a last subscribe ends subscribed."""
    async with client(edge) as wire, client(edge, "bob") as other:
        commands = [
            command
            for number in range(10, 30, 2)
            for command in (
                subscribe(number, "live:p"),
                {"id": number + 1, "unsubscribe": {"channel": "live:p"}},
            )
        ]
        await wire.say(*commands)
        replies = [await wire.line() for _ in range(20)]
        assert sorted(reply["id"] for reply in replies) == list(range(10, 30))
        assert not any("error" in reply for reply in replies)
        assert await other.ask(publish(2, "live:p", 1)) == {"id": 2, "publish": {}}
        assert await wire.ask(subscribe(30, "live:p")) == {"id": 30, "subscribe": {}}
        assert await other.ask(publish(3, "live:p", 2)) == {"id": 3, "publish": {}}
        assert (await wire.line())["push"]["pub"]["data"] == 2


@protocol("subscribe.order")
async def test_no_push_outside_a_subscription(edge: EdgeProcess) -> None:
    """While another client publishes without end: never before the subscribe reply, never after the unsubscribe's."""
    async with client(edge) as wire, client(edge, "bob") as other:
        going = True

        async def publishing() -> int:
            number = 1
            while going:
                number += 1
                assert await other.ask(publish(number, "live:o", number)) == {"id": number, "publish": {}}
            return number

        task = asyncio.create_task(publishing())
        inside, number, pushes, rounds = False, 2, 0, 0
        await wire.say(subscribe(number, "live:o"))
        while rounds < 40:
            line = await wire.line()
            if "push" in line:
                assert inside, "a push outside"
                pushes += 1
                if line["push"]["pub"]["data"] % 2 == 0:
                    continue
                number += 1
                await wire.say(
                    {"id": number, "unsubscribe": {"channel": "live:o"}}, subscribe(number + 1, "live:o")
                )
                number += 1
                while "push" in (line := await wire.line()):
                    pushes += 1
                assert line == {"id": number - 1, "unsubscribe": {}}
                inside, rounds = False, rounds + 1
            else:
                assert line == {"id": number, "subscribe": {}}
                inside = True
        going = False
        async with asyncio.timeout(PATIENCE):
            assert await task > pushes / 2
        assert pushes >= rounds


# Time and limits.


async def read_all(wire: Wire, numbers: list[int]) -> None:
    """Note the numbers in publications until the connection ends."""
    while True:
        numbers.append((await wire.line())["push"]["pub"]["data"]["n"])


@protocol("ping.schedule", "ping.pong")
async def test_pings_come_on_schedule(nats: NatsServer, tmp_path: Path) -> None:
    """Who answers each stays, and nothing else comes."""
    with edge_on(nats, tmp_path, {"client": {"ping_interval": "2s", "pong_timeout": "1900ms"}}) as edge:
        async with client(edge) as wire:
            await wire.pinged(2)
            assert (await wire.ask({"id": 2, "history": {"channel": "a"}}))["error"]["code"] == 108


@protocol("handshake.timeout", "handshake.limit")
async def test_handshake_has_its_time_and_an_edge_its_limit(nats: NatsServer, tmp_path: Path) -> None:
    """Half a request is cut off; one client too many is sent elsewhere."""
    with edge_on(nats, tmp_path, {"client": {"handshake_timeout": "2s", "connection_limit": 2}}) as edge:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        with contextlib.closing(writer):
            writer.write(b"GET /connection/websocket HTTP/1.1\r\nHost: e")
            async with asyncio.timeout(PATIENCE):
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
        async with client(edge, "a"), client(edge, "b"):
            answer = await upgrade(edge.websocket_url)
            assert (answer.status, answer.headers["retry-after"]) == (503, "2")
        metrics = await edge.metrics()
        assert metrics.value("tidewire_handshakes_total", outcome="timeout") == 1
        assert metrics.value("tidewire_handshakes_total", outcome="connection_limit") == 1


@protocol("close.slow", "disconnect.3008")
async def test_slow_consumer_goes_and_its_neighbour_does_not_notice(edge: EdgeProcess) -> None:
    """3008, and what waited in the edge is gone; the neighbour has every publication, in order."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", edge.port))
    data = "x" * 60_000
    async with (
        client(edge, "fine", ["live:slow"]) as fine,
        client(edge, "slow", ["live:slow"], sock=narrow, max_queue=1) as slow,
    ):
        async with client(edge, "bob") as bob:
            before = (await edge.metrics()).value("tidewire_slow_consumers_total")
            sent = 0
            while (await edge.metrics()).value("tidewire_slow_consumers_total") == before:
                sent += 1
                assert sent < 1_000, "no bound"
                reply = await bob.ask(publish(sent + 1, "live:slow", {"n": sent, "data": data}))
                assert "publish" in reply
                line = await fine.line()
                assert line["push"]["pub"]["data"]["n"] == sent
        received: list[int] = []
        with pytest.raises(ConnectionClosed) as ending:
            await read_all(slow, received)
        assert ending.value.rcvd is not None
        assert (ending.value.rcvd.code, ending.value.rcvd.reason) == (3008, "slow")
        assert received == list(range(1, len(received) + 1))
        assert 0 < len(received) < sent
        assert (await fine.ask({"id": 9, "history": {"channel": "a"}}))["error"]["code"] == 108
    line = await eventually(
        lambda: [each for each in edge.logged("connection.closed") if each["user"] == "slow"]
    )
    assert (line[0]["code"], line[0]["closed_by"], line[0]["reason"]) == (3008, "edge", "slow")


@protocol("close.owed", "disconnect.3001")
async def test_drained_edge_closes_with_3001_and_drops_what_crosses(
    nats: NatsServer, tmp_path: Path, clients: Clients
) -> None:
    """A publish behind the close is not carried out, and counted."""
    with edge_on(nats, tmp_path, {}) as edge:
        wire = await clients.open(edge.ws_url)
        wire.holds_close = True
        await wire.connect(token())
        assert "publish" in await wire.command(publish={"channel": "live:d", "data": 1})
        edge.terminate()
        async with asyncio.timeout(PATIENCE):
            await wire.told_to_go.wait()
        assert (wire.close_code, wire.close_reason) == (3001, "shutdown")
        wire.frame(b'{"id":50,"publish":{"channel":"live:d","data":2}}\n{"id":51,"history":{"channel":"a"}}')
        await eventually(dropped(edge, 2))
        wire.release()
        await asyncio.wait_for(wire.gone.wait(), PATIENCE)
        assert await edge.exit_code() == 0
    (line,) = edge.logged("connection.closed")
    assert (line["code"], line["closed_by"], line["commands"]) == (3001, "edge", 4)


def dropped(edge: EdgeProcess, count: int) -> Callable[[], Awaitable[bool]]:
    """Whether so many commands were dropped."""

    async def check() -> bool:
        return (await edge.metrics()).value("tidewire_commands_dropped_total") == count

    return check
