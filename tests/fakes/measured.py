"""The metrics of an edge, registered with live parts on fakes."""

from __future__ import annotations

from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families
from structlog.typing import FilteringBoundLogger

from tests.fakes.clock import ManualClock
from tests.fakes.door import head
from tests.fakes.edge import FakeBroker, FakeKeys, ManualTimer, RecordingTransport, at_once, now, rules, token
from tests.fakes.log import RecordingLog
from tests.fakes.tcp import FakeTcp
from tidewire.edge.connection import Connection
from tidewire.edge.dispatcher import Dispatcher
from tidewire.edge.gate import Gate, Limits
from tidewire.edge.hub import Hub
from tidewire.edge.nats_telemetry import NatsTelemetry
from tidewire.edge.pacer import Pacer
from tidewire.edge.policies.origins import OriginPolicy
from tidewire.edge.reception import Reception
from tidewire.edge.session import Session
from tidewire.edge.socket_telemetry import SocketTelemetry
from tidewire.edge.telemetry import Telemetry
from tidewire.edge.timers import Timers, Timing
from tidewire.edge.transport import WebSocketTransport
from tidewire.edge.users import Users
from tidewire.edge.wire.json_codec import JSON
from tidewire.kernel.errors import Disconnect
from tidewire.kernel.ids import ConnectionId
from tidewire.platform.metrics import Registry
from tidewire.platform.rotation import Rotation

USER = "user-42-of-the-test"


class MeasuredEdge:
    """Telemetry registered with live parts on fakes."""

    def __init__(self) -> None:
        self.log = RecordingLog()
        self.clock = ManualClock()
        log = cast("FilteringBoundLogger", self.log)
        self.telemetry = Telemetry(log, self.clock.monotonic)
        self.sockets = SocketTelemetry(log, self.clock.monotonic)
        self.nats = NatsTelemetry(log, self.clock.monotonic)
        self.broker = FakeBroker()
        self.hub = Hub(self.broker, self.telemetry, self.clock, 10, ManualTimer(self.clock))
        self.dispatcher = Dispatcher(
            rules(self.clock),
            self.hub,
            self.broker,
            FakeKeys(),
            self.telemetry,
            Timers(Timing(25, 8, 10), lambda: 0.0),
            Pacer(self.clock, at_once),
        )
        self.gate = Gate(
            Limits(7, 1000, 1000, 5.0, 5.0),
            OriginPolicy([]),
            "",
            self.dispatcher,
            self.sockets,
            lambda: True,
            lambda: Reception(self.gate),
        )
        self.gate.handshakes = Rotation(self.sockets.turn_over, now)
        self.registry = Registry()
        self.telemetry.register(self.registry, self.hub, self.dispatcher, "1.2.3")
        self.sockets.register(self.registry, self.gate)
        self.nats.register(self.registry)

    def report(self, method: str, *arguments: Any) -> None:
        """Report something to whichever of the three hears such."""
        for each in (self.telemetry, self.sockets, self.nats):
            if hasattr(each, method):
                getattr(each, method)(*arguments)

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of the edge's own families, by name and labels."""
        families = text_string_to_metric_families(self.registry.exposition().decode())
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
            if sample.name.startswith("tidewire_")
        }

    def value(self, name: str, **labels: str) -> float:
        """One sample; 0 while there is none."""
        return self.samples().get((name, frozenset(labels.items())), 0.0)

    def connection(self, *, json: bool = True) -> Connection:
        """A connection without a socket."""
        session = Session(ConnectionId("c1"), rules(self.clock), Users(), json=json)
        return Connection(session, RecordingTransport(), self.clock.monotonic())

    def ended(self, by_edge: Disconnect | None) -> dict[str, Any]:
        """End an authenticated connection and return the fields of its log line."""
        connection = self.connection()
        text = token(USER, secret="hidden")
        command = b'{"id":1,"connect":{"token":"%b","name":"js-sdk"}}' % text.encode()
        connection.session.receive(JSON.decode(command))
        connection.commands = 3
        connection.disconnect = by_edge
        self.clock.advance(12.3456)
        tcp = FakeTcp(Reception(self.gate))
        tcp.receive(head())
        transport = cast("WebSocketTransport", tcp.protocol)
        transport.bytes_in, transport.bytes_out = 11, 22
        self.sockets.ended(connection, transport)
        level, event, fields = self.log.lines[-1]
        assert (level, event) == ("info", "connection.closed")
        assert text not in repr(fields)
        assert "hidden" not in repr(fields)
        return fields
