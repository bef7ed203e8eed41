"""The core of an edge on fakes: dispatcher, hub and sessions, without sockets, NATS or an event loop."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.fakes.clock import ManualClock
from tests.fakes.edge import (
    CountingMetrics,
    FakeBroker,
    FakeKeys,
    ManualTimer,
    RecordingTransport,
    at_once,
    rules,
    token,
)
from tests.fakes.kept import FakeHistory
from tidewire.edge.connection import Connection
from tidewire.edge.dispatcher import Dispatcher
from tidewire.edge.hub import Hub
from tidewire.edge.pacer import Later, Pacer
from tidewire.edge.ports import Publication, Tracer
from tidewire.edge.positions import Positions
from tidewire.edge.timers import TICK, Timers, Timing
from tidewire.edge.untraced import OFF
from tidewire.kernel.ids import ConnectionId

PING = "{}"


class Turns(list[Callable[[], None]]):
    """What a pacer wants to do in the loop's next turn."""

    def later(self, _seconds: float, turn: Callable[[], None]) -> None:
        """See pacer.Later."""
        self.append(turn)

    def turn(self) -> None:
        """Have it."""
        waiting = list(self)
        self.clear()
        for each in waiting:
            each()


class Core:
    """Dispatcher, hub and sessions, on a fake broker; time passes when the test says so."""

    def __init__(
        self,
        *,
        random: float = 0.0,
        name: str = "c",
        tracer: Tracer = OFF,
        later: Later = at_once,
        **config: Any,
    ) -> None:
        self.name = name
        self.opened = 0
        self.clock = ManualClock()
        self.broker = FakeBroker()
        self.keys = FakeKeys()
        self.metrics = CountingMetrics()
        self.timer = ManualTimer(self.clock)
        self.hub = Hub(self.broker, self.metrics, self.clock, 100, self.timer)
        self.timers = Timers(Timing(ping=25.0, pong=8.0, stale=10.0), lambda: random)
        self.rules = rules(self.clock, **config)
        self.dispatcher = Dispatcher(
            self.rules,
            self.hub,
            self.broker,
            self.keys,
            self.metrics,
            self.timers,
            Pacer(self.clock, later),
            tracer,
        )
        self.history = FakeHistory()
        self.positions = Positions(self.history, self.hub, self.rules, self.metrics, lambda: random)

    def client(self, user: str | None = "alice", **claims: Any) -> Client:
        """A client on a transport of its own; connected unless `user` is None."""
        client = Client(self)
        if user is not None:
            client.say({"id": 1, "connect": {"token": token(user, **claims)}})
            assert "connect" in client.heard()[0]
        return client

    def run(self, seconds: float) -> None:
        """Let time pass, tick by tick."""
        for _ in range(round(seconds / TICK)):
            self.clock.advance(TICK)
            self.dispatcher.tick()
            self.positions.tick()

    def deliver(self, channel: str, *data: object) -> None:
        """Publications of one read."""
        for each in data:
            self.broker.sink(channel).receive(Publication(json.dumps(each).encode()))
        self.hub.flush()

    def hear(self, channel: str, *publications: Publication) -> None:
        """Publications that the channel's stream publishes again, of one read."""
        for each in publications:
            self.broker.sink(channel).receive(each)
        self.hub.flush()

    def store(self, channel: str, *data: object) -> None:
        """Publish in a channel with history, heard at once."""
        self.hear(channel, *[self.history.publish(channel, each) for each in data])


class Client:
    """One connection, in JSON."""

    def __init__(self, core: Core) -> None:
        self.transport = RecordingTransport()
        self.core = core
        self.connection: Connection = core.dispatcher.opened(
            ConnectionId(f"{core.name}{core.opened}"), self.transport, json=True
        )
        core.opened += 1

    def say(self, *commands: dict[str, Any]) -> None:
        """Send commands in one frame."""
        self.raw("\n".join(map(json.dumps, commands)).encode())

    def raw(self, payload: bytes) -> None:
        """Send any bytes as one message."""
        self.core.dispatcher.received(self.connection, [payload])

    def frames(self) -> list[str]:
        """Frames written since the last call, without their WebSocket header."""
        frames, self.transport.frames = self.transport.frames, []
        return [frame[{126: 4, 127: 10}.get(frame[1], 2) :].decode() for frame in frames]

    def heard(self) -> list[dict[str, Any]]:
        """The same, as replies and pushes, pings left out."""
        lines = [line for frame in self.frames() for line in frame.split("\n")]
        return [json.loads(line) for line in lines if line != PING]

    def subscribe(self, channel: str, number: int = 2) -> Client:
        """Subscribe; the broker confirms where it is asked."""
        self.say({"id": number, "subscribe": {"channel": channel}})
        if not self.transport.frames:
            self.core.broker.confirm(channel)
        assert self.heard() == [{"id": number, "subscribe": {}}]
        return self

    @property
    def closed(self) -> int:
        """The code that the edge closed with, 0 while it has not."""
        return self.transport.closed.code if self.transport.closed is not None else 0
