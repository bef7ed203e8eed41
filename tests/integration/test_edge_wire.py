"""A real edge on a real nats-server, spoken to in raw frames: what stands on the wire, byte for byte where it matters.

The rules are those that the reference server was seen to follow; the official SDKs are in tests/e2e/test_sdks.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol

from tests.support.edges import OPEN, EdgeProcess, edge_config, mapping, token
from tests.support.http import upgrade
from tests.support.nats_server import NatsServer
from tests.support.protocol import protocol
from tests.support.raw_client import RawClient
from tests.support.wait import eventually
from tidewire import __version__

TIMEOUT = 10.0
MESSAGE = 65_536
NAMESPACES = [
    {"name": "live", **OPEN},
    {"name": "closed"},
    {"name": "raw", **OPEN, "publication_data_format": "binary"},
]
QUICK = {
    "client": {
        "ping_interval": "1s",
        "pong_timeout": "400ms",
        "stale_close_delay": "500ms",
        "expired_close_delay": "200ms",
    },
    "send": {"enabled": True},
    "rpc": {"enabled": True, "methods": [{"name": "*"}]},
}


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One nats-server for the file."""
    with NatsServer(tmp_path_factory.mktemp("nats"), config=mapping()) as server:
        yield server


def edge_on(nats: NatsServer, folder: Path, changes: dict[str, Any]) -> EdgeProcess:
    """An edge with the file's namespaces."""
    channel = {"channel": {"namespaces": NAMESPACES, "without_namespace": OPEN}}
    return EdgeProcess(folder, edge_config(nats.url, {**channel, **changes}))


@pytest.fixture(scope="module")
def edge(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeProcess]:
    """An edge with the times that it has by itself: nothing here takes as long as they are."""
    changes = {"client": {"queue_max_size": 131_072}}
    with edge_on(nats, tmp_path_factory.mktemp("edge"), changes) as process:
        yield process


@pytest.fixture(scope="module")
def quick(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeProcess]:
    """An edge with short times: whoever is connected to it must read, to answer pings. rpc and send are on."""
    with edge_on(nats, tmp_path_factory.mktemp("quick"), QUICK) as process:
        yield process


class Wire:
    """One WebSocket: lines out, lines in. Pings are answered unless told otherwise."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.pings = 0
        self.answers = True
        self._lines: list[dict[str, Any]] = []

    async def say(self, *commands: dict[str, Any]) -> Wire:
        """Send commands in one frame."""
        await self.socket.send("\n".join(map(json.dumps, commands)))
        return self

    async def line(self) -> dict[str, Any]:
        """The next reply or push."""
        while not self._lines:
            async with asyncio.timeout(TIMEOUT):
                frame = await self.socket.recv()
            assert isinstance(frame, str), "JSON goes in text frames"
            assert frame, "an empty frame"
            for text in frame.split("\n"):
                assert text, "a blank line"
                if text != "{}":
                    self._lines.append(json.loads(text))
                    continue
                self.pings += 1
                if self.answers:
                    await self.socket.send("{}")
        return self._lines.pop(0)

    async def pinged(self, times: int) -> None:
        """Wait for pings and answer them; nothing else may come."""
        for _ in range(times):
            async with asyncio.timeout(TIMEOUT):
                assert await self.socket.recv() == "{}"
            await self.socket.send("{}")

    async def ask(self, *commands: dict[str, Any]) -> dict[str, Any]:
        """Send commands and return the next line."""
        await self.say(*commands)
        return await self.line()

    async def error(self, *commands: dict[str, Any]) -> int:
        """Send commands and return the code of the error that comes next."""
        reply = await self.ask(*commands)
        assert reply["error"]["message"]
        return int(reply["error"]["code"])

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
    """A subscribe command as the SDKs send it."""
    return {"id": number, "subscribe": {"channel": channel, **fields}}


def publish(number: int, channel: str, data: object) -> dict[str, Any]:
    """A publish command."""
    return {"id": number, "publish": {"channel": channel, "data": data}}


# The connection.


@protocol("connect.reply", "command.connect", "transport.websocket", "format.json", "close.owed")
async def test_connect_reply(edge: EdgeProcess) -> None:
    """No session, no node, no subs; `expires` and `ttl` only with a token that expires; a new client id each time."""
    clients = set()
    for ttl in (None, 3600, None):
        async with opened(edge) as wire:
            reply = await wire.ask({"id": 7, "connect": {"token": token(ttl=ttl), "name": "js"}})
            result = reply["connect"]
            clients.add(str(uuid.UUID(result.pop("client"))))
            if ttl is not None:
                assert result.pop("expires") is True
                assert 3500 < result.pop("ttl") <= 3601
            assert reply == {"id": 7, "connect": {"version": __version__, "ping": 25, "pong": True}}
    assert len(clients) == 3


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
        async with asyncio.timeout(TIMEOUT):
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
    writer.write(request + b"".join(frames))
    async with asyncio.timeout(TIMEOUT):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        received = b""
        while b'"id":2' not in received or Frame(Opcode.PONG, b"hi").serialize(mask=False) not in received:
            received += await reader.read(4096)
    assert received.index(b'"id":1') < received.index(b'"id":2')
    writer.close()
    await writer.wait_closed()


@protocol(
    "connect.first", "connect.twice", "command.id", "channel.empty", "format.malformed", "disconnect.3501"
)
@pytest.mark.parametrize(
    "commands",
    [
        [{}],
        [{"publish": {"channel": "a", "data": 1}}],
        [{"id": 2, "fly": {}}],
        [{"id": 2}],
        [{"id": 2, "connect": {"token": token()}}],
        [subscribe(2, "")],
        [{"id": 2, "unsubscribe": {"channel": ""}}],
        [publish(2, "", 1)],
        [{"id": 2, "presence": {"channel": ""}}],
        [subscribe(2, "a", delta="xdelta")],
    ],
    ids=lambda commands: json.dumps(commands)[:40],
)
async def test_what_closes_with_3501(edge: EdgeProcess, commands: list[dict[str, Any]]) -> None:
    """Each on a connection that is authenticated. The same as first words closes too."""
    async with client(edge) as wire:
        assert await wire.closed(*commands) == 3501
    async with opened(edge) as wire:
        assert await wire.closed({**commands[0], "connect": None}) == 3501


@protocol("format.malformed", "disconnect.3501")
@pytest.mark.parametrize(
    "frame", ["", " ", "x", "[]", '{"id":2,', '{"id":1}\n\n{"id":2}', "{}{}", '{"id":"1"}']
)
async def test_unreadable_frames_close_with_3501(edge: EdgeProcess, frame: str) -> None:
    """Also one with a path so long that the reason must be cut."""
    async with client(edge) as wire:
        await wire.socket.send(frame)
        assert await wire.closed() == 3501
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


# Tokens.


@protocol(
    "token.invalid", "token.expired", "connect.refused", "connect.anonymous", "disconnect.3500", "error.109"
)
async def test_connection_tokens(edge: EdgeProcess) -> None:
    """Invalid closes at once; expired is an error, and the connection stays, useless."""
    async with opened(edge) as wire:
        assert await wire.closed({"id": 1, "connect": {"token": token(key="x" * 40)}}) == 3500
    async with opened(edge) as wire:
        assert await wire.closed({"id": 1, "connect": {}}) == 3501
    async with opened(edge) as wire:
        expired = {"id": 1, "connect": {"token": token(ttl=-10)}}
        reply = await wire.ask(expired, subscribe(2, "a"), subscribe(3, "b"))
        assert (reply["id"], reply["error"]["code"]) == (1, 109)
        async with asyncio.timeout(TIMEOUT):
            await (await wire.socket.ping())
        assert await wire.closed(subscribe(4, "a")) == 3501


@protocol("token.subscription", "channel.private", "error.103")
async def test_subscription_tokens(edge: EdgeProcess) -> None:
    """Garbage and none: 103. Expired: 109. Each leaves the connection; a good one for something else does not."""
    async with client(edge) as wire:
        assert await wire.error(subscribe(2, "$live:a")) == 103
        assert await wire.error(subscribe(3, "$live:a", token="garbage")) == 103
        assert await wire.error(subscribe(4, "$live:a", token=token(channel="$live:a", ttl=-10))) == 109
        assert await wire.ask(subscribe(5, "$live:a", token=token(channel="$live:a"))) == {
            "id": 5,
            "subscribe": {},
        }
        assert await wire.ask(subscribe(6, "closed:a", token=token(channel="closed:a"))) == {
            "id": 6,
            "subscribe": {},
        }
        assert await wire.closed(subscribe(7, "$live:b", token=token(channel="$live:a"))) == 3500
    async with client(edge) as wire:
        assert await wire.closed(subscribe(2, "$live:a", token=token("bob", channel="$live:a"))) == 3500


# Channels and commands.


@protocol(
    "format.batches",
    "connect.optimistic",
    "command.subscribe",
    "error.102",
    "error.105",
    "error.107",
    "error.108",
)
async def test_several_commands_in_one_frame(edge: EdgeProcess) -> None:
    """Behind the connect command, before its reply; each is answered, and the connection stays."""
    async with opened(edge) as wire:
        await wire.say(
            {"id": 1, "connect": {"token": token()}},
            subscribe(2, "live:a"),
            subscribe(3, "live:a"),
            subscribe(4, "nope:a"),
            subscribe(5, "c" * 256),
            {"id": 6, "rpc": {"method": "m", "data": {}}},
            {"id": 7, "presence": {"channel": "live:a"}},
            {"id": 8, "presence_stats": {"channel": "live:a"}},
            {"id": 9, "history": {"channel": "live:a", "limit": -1}},
            {"id": 10, "publish": {"channel": "live:a"}},
            {"id": 11, "unsubscribe": {"channel": "live:never"}},
            {"id": 12, "ping": {}},
            {"id": 13, "sub_refresh": {"channel": "live:never", "token": token(channel="live:never")}},
            subscribe(14, "raw:a"),
            subscribe(15, "closed:a"),
            subscribe(16, "live:b", tf={"op": "", "key": "a", "cmp": "ex"}),
        )
        replies = [await wire.line() for _ in range(16)]
        assert replies[0]["id"] == 1
        codes = {reply["id"]: reply.get("error", {}).get("code", 0) for reply in replies}
        assert codes == {
            1: 0,
            2: 0,
            3: 105,
            4: 102,
            5: 107,
            6: 108,
            7: 108,
            8: 108,
            9: 108,
            10: 107,
            11: 0,
            12: 108,
            13: 103,
            14: 108,
            15: 103,
            16: 107,
        }


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
        async with asyncio.timeout(TIMEOUT):
            assert await task > pushes / 2
        assert pushes >= rounds


# Time and limits.


async def read_all(wire: Wire, numbers: list[int]) -> None:
    """Note the numbers in publications until the connection ends."""
    while True:
        numbers.append((await wire.line())["push"]["pub"]["data"]["n"])


@protocol("ping.schedule", "ping.pong", "ping.unsolicited", "disconnect.3012")
async def test_pings_and_pongs(quick: EdgeProcess) -> None:
    """Who answers stays, who does not goes with 3012; a pong before any ping is fatal."""
    async with client(quick) as good, client(quick, "bob") as mute:
        mute.answers = False
        code, _ = await asyncio.gather(mute.closed(), good.pinged(3))
        assert (code, mute.pings) == (3012, 1)
        assert (await good.ask({"id": 2, "history": {"channel": "a"}}))["error"]["code"] == 108
    async with client(quick) as eager:
        assert await eager.closed({}) == 3501


@protocol("connect.stale", "disconnect.3502")
async def test_who_does_not_authenticate_goes(quick: EdgeProcess) -> None:
    """Silent, or refused with an error."""
    async with opened(quick) as silent, opened(quick) as refused:
        assert await refused.error({"id": 1, "connect": {"token": token(ttl=-10)}}) == 109
        assert await silent.closed() == 3502
        assert await refused.closed() == 3502


@protocol("disconnect.3005", "token.refresh", "command.refresh")
async def test_expiry_and_refresh(quick: EdgeProcess) -> None:
    """The reply to a refresh has client, version, expires and ttl; without one the connection goes with 3005."""
    began = time.monotonic()
    async with opened(quick) as wire:
        reply = await wire.ask({"id": 1, "connect": {"token": token(ttl=1)}})
        assert reply["connect"]["ttl"] in {1, 2}
        again = (await wire.ask({"id": 2, "refresh": {"token": token(ttl=3)}}))["refresh"]
        assert again.pop("ttl") in {2, 3}
        client_id = reply["connect"]["client"]
        assert again == {"client": client_id, "version": __version__, "expires": True}
        assert await wire.closed() == 3005
        assert time.monotonic() - began > 2.5, "the first token's end was not put off"


@protocol("handshake.timeout", "handshake.limit")
async def test_handshake_has_its_time_and_an_edge_its_limit(nats: NatsServer, tmp_path: Path) -> None:
    """Half a request is cut off; one client too many is sent elsewhere."""
    with edge_on(nats, tmp_path, {"client": {"handshake_timeout": "300ms", "connection_limit": 2}}) as edge:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(b"GET /connection/websocket HTTP/1.1\r\nHost: e")
        async with asyncio.timeout(TIMEOUT):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()
        async with client(edge, "a"), client(edge, "b"):
            answer = await upgrade(edge.websocket_url)
            assert (answer.status, answer.headers["retry-after"]) == (503, "2")
        metrics = await edge.metrics()
        assert metrics.value("tidewire_handshakes_total", outcome="timeout") == 1
        assert metrics.value("tidewire_handshakes_total", outcome="connection_limit") == 1


@protocol("command.rpc", "command.send", "disconnect.3508", "error.104")
async def test_rpc_without_responder_and_send(quick: EdgeProcess, edge: EdgeProcess) -> None:
    """104 where nobody answers; `send` where it is off closes with 3508, where it is on it has no reply."""
    async with client(quick) as wire:
        assert (
            await wire.error({"send": {"data": 1}}, {"id": 2, "rpc": {"method": "nobody", "data": 1}}) == 104
        )
    async with client(edge) as wire:
        assert await wire.closed({"send": {"data": 1}}) == 3508


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
async def test_drained_edge_closes_with_3001_and_drops_what_crosses(nats: NatsServer, tmp_path: Path) -> None:
    """A publish behind the close is not carried out, and counted."""
    with edge_on(nats, tmp_path, {}) as edge:
        wire = await RawClient(edge.ws_url).open()
        wire.holds_close = True
        await wire.connect(token())
        assert "publish" in await wire.command(publish={"channel": "live:d", "data": 1})
        edge.terminate()
        async with asyncio.timeout(TIMEOUT):
            await wire.told_to_go.wait()
        assert (wire.close_code, wire.close_reason) == (3001, "shutdown")
        wire.frame(b'{"id":50,"publish":{"channel":"live:d","data":2}}\n{"id":51,"history":{"channel":"a"}}')
        await eventually(dropped(edge, 2))
        wire.release()
        await wire.gone.wait()
        assert await edge.exit_code() == 0
    (line,) = edge.logged("connection.closed")
    assert (line["code"], line["closed_by"], line["commands"]) == (3001, "edge", 4)


def dropped(edge: EdgeProcess, count: int) -> Callable[[], Awaitable[bool]]:
    """Whether so many commands were dropped."""

    async def check() -> bool:
        return (await edge.metrics()).value("tidewire_commands_dropped_total") == count

    return check
