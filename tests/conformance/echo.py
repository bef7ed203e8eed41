"""An echo on the edge's own transport, handshake and frame reader, for conformance suites: nothing but the session is left out."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import Any, cast

import uvloop

from tests.fakes.edge import CountingMetrics
from tidewire.edge import transport
from tidewire.edge.dispatcher import Dispatcher
from tidewire.edge.frames import BINARY, TEXT, FrameReader
from tidewire.edge.gate import Gate, Limits
from tidewire.edge.policies.origins import OriginPolicy
from tidewire.edge.reception import Reception
from tidewire.edge.timers import TICK
from tidewire.edge.transport import WebSocketTransport

LIMITS = Limits(
    connections=100,
    message_size=32 << 20,
    pending_bytes=1 << 30,
    handshake_timeout=5.0,
    close_timeout=5.0,
    deflate_min_size=0,
)


class EchoReader(FrameReader):
    """The reader, which tells besides whether a message came as text or binary: an edge need not know."""

    __slots__ = ("_opcode", "opcodes")

    def __init__(self, limit: int, *, deflate: bool = False) -> None:
        super().__init__(limit, deflate=deflate)
        self._opcode = 0
        self.opcodes: list[int] = []
        """Of the messages of the last `feed`."""

    def feed(self, data: bytes) -> list[bytes]:
        """See FrameReader."""
        first = (self._rest or data)[0] & 0x0F
        self.opcodes = []
        messages = super().feed(data)
        if messages and not self.opcodes:  # by the short way for one whole frame
            self.opcodes.append(first)
        return messages

    def _frame(self, data: bytes, at: int, messages: list[bytes]) -> int:
        known = len(messages)
        end = super()._frame(data, at, messages)
        if end and data[at] & 0x0F in {TEXT, BINARY}:
            self._opcode = data[at] & 0x0F
        if len(messages) > known:
            self.opcodes.append(self._opcode)
        return end


class Echo:
    """What a transport needs of a dispatcher: sends each message back, as it came."""

    def __init__(self) -> None:
        self.connections: dict[object, None] = {}

    def opened(self, _client: object, tcp: WebSocketTransport, **_: object) -> Any:
        """See Dispatcher."""
        return SimpleNamespace(transport=tcp, disconnect=None)

    def received(self, connection: Any, payload: bytes) -> None:
        """See Dispatcher."""
        tcp = connection.transport
        frame = tcp.framing.wrap(payload)
        opcode = tcp._reader.opcodes.pop(0)
        tcp.send(bytes((frame[0] & 0xF0 | opcode,)) + frame[1:])

    def lost(self, _connection: object) -> None:
        """See Dispatcher."""

    def slow(self, connection: Any) -> None:
        """See Dispatcher."""
        connection.transport.abort()


async def serve() -> None:
    """Serve until the process is ended; the first line of output is the port."""
    transport.FrameReader = EchoReader  # type: ignore[misc]
    gate = Gate(
        LIMITS,
        OriginPolicy(["*"]),
        "",
        cast("Dispatcher", Echo()),
        CountingMetrics(),
        lambda: True,
        asyncio.Protocol,
    )
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Reception(gate), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while True:
        await asyncio.sleep(TICK)
        gate.tick()


if __name__ == "__main__":
    sys.exit(uvloop.run(serve()))
