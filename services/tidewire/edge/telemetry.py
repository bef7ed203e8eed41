"""The edge's metrics and log events: listeners to what the core reports. No channel, user or token is ever a label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.edge.link_metrics import link_metrics
from tidewire.platform.exposition import Merge
from tidewire.platform.metrics import Counter, Gauge, Histogram, Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from tidewire.edge.connection import Connection
    from tidewire.edge.gate import Gate
    from tidewire.edge.hub import Hub
    from tidewire.edge.transport import WebSocketTransport
    from tidewire.platform.nats_link import NatsLink

STANDARD_CODES = range(1000, 1016)
"""Close codes of RFC 6455; a client may send any up to 4999, and must not choose our label values."""
QUIET_SECONDS = 60.0
MAX_ORIGIN = 256
APPLICATION_CODES = range(400, 2000)
SIZE_OF_FAN_OUT = (1, 10, 100, 1_000, 10_000, 100_000)


class Telemetry:
    """Counts for Prometheus, and writes the one log line of each connection. Implements the metrics ports."""

    def __init__(self, log: FilteringBoundLogger, monotonic: Callable[[], float]) -> None:
        self._log = log
        self._monotonic = monotonic
        self._logged: dict[str, float] = {}
        self._handshakes = Counter(
            "tidewire_handshakes",
            "Requests to the WebSocket path by outcome: accepted, or why not (origin, token_in_url, broker_away, "
            "connection_limit, sockets, timeout, head_too_large, bad_request, bad_upgrade).",
            ["outcome"],
        )
        self._opened = Counter(
            "tidewire_connections_opened", "Connections that authenticated, by wire format.", ["format"]
        )
        self._closed = Counter(
            "tidewire_connections_closed",
            "Accepted connections that ended, by close code (3xxx: the edge's own, see the protocol table; 1000 and 1001: "
            "the client went; 1006: the network; other: a code of the client's own).",
            ["code"],
        )
        self._commands = Counter(
            "tidewire_commands",
            "Commands answered, by method and code of the reply (0: success; application: a responder's own).",
            ["method", "code"],
        )
        self._command_seconds = Histogram(
            "tidewire_command_duration_seconds",
            "From a command's arrival to its reply, broker included.",
            labels=["method"],
        )
        self._commands_dropped = Counter(
            "tidewire_commands_dropped",
            "Commands neither carried out nor answered: they crossed the close on the wire, or had no id and found too much "
            "waiting.",
        )
        self._received = Counter(
            "tidewire_publications_received",
            "Publications that NATS delivered to this edge, once per channel.",
        )
        self._dropped = Counter(
            "tidewire_publications_dropped",
            "Publications that could not be delivered: not_json (a native publisher's data is not JSON), malformed "
            "(headers), version (written by a newer release); and what a wildcard heard and must not deliver: "
            "restricted (a $ or # channel), forged_subject (no channel's, or another partition's).",
            ["reason"],
        )
        self._deliveries = Counter("tidewire_deliveries", "Publications written to connections.")
        self._fan_out_seconds = Histogram(
            "tidewire_fan_out_duration_seconds",
            "Time to encode and write the joined publications of one channel.",
        )
        self._fan_out_size = Histogram(
            "tidewire_fan_out_deliveries", "Deliveries of one fan-out.", bounds=SIZE_OF_FAN_OUT
        )
        self._fan_out_bytes = Counter("tidewire_fan_out_bytes", "Bytes written by fan-outs.")
        self._latency = Histogram(
            "tidewire_publish_to_delivery_seconds",
            "From the publisher's edge to the write on this one, by the two machines' clocks.",
        )
        self._slow = Counter(
            "tidewire_slow_consumers",
            "Connections closed with 3008: more pending bytes than client.queue_max_size.",
        )
        self._unsent = Counter(
            "tidewire_messages_unsent",
            "One-way messages (send) that could not be handed to NATS and are gone.",
        )
        self._orders = Counter(
            "tidewire_control_orders",
            "Orders that came over NATS, by kind (unknown: it could not be read) and outcome: done, nobody (no such "
            "connection here), refused, malformed.",
            ["kind", "outcome"],
        )
        self._orders_lost = Counter(
            "tidewire_control_orders_lost",
            "Orders to other edges that could not be handed to NATS: a user may keep two connections.",
        )
        self._turns_over = Counter(
            "tidewire_turns_over",
            "Times that a connection sent more than one turn of the loop works off (2 ms): a flood, or an overloaded edge.",
        )
        self._bytes_in = Counter("tidewire_received_bytes", "Bytes read from WebSocket connections.")
        self._bytes_out = Counter("tidewire_sent_bytes", "Bytes written to WebSocket connections.")
        self._loop_lag = Histogram(
            "tidewire_event_loop_lag_seconds",
            "How late the edge's own timer fires: above 0.1 the edge is overloaded.",
        )
        self._nats_errors = Counter(
            "tidewire_nats_errors",
            "Trouble on the NATS connection that left it alive: permissions, slow_consumer, callback, other.",
            ["kind"],
        )
        self._nats_lost = Counter("tidewire_nats_disconnects", "Times that the connection to NATS was lost.")
        self._nats_round_trip = Histogram(
            "tidewire_nats_round_trip_seconds", "PING to PONG on the NATS connection, once a second: its lag."
        )
        self._unmapped = Counter(
            "tidewire_unmapped_publications",
            "Publications found on tw.pub, which no mapped nats-server delivers: a node lacks the subject mapping.",
        )
        self._unmapped_lost = Counter(
            "tidewire_unmapped_publications_lost",
            "Of these, those that could not be put on their partition (larger than max_payload with the mark, or NATS "
            "is away): nobody received them.",
        )
        self._mapping_failures = Counter(
            "tidewire_nats_mapping_failures",
            "Times that the NATS node of this edge turned out to lack the subject mapping.",
        )

    def register(self, registry: Registry, hub: Hub, gate: Gate, link: NatsLink, version: str) -> None:
        """Expose everything, with gauges read from the live parts."""
        registry.add(value for value in vars(self).values() if isinstance(value, Counter | Histogram))
        registry.add(
            [
                Gauge(
                    "tidewire_build_info",
                    "Always 1; the label is the version.",
                    lambda: {(version,): 1.0},
                    ["version"],
                    Merge.MAX,
                ),
                Gauge(
                    "tidewire_connections",
                    "Connections whose handshake is done.",
                    lambda: float(len(gate.dispatcher.connections)),
                ),
                Gauge(
                    "tidewire_sockets",
                    "Sockets on the public port, handshakes included.",
                    lambda: float(gate.sockets),
                ),
                Gauge(
                    "tidewire_connection_limit",
                    "client.connection_limit, or less where the open-file limit allows no more.",
                    lambda: float(gate.limits.connections),
                ),
                Gauge("tidewire_channels", "Channels that this edge hears.", lambda: float(len(hub))),
                Gauge(
                    "tidewire_subscriptions",
                    "Subscriptions of this edge's connections.",
                    lambda: float(hub.subscriptions),
                ),
                Gauge(
                    "tidewire_users",
                    "Users with an id that have a connection here.",
                    lambda: float(len(gate.dispatcher.users)),
                ),
                Gauge(
                    "tidewire_pending_bytes",
                    "Bytes that wait for slow connections.",
                    lambda: float(sum(transport.pending for transport in gate.transports)),
                ),
                *link_metrics(link),
            ]
        )

    # ports.Metrics

    def command(self, method: str, code: int, seconds: float) -> None:
        """See ports.Metrics."""
        self._commands.inc(1, (method, "application" if code in APPLICATION_CODES else str(code)))
        self._command_seconds.observe(seconds, (method,))

    def commands_dropped(self, count: int) -> None:
        """See ports.Metrics."""
        self._commands_dropped.inc(count)

    def publication_received(self) -> None:
        """See ports.Metrics."""
        self._received.inc()

    def publication_dropped(self, reason: str) -> None:
        """See ports.Metrics."""
        self._dropped.inc(1, (reason,))

    def fanned_out(self, deliveries: int, size: int, seconds: float) -> None:
        """See ports.Metrics."""
        self._deliveries.inc(deliveries)
        self._fan_out_size.observe(deliveries)
        self._fan_out_bytes.inc(size)
        self._fan_out_seconds.observe(seconds)

    def latency(self, seconds: float) -> None:
        """See ports.Metrics."""
        self._latency.observe(seconds)

    def connection_opened(self, format_name: str) -> None:
        """See ports.Metrics."""
        self._opened.inc(1, (format_name,))

    def slow_consumer(self) -> None:
        """See ports.Metrics."""
        self._slow.inc()

    def messages_unsent(self, count: int) -> None:
        """See ports.Metrics."""
        self._unsent.inc(count)

    def order_taken(self, kind: str, outcome: str) -> None:
        """See ports.Metrics."""
        self._orders.inc(1, (kind, outcome))

    def order_malformed(self, why: str) -> None:
        """See ports.Metrics. One is logged in QUIET_SECONDS."""
        self.order_taken("unknown", "malformed")
        if self._seldom("order.malformed"):
            self._log.warning("order.malformed", reason=why)

    def order_lost(self) -> None:
        """See ports.Metrics."""
        self._orders_lost.inc()

    # gate.TransportMetrics

    def handshake(self, outcome: str) -> None:
        """See gate.TransportMetrics."""
        self._handshakes.inc(1, (outcome,))

    def refused(self, outcome: str, origin: str, peer: str) -> None:
        """See gate.TransportMetrics. One of a kind is logged in QUIET_SECONDS: browsers hide the reason from a page."""
        if self._seldom(outcome):
            self._log.warning("handshake.refused", outcome=outcome, origin=origin[:MAX_ORIGIN], peer=peer)

    def _seldom(self, kind: str) -> bool:
        """Return True at most once in QUIET_SECONDS for each kind."""
        now = self._monotonic()
        if now - self._logged.get(kind, -QUIET_SECONDS) < QUIET_SECONDS:
            return False
        self._logged[kind] = now
        return True

    def turn_over(self) -> None:
        """See gate.TransportMetrics."""
        self._turns_over.inc()

    def bytes_in(self, count: int) -> None:
        """See gate.TransportMetrics."""
        self._bytes_in.inc(count)

    def bytes_out(self, count: int) -> None:
        """See gate.TransportMetrics."""
        self._bytes_out.inc(count)

    def ended(self, connection: Connection, transport: WebSocketTransport) -> None:
        """See gate.TransportMetrics: count, and write the canonical line of the connection."""
        session, ours = connection.session, connection.disconnect
        code = ours.code if ours is not None else transport.close_code
        self._closed.inc(1, (str(code) if ours is not None or code in STANDARD_CODES else "other",))
        self._log.info(
            "connection.closed",
            client=session.party.client,
            user=session.party.user,
            jti=session.party.token_id,
            sdk=session.party.name,
            format=transport.framing.codec.name,
            peer=transport.peer,
            seconds=round(self._monotonic() - connection.opened_at, 3),
            code=code,
            reason=ours.reason if ours is not None else "",
            detail=session.party.detail,
            closed_by="edge" if ours is not None else "peer",
            commands=connection.commands,
            bytes_in=transport.bytes_in,
            bytes_out=transport.bytes_out,
        )

    # The link, the loop and the mapping.

    def loop_lag(self, seconds: float) -> None:
        """The edge's timer was late by this."""
        self._loop_lag.observe(seconds)

    def nats_error(self, kind: str) -> None:
        """Something went wrong on the NATS connection without ending it."""
        self._nats_errors.inc(1, (kind,))

    def nats_lost(self) -> None:
        """The connection to NATS is gone."""
        self._nats_lost.inc()

    def nats_round_trip(self, seconds: float) -> None:
        """NATS answered after this."""
        self._nats_round_trip.observe(seconds)

    def unmapped(self) -> None:
        """A publication came from a node without the mapping and was put right."""
        self._unmapped.inc()

    def unmapped_lost(self) -> None:
        """Such a publication could not be put right."""
        self._unmapped_lost.inc()

    def mapping_failed(self) -> None:
        """The node behind the link does not map."""
        self._mapping_failures.inc()
