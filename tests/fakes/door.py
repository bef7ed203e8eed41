"""The way into an edge on fakes: its gate and core, sockets, and what clients send."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from websockets.frames import Close, Frame, Opcode

from tests.fakes.clock import ManualClock
from tests.fakes.edge import CountingMetrics, FakeBroker, FakeKeys, ManualTimer, at_once, now, rules, token
from tests.fakes.tcp import FakeTcp
from tidewire.edge.dispatcher import Dispatcher
from tidewire.edge.gate import Gate, Limits
from tidewire.edge.hub import Hub
from tidewire.edge.pacer import Pacer
from tidewire.edge.policies.origins import OriginPolicy
from tidewire.edge.ports import Publication
from tidewire.edge.reception import Reception
from tidewire.edge.timers import TICK, Timers, Timing
from tidewire.platform.rotation import Rotation

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
        self,
        *,
        origins: tuple[str, ...] = (),
        connections: int = 10,
        deflate_min_size: int | None = None,
        **config: Any,
    ) -> None:
        self.clock = ManualClock()
        self.broker = FakeBroker()
        self.metrics = CountingMetrics()
        self.hub = Hub(self.broker, self.metrics, self.clock, 10, ManualTimer(self.clock))
        self.dispatcher = Dispatcher(
            rules(self.clock, **config),
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
        return FakeTcp(Reception(self.gate), address)

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


def answer(tcp: FakeTcp) -> tuple[int, dict[str, str]]:
    """Status and fields of the HTTP answer."""
    first, *lines = tcp.taken().partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return int(first.split(" ")[1]), {line.partition(": ")[0]: line.partition(": ")[2] for line in lines}
