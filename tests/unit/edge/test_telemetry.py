from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.edge import RecordingTransport, token
from tests.fakes.measured import USER, MeasuredEdge
from tidewire.edge import gate as gate_module
from tidewire.edge import ports
from tidewire.edge.nats_telemetry import NatsTelemetry
from tidewire.edge.socket_telemetry import SocketTelemetry
from tidewire.edge.subscription import PLAIN
from tidewire.edge.telemetry import Telemetry
from tidewire.kernel.ids import ConnectionId

CHANNEL = "chat:channel-of-the-test"
LABELS = {"compression", "outcome", "format", "code", "method", "reason", "kind", "version", "le"}


@pytest.fixture
def edge() -> MeasuredEdge:
    """A silent edge."""
    return MeasuredEdge()


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
    ("commands_throttled", ("refused", 3), {("tidewire_commands_throttled_total", "outcome=refused"): 3}),
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
    ("delta_made", (), {("tidewire_deltas_made_total", ""): 1}),
    (
        "delta_delivered",
        ("delta", 4, 90),
        {
            ("tidewire_delta_deliveries_total", "outcome=delta"): 4,
            ("tidewire_delta_saved_bytes_total", ""): 90,
        },
    ),
    ("recovery", ("trimmed",), {("tidewire_recoveries_total", "outcome=trimmed"): 1}),
    ("page_reused", (), {("tidewire_recovery_pages_reused_total", ""): 1}),
    ("gap", ("filled",), {("tidewire_position_gaps_total", "outcome=filled"): 1}),
    ("duplicate_dropped", (), {("tidewire_publications_duplicate_total", ""): 1}),
    (
        "positions_checked",
        (7, 2),
        {("tidewire_positions_checked_total", ""): 7, ("tidewire_positions_behind_total", ""): 2},
    ),
    ("latency", (0.03,), {("tidewire_publish_to_delivery_seconds_sum", ""): 0.03}),
    (
        "connection_opened",
        ("json", "deflate"),
        {("tidewire_connections_opened_total", "format=json,compression=deflate"): 1},
    ),
    (
        "batched",
        (3, 0.04),
        {
            ("tidewire_batch_publications_sum", ""): 3,
            ("tidewire_batch_delay_seconds_sum", ""): 0.04,
        },
    ),
    ("conflated", (2,), {("tidewire_publications_conflated_total", ""): 2}),
    ("withheld", (2,), {("tidewire_deliveries_withheld_total", ""): 2}),
    ("unkept", (2,), {("tidewire_publications_unkept_total", ""): 2}),
    (
        "caught_up",
        (3, 100),
        {
            ("tidewire_deliveries_caught_up_total", ""): 3,
            ("tidewire_deliveries_total", ""): 3,
            ("tidewire_fan_out_bytes_total", ""): 100,
        },
    ),
    ("key_ignored", (), {("tidewire_publication_keys_ignored_total", ""): 1}),
    ("slow_consumer", (), {("tidewire_slow_consumers_total", ""): 1}),
    ("messages_unsent", (2,), {("tidewire_messages_unsent_total", ""): 2}),
    (
        "order_taken",
        ("disconnect", "done"),
        {("tidewire_control_orders_total", "kind=disconnect,outcome=done"): 1},
    ),
    (
        "order_malformed",
        ("why",),
        {("tidewire_control_orders_total", "kind=unknown,outcome=malformed"): 1},
    ),
    ("order_lost", (), {("tidewire_control_orders_lost_total", ""): 1}),
    ("handshake", ("origin",), {("tidewire_handshakes_total", "outcome=origin"): 1}),
    ("refused", ("origin", "https://a.example", "192.0.2.1:4"), {}),
    ("turn_over", (), {("tidewire_turns_over_total", ""): 1}),
    ("bytes_in", (10,), {("tidewire_received_bytes_total", ""): 10}),
    ("bytes_out", (20,), {("tidewire_sent_bytes_total", ""): 20}),
    (
        "tls_handshake",
        ("version", "192.0.2.1:4711"),
        {("tidewire_tls_handshakes_total", "outcome=version"): 1},
    ),
    ("proxy_header", ("used", "192.0.2.1:4711"), {("tidewire_proxy_headers_total", "outcome=used"): 1}),
    (
        "forwarded",
        ("ignored", "192.0.2.1:4711"),
        {("tidewire_forwarded_addresses_total", "outcome=ignored"): 1},
    ),
    ("loop_lag", (0.5,), {("tidewire_event_loop_lag_seconds_sum", ""): 0.5}),
    ("nats_round_trip", (0.001,), {("tidewire_nats_round_trip_seconds_sum", ""): 0.001}),
    ("unmapped", (), {("tidewire_unmapped_publications_total", ""): 1}),
    ("unmapped_lost", (RuntimeError(),), {("tidewire_unmapped_publications_lost_total", ""): 1}),
    ("mapping_failed", (), {("tidewire_nats_mapping_failures_total", ""): 1}),
]


def _labels(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in text.split(",")) if text else {}


@pytest.mark.parametrize(("method", "arguments", "expected"), CALLS, ids=[call[0] for call in CALLS])
def test_each_report_changes_its_own_families_and_no_others(
    edge: MeasuredEdge, method: str, arguments: tuple[Any, ...], expected: dict[tuple[str, str], float]
) -> None:
    """By exactly what was reported."""
    before = edge.samples()
    edge.report(method, *arguments)
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
    own = {
        name
        for part in (Telemetry, SocketTelemetry, NatsTelemetry)
        for name, _ in inspect.getmembers(part, inspect.isfunction)
        if name[0] != "_"
    }
    assert own - {"register"} == listed


def test_gauges_read_the_live_parts(edge: MeasuredEdge) -> None:
    """At the moment of the scrape."""
    assert edge.value("tidewire_build_info", version="1.2.3") == 1
    assert edge.value("tidewire_connections") == 0
    waiting: list[float] = []
    edge.dispatcher.pacer.add(waiting.append(edge.value("tidewire_paced_work")) for _ in range(2))
    assert waiting == [1, 1]
    connection = edge.dispatcher.opened(ConnectionId("c"), RecordingTransport(), json=True)
    edge.hub.join(connection, CHANNEL, 1, binary=False)
    edge.broker.confirm(CHANNEL)
    edge.hub.enter(connection, CHANNEL, PLAIN)
    found = [edge.value(f"tidewire_{name}") for name in ("connections", "channels", "subscriptions")]
    assert found == [1, 1, 1]


def test_every_family_has_a_help_text_and_known_labels(edge: MeasuredEdge) -> None:
    """An SRE reads the first; the second never hold a channel or a user."""
    for call, arguments, _ in CALLS:
        edge.report(call, *arguments)
    edge.ended(None)
    families = list(text_string_to_metric_families(edge.registry.exposition().decode()))
    own = [family for family in families if family.name.startswith("tidewire_")]
    assert len(own) > 20
    for family in own:
        assert len(family.documentation) > 10, family.name
        assert all(set(sample.labels) <= LABELS for sample in family.samples), family.name


def test_no_channel_and_no_user_is_a_label(edge: MeasuredEdge) -> None:
    """Whatever a session did; nor its token."""
    transport = RecordingTransport()
    connection = edge.dispatcher.opened(ConnectionId("c"), transport, json=True)
    text = token(USER)
    say: Callable[[bytes], None] = lambda data: edge.dispatcher.received(connection, [data])  # noqa: E731
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


def test_malformed_orders_are_logged_once_a_minute(edge: MeasuredEdge) -> None:
    """Whoever gave one looks for why it did nothing."""
    for why in ("unknown field `clinet`", "too large"):
        edge.telemetry.order_malformed(why)
    assert edge.log.lines == [("warning", "order.malformed", {"reason": "unknown field `clinet`"})]
    edge.clock.advance(60)
    edge.telemetry.order_malformed("too large")
    assert len(edge.log.lines) == 2


def test_codes_of_applications_are_one_label(edge: MeasuredEdge) -> None:
    """A responder may choose any of 1,600."""
    for code in (400, 999, 1999):
        edge.telemetry.command("rpc", code, 0.1)
    assert edge.value("tidewire_commands_total", method="rpc", code="application") == 3
