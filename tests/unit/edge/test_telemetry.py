from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.typing import FilteringBoundLogger

from tests.fakes.clock import ManualClock
from tests.fakes.edge import FakeBroker, FakeKeys, RecordingTransport, at_once, rules, token
from tests.fakes.log import RecordingLog
from tests.fakes.nats import FakeLink
from tests.fakes.tcp import FakeTcp
from tidewire.edge import gate as gate_module
from tidewire.edge import ports
from tidewire.edge.connection import Connection
from tidewire.edge.dispatcher import Dispatcher
from tidewire.edge.gate import Gate, Limits
from tidewire.edge.hub import Hub
from tidewire.edge.pacer import Pacer
from tidewire.edge.policies.origins import OriginPolicy
from tidewire.edge.session import Session
from tidewire.edge.subscriptions import PLAIN
from tidewire.edge.telemetry import Telemetry
from tidewire.edge.timers import Timers, Timing
from tidewire.edge.transport import WebSocketTransport
from tidewire.edge.users import Users
from tidewire.edge.wire.json_codec import JSON
from tidewire.kernel import errors
from tidewire.kernel.errors import Disconnect
from tidewire.kernel.ids import ConnectionId
from tidewire.platform.metrics import Registry
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import LinkState

USER = "user-42-of-the-test"
CHANNEL = "chat:channel-of-the-test"
LABELS = {"outcome", "format", "code", "method", "reason", "kind", "version", "le"}


class Edge:
    """Telemetry registered with live parts on fakes."""

    def __init__(self) -> None:
        self.log = RecordingLog()
        self.clock = ManualClock()
        self.telemetry = Telemetry(cast("FilteringBoundLogger", self.log), self.clock.monotonic)
        self.broker = FakeBroker()
        self.hub = Hub(self.broker, self.telemetry, self.clock, 10)
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
            self.telemetry,
            lambda: True,
            lambda: WebSocketTransport(self.gate),
        )
        self.link = FakeLink()
        self.registry = Registry()
        self.telemetry.register(self.registry, self.hub, self.gate, cast("NatsLink", self.link), "1.2.3")

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
        transport = WebSocketTransport(self.gate)
        FakeTcp(transport)
        transport.bytes_in, transport.bytes_out = 11, 22
        self.telemetry.ended(connection, transport)
        level, event, fields = self.log.lines[-1]
        assert (level, event) == ("info", "connection.closed")
        assert text not in repr(fields)
        assert "hidden" not in repr(fields)
        return fields


@pytest.fixture
def edge() -> Edge:
    """A silent edge."""
    return Edge()


CALLS: list[tuple[str, tuple[Any, ...], dict[tuple[str, str], float]]] = [
    (
        "command",
        ("publish", 103, 0.2),
        {
            ("tidewire_commands_total", "method=publish,code=103"): 1,
            ("tidewire_command_duration_seconds_sum", "method=publish"): 0.2,
            ("tidewire_command_duration_seconds_count", "method=publish"): 1,
        },
    ),
    ("commands_dropped", (3,), {("tidewire_commands_dropped_total", ""): 3}),
    ("publication_received", (), {("tidewire_publications_received_total", ""): 1}),
    ("publication_dropped", ("version",), {("tidewire_publications_dropped_total", "reason=version"): 1}),
    (
        "fanned_out",
        (5, 700, 0.01),
        {
            ("tidewire_deliveries_total", ""): 5,
            ("tidewire_fan_out_bytes_total", ""): 700,
            ("tidewire_fan_out_deliveries_sum", ""): 5,
            ("tidewire_fan_out_duration_seconds_sum", ""): 0.01,
        },
    ),
    ("latency", (0.03,), {("tidewire_publish_to_delivery_seconds_sum", ""): 0.03}),
    ("connection_opened", ("json",), {("tidewire_connections_opened_total", "format=json"): 1}),
    ("slow_consumer", (), {("tidewire_slow_consumers_total", ""): 1}),
    ("messages_unsent", (2,), {("tidewire_messages_unsent_total", ""): 2}),
    (
        "order_taken",
        ("disconnect", "done"),
        {("tidewire_control_orders_total", "kind=disconnect,outcome=done"): 1},
    ),
    ("order_lost", (), {("tidewire_control_orders_lost_total", ""): 1}),
    ("handshake", ("origin",), {("tidewire_handshakes_total", "outcome=origin"): 1}),
    ("refused", ("origin", "https://a.example", "192.0.2.1:4"), {}),
    ("turn_over", (), {("tidewire_turns_over_total", ""): 1}),
    ("bytes_in", (10,), {("tidewire_received_bytes_total", ""): 10}),
    ("bytes_out", (20,), {("tidewire_sent_bytes_total", ""): 20}),
    ("loop_lag", (0.5,), {("tidewire_event_loop_lag_seconds_sum", ""): 0.5}),
    ("nats_error", ("other",), {("tidewire_nats_errors_total", "kind=other"): 1}),
    ("nats_lost", (), {("tidewire_nats_disconnects_total", ""): 1}),
    ("nats_round_trip", (0.001,), {("tidewire_nats_round_trip_seconds_sum", ""): 0.001}),
    ("unmapped", (), {("tidewire_unmapped_publications_total", ""): 1}),
    ("unmapped_lost", (), {("tidewire_unmapped_publications_lost_total", ""): 1}),
    ("mapping_failed", (), {("tidewire_nats_mapping_failures_total", ""): 1}),
]


def _labels(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in text.split(",")) if text else {}


@pytest.mark.parametrize(("method", "arguments", "expected"), CALLS, ids=[call[0] for call in CALLS])
def test_each_report_changes_its_own_families_and_no_others(
    edge: Edge, method: str, arguments: tuple[Any, ...], expected: dict[tuple[str, str], float]
) -> None:
    """By exactly what was reported."""
    before = edge.samples()
    getattr(edge.telemetry, method)(*arguments)
    for (name, labels), value in expected.items():
        assert edge.value(name, **_labels(labels)) == pytest.approx(value), name
    families = {name.removesuffix("_sum").removesuffix("_count") for name, _ in expected}
    changed = {name for name, _ in (edge.samples().items() ^ before.items())}
    for name, _ in changed:
        assert any(name.startswith(family) for family in families), name


def test_every_method_of_the_ports_is_in_the_list_above() -> None:
    """A new report needs its line."""
    listed = {call[0] for call in CALLS} | {"ended"}
    for port in (ports.Metrics, gate_module.TransportMetrics):
        wanted = {name for name, _ in inspect.getmembers(port, inspect.isfunction) if name[0] != "_"}
        assert wanted <= listed
    own = {name for name, _ in inspect.getmembers(Telemetry, inspect.isfunction) if name[0] != "_"} - {
        "register"
    }
    assert own == listed


def test_gauges_read_the_live_parts(edge: Edge) -> None:
    """At the moment of the scrape."""
    assert edge.value("tidewire_build_info", version="1.2.3") == 1
    assert (edge.value("tidewire_connections"), edge.value("tidewire_connection_limit")) == (0, 7)
    assert edge.value("tidewire_nats_connected") == 1
    edge.link.state = LinkState.AWAY
    assert edge.value("tidewire_nats_connected") == 0
    names = [
        "received_messages",
        "received_bytes",
        "sent_messages",
        "sent_bytes",
        "reconnects",
        "callback_errors",
    ]
    assert [edge.value(f"tidewire_nats_{name}_total") for name in names] == [1, 20, 3, 40, 5, 7]
    assert edge.value("tidewire_nats_pending_bytes") == 6
    tcp = FakeTcp(WebSocketTransport(edge.gate))
    assert edge.value("tidewire_sockets") == 1
    tcp.buffered = b"12345"
    assert edge.value("tidewire_pending_bytes") == 5
    waiting: list[float] = []
    edge.dispatcher.pacer.add(waiting.append(edge.value("tidewire_paced_work")) for _ in range(2))
    assert waiting == [1, 1]
    connection = edge.dispatcher.opened(ConnectionId("c"), RecordingTransport(), json=True)
    edge.hub.join(connection, CHANNEL, 1, binary=False)
    edge.broker.confirm(CHANNEL)
    edge.hub.enter(connection, CHANNEL, PLAIN)
    found = [edge.value(f"tidewire_{name}") for name in ("connections", "channels", "subscriptions")]
    assert found == [1, 1, 1]


def test_every_family_has_a_help_text_and_known_labels(edge: Edge) -> None:
    """An SRE reads the first; the second never hold a channel or a user."""
    for call, arguments, _ in CALLS:
        getattr(edge.telemetry, call)(*arguments)
    edge.ended(None)
    families = list(text_string_to_metric_families(edge.registry.exposition().decode()))
    own = [family for family in families if family.name.startswith("tidewire_")]
    assert len(own) > 20
    for family in own:
        assert len(family.documentation) > 10, family.name
        assert all(set(sample.labels) <= LABELS for sample in family.samples), family.name


def test_no_channel_and_no_user_is_a_label(edge: Edge) -> None:
    """Whatever a session did; nor its token."""
    transport = RecordingTransport()
    connection = edge.dispatcher.opened(ConnectionId("c"), transport, json=True)
    text = token(USER)
    say: Callable[[bytes], None] = lambda data: edge.dispatcher.received(connection, data)  # noqa: E731
    say(b'{"id":1,"connect":{"token":"%b"}}' % text.encode())
    say(b'{"id":2,"subscribe":{"channel":"%b"}}' % CHANNEL.encode())
    edge.broker.confirm(CHANNEL)
    say(b'{"id":3,"publish":{"channel":"%b","data":1}}' % CHANNEL.encode())
    edge.broker.published[0][3](None)
    edge.broker.sink(CHANNEL).receive(ports.Publication(b"1"))
    edge.hub.flush()
    exposition = edge.registry.exposition().decode()
    assert 'tidewire_commands_total{code="0",method="publish"} 1.0' in exposition
    for secret in (USER, CHANNEL, "channel-of-the-test", text):
        assert secret not in exposition


def test_one_line_tells_the_whole_connection(edge: Edge) -> None:
    """Who, how long, why, how much; times in seconds."""
    assert edge.ended(errors.SHUTDOWN) == {
        "client": "c1",
        "user": USER,
        "sdk": "js-sdk",
        "format": "json",
        "peer": "192.0.2.1:40000",
        "seconds": 12.346,
        "code": 3001,
        "reason": "shutdown",
        "detail": "",
        "token_id": "",
        "closed_by": "edge",
        "commands": 3,
        "bytes_in": 11,
        "bytes_out": 22,
    }
    assert edge.value("tidewire_connections_closed_total", code="3001") == 1


def test_peer_that_went_is_told_apart(edge: Edge) -> None:
    """Without a close frame the code is 1006."""
    fields = edge.ended(None)
    assert (fields["closed_by"], fields["code"], fields["reason"]) == ("peer", 1006, "")
    assert edge.value("tidewire_connections_closed_total", code="1006") == 1


def test_clients_cannot_choose_label_values(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may close with any of two thousand codes."""
    for code in (3000, 3777, 4999, 999, 1016, 1000):
        monkeypatch.setattr(WebSocketTransport, "close_code", property(lambda _self, code=code: code))
        assert edge.ended(None)["code"] == code
    closed = {
        dict(labels)["code"]: value
        for (name, labels), value in edge.samples().items()
        if name == "tidewire_connections_closed_total"
    }
    assert closed == {"other": 5, "1000": 1}


def test_refused_handshakes_are_logged_once_a_minute_for_each_kind(edge: Edge) -> None:
    """Browsers hide the reason from the page; a flood of them must not fill the disk."""
    for _ in range(3):
        edge.telemetry.refused("origin", "https://" + "a" * 1000, "192.0.2.1:4")
    edge.telemetry.refused("token_in_url", "", "192.0.2.1:4")
    events = [(name, fields["outcome"], len(fields["origin"])) for _, name, fields in edge.log.lines]
    assert events == [("handshake.refused", "origin", 256), ("handshake.refused", "token_in_url", 0)]


def test_codes_of_applications_are_one_label(edge: Edge) -> None:
    """A responder may choose any of 1,600."""
    for code in (400, 999, 1999):
        edge.telemetry.command("rpc", code, 0.1)
    assert edge.value("tidewire_commands_total", method="rpc", code="application") == 3
