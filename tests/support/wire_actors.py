"""Those who act in the rows of the wire table: clients of an edge, in raw frames, and the backend on NATS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from urllib.parse import unquote

import nats
import pytest
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close
from websockets.typing import Subprotocol

from tests.support.nats_client import flushed
from tests.support.wait import PATIENCE
from tests.support.wire_formats import PING, Format, Plain
from tests.support.wire_table import Names
from tidewire.kernel.subjects import CONTROL_ALL, encode_channel

LAST_CHANNEL = "public:the-end-of-the-row"
LAST_ID = 2**32 - 1
OWN_IDS = 1_000_000
"""Where the ids of commands begin that stand in no row: those of `connects` and `subscribes`."""


class WireClient:
    """One client in one format. It answers pings as they come, except one that a row waits for."""

    def __init__(self, who: str, url: str, form: Format, names: Names) -> None:
        self._who = who
        self._url = url
        self._format = form
        self._names = names
        self._socket: ClientConnection | None = None
        self._refused = 0
        self._lines: list[Plain] = []
        self._number = OWN_IDS
        self._authenticated = False
        self._over = False

    # The verbs of the table.

    async def opens(self, request: Plain | None) -> None:
        """Do the WebSocket handshake."""
        offered = self._format.subprotocol
        try:
            self._socket = await connect(
                self._url + (request or {}).get("query", ""),
                subprotocols=[Subprotocol(offered)] if offered else None,
                additional_headers=[*self._fields(request or {})],
                compression=None,
                ping_interval=None,
            )
        except InvalidStatus as answer:
            self._refused = answer.response.status_code
            self._over = True

    async def is_refused(self, status: int) -> None:
        """The handshake was answered with an HTTP status."""
        assert self._refused == status

    async def connects(self, claims: Plain | None) -> None:
        """Do the handshake, send a connect command with these claims (the user is by default this client), be answered."""
        await self.opens(None)
        token = self._names.signed({"sub": self._who, **(claims or {})})
        await self._ask({"connect": {"token": token}}, {"connect": ...})

    async def subscribes(self, channel: str) -> None:
        """Send a subscribe command, be answered."""
        await self._ask({"subscribe": {"channel": channel}}, {"subscribe": {}})

    async def sends(self, commands: Plain | list[Plain]) -> None:
        """Send one command, or several in one frame."""
        some = commands if isinstance(commands, list | tuple) else [commands]
        await self._write(self._format.frame([self._names.sent(each) for each in some]))

    async def sends_text(self, frame: str) -> None:
        """Send a text frame as it stands."""
        await self._write(frame)

    async def sends_bytes(self, frame: str) -> None:
        """Send a binary frame of these hex digits."""
        await self._write(bytes.fromhex(frame))

    async def receives(
        self, replies: Plain | list[Plain], order: Callable[[list[Plain]], list[Plain]] = list
    ) -> None:
        """Be sent exactly this next: replies and pushes, in this order, in as many frames as may be."""
        some = replies if isinstance(replies, list | tuple) else [replies]
        lines = order([await self._line() for _ in some])
        for line in lines:
            self._note_client(line)
        expected = [
            self._names.expected(self._format.form(each), line)
            for each, line in zip(some, lines, strict=True)
        ]
        assert lines == expected, lines

    async def receives_in_any_order(self, replies: list[Plain]) -> None:
        """Be sent exactly this next, in whatever order: of several channels, or answers of NATS."""
        await self.receives(sorted(replies, key=_place), lambda lines: sorted(lines, key=_place))

    async def is_pinged(self, _nothing: None) -> None:
        """Be sent a ping, and not answer it."""
        assert await self._next() == PING

    async def is_closed(self, close: int | str) -> None:
        """Nothing but this close frame comes: `3501`, or `3501, the reason`."""
        code, _, reason = str(close).partition(", ")
        ending = await self._ending()
        assert ending.code == int(code)
        assert ending.reason == reason if reason else ending.reason

    async def leaves(self, _nothing: None) -> None:
        """Close the connection."""
        assert self._socket is not None
        self._over = True
        await self._socket.close()

    # The end of a row.

    async def stays(self) -> None:
        """Nothing came that the row does not tell: not before the answer to one more command, which NATS confirms."""
        if self._over or self._socket is None:
            return
        if self._authenticated:
            await self.sends({"id": LAST_ID, "publish": {"channel": LAST_CHANNEL, "data": 0}})
            line = await self._line()
            assert line.get("id") == LAST_ID, f"{self._who} was sent what the row does not tell: {line}"
        else:
            async with asyncio.timeout(PATIENCE):
                await (await self._socket.ping())
        assert not self._lines

    async def drop(self) -> None:
        """End the connection, whatever state it is in."""
        if self._socket is not None:
            self._socket.transport.abort()
            await self._socket.wait_closed()

    def _fields(self, request: Plain) -> Iterator[tuple[str, str]]:
        """The header fields of a handshake: `bearer` holds claims, `cookies` claims by name."""
        if "bearer" in request:
            yield "Authorization", f"Bearer {self._names.signed(request['bearer'])}"
        for name, claims in request.get("cookies", {}).items():
            yield "Cookie", f"{name}={self._names.signed(claims)}"
        yield from request.get("headers", {}).items()

    async def _ask(self, command: Plain, reply: Plain) -> None:
        self._number += 1
        await self.sends({"id": self._number, **command})
        line = await self._line()
        self._note_client(line)
        assert line.pop("id") == self._number
        assert line.keys() == reply.keys(), line
        assert ... in reply.values() or line == reply

    def _note_client(self, line: Plain) -> None:
        if "connect" in line:
            self._authenticated = True
            self._names.bind_client(self._who, line["connect"]["client"])

    async def _write(self, frame: str | bytes) -> None:
        assert self._socket is not None, f"{self._who}: the handshake was refused ({self._refused})"
        await self._socket.send(frame)

    async def _line(self) -> Plain:
        """Return the next line that is no ping."""
        while (line := await self._next()) == PING:
            await self.sends(PING)
        return line

    async def _next(self) -> Plain:
        """Return the next line, also a ping."""
        assert self._socket is not None, f"{self._who}: the handshake was refused ({self._refused})"
        while not self._lines:
            async with asyncio.timeout(PATIENCE):
                self._lines = self._format.lines(await self._socket.recv())
        return self._lines.pop(0)

    async def _ending(self) -> Close:
        with pytest.raises(ConnectionClosed) as ending:
            raise AssertionError(f"{self._who} was not closed, but sent {await self._line()}")
        self._over = True
        assert ending.value.rcvd is not None, "the connection was cut"
        return ending.value.rcvd


def _place(line: Plain) -> tuple[int, str]:
    """Return what orders lines that may come in any order: the command's id, or the push's channel."""
    return line.get("id", 0), line.get("push", {}).get("channel", "")


class WireBackend:
    """The application behind the edges: one NATS connection, made when a row needs it."""

    def __init__(self, url: str, names: Names) -> None:
        self._url = url
        self._names = names
        self._nats: NatsClient | None = None
        self._messages: asyncio.Queue[Msg] = asyncio.Queue()

    # The verbs of the table.

    async def publishes(self, publication: Plain) -> None:
        """Publish natively: `channel`, `data`, and `tags`."""
        tags = publication.get("tags")
        headers = {"Tw-Tags": json.dumps(tags)} if tags is not None else None
        subject = f"tw.pub.{encode_channel(publication['channel'])}"
        await self._tell(subject, json.dumps(publication["data"]).encode(), headers)

    async def orders(self, order: Plain | str) -> None:
        """Give an order to all edges: an object, or text as it stands."""
        text = order if isinstance(order, str) else json.dumps(self._names.sent({"v": 1, **order}))
        await self._tell(CONTROL_ALL.decode(), text.encode())

    async def answers(self, rule: Plain) -> None:
        """Answer calls of `method`: with `data`, or with an `error` of a code and a message."""

        async def respond(call: Msg) -> None:
            error = rule.get("error", {})
            headers = (
                {"Nats-Service-Error-Code": str(error["code"]), "Nats-Service-Error": error["message"]}
                if error
                else None
            )
            connection = await self._connected()
            await connection.publish(call.reply, json.dumps(rule.get("data")).encode(), headers=headers)

        connection = await self._connected()
        await connection.subscribe(f"tw.rpc.{rule['method']}", cb=respond)
        await flushed(connection)

    async def listens(self, _nothing: None) -> None:
        """Take the messages that clients send."""
        connection = await self._connected()
        await connection.subscribe("tw.ev.message", cb=self._messages.put)
        await flushed(connection)

    async def hears(self, expected: Plain) -> None:
        """Have such a message next: `user`, `client`, `data`."""
        async with asyncio.timeout(PATIENCE):
            message = await self._messages.get()
        fields = message.headers or {}
        heard = {
            "user": unquote(fields["Tw-User"]),
            "client": fields["Tw-Client"],
            "data": json.loads(message.data),
        }
        assert heard == self._names.expected(expected, heard)

    async def drop(self) -> None:
        """End the connection, if there is one."""
        if self._nats is not None:
            await self._nats.close()

    async def _connected(self) -> NatsClient:
        if self._nats is None:
            self._nats = await nats.connect(self._url, connect_timeout=int(PATIENCE))
        return self._nats

    async def _tell(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        """Publish, and wait until nats-server has passed it on."""
        connection = await self._connected()
        await connection.publish(subject, data, headers=headers)
        await flushed(connection)


Actor = WireClient | WireBackend
