"""Metrics of the edge's core: commands, publications, orders. No channel, user or token is ever a label of any metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.edge.fan_out_telemetry import FanOutTelemetry
from tidewire.edge.recovery_telemetry import RecoveryTelemetry
from tidewire.kernel.seldom import Seldom
from tidewire.platform.exposition import Merge
from tidewire.platform.metrics import Counter, Gauge, Histogram, Registry, metrics_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from tidewire.edge.dispatcher import Dispatcher
    from tidewire.edge.hub import Hub
    from tidewire.edge.ports import Metrics

APPLICATION_CODES = range(400, 2000)


class Telemetry(FanOutTelemetry, RecoveryTelemetry):
    """Implements ports.Metrics, and hears how late the loop is."""

    def __init__(self, log: FilteringBoundLogger, monotonic: Callable[[], float]) -> None:
        FanOutTelemetry.__init__(self)
        RecoveryTelemetry.__init__(self)
        self._log = log
        self._seldom = Seldom(monotonic)
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
        self._throttled = Counter(
            "tidewire_commands_throttled",
            "Commands that came faster than client.command_rate_limit: refused (error 111), or closed (3013: the client did "
            "not slow down, and no command of the frame was carried out).",
            ["outcome"],
        )
        self._opened = Counter(
            "tidewire_connections_opened",
            "Connections that authenticated, by wire format and compression (deflate, none).",
            ["format", "compression"],
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
        self._loop_lag = Histogram(
            "tidewire_event_loop_lag_seconds",
            "How late the edge's own timer fires: above 0.1 the edge is overloaded.",
        )

    def register(self, registry: Registry, hub: Hub, dispatcher: Dispatcher, version: str) -> None:
        """Expose everything, with gauges read from the live parts."""
        registry.add(metrics_of(self))
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
                    lambda: float(len(dispatcher.connections)),
                ),
                Gauge(
                    "tidewire_delta_base_bytes",
                    "Bytes of publications kept to make the next delta of.",
                    lambda: float(hub.deltas.kept),
                ),
                Gauge("tidewire_channels", "Channels that this edge hears.", lambda: float(len(hub))),
                Gauge(
                    "tidewire_subscriptions",
                    "Subscriptions of this edge's connections.",
                    lambda: float(hub.subscriptions),
                ),
                Gauge(
                    "tidewire_batches_waiting",
                    "Channels whose batch waits for its time.",
                    lambda: float(len(hub.batches)),
                ),
                Gauge(
                    "tidewire_batches_held_bytes",
                    "Bytes of the publications that wait in batches.",
                    lambda: float(hub.batches.held),
                ),
                Gauge(
                    "tidewire_stragglers",
                    "Connections whose socket is full and that miss something in a conflating channel.",
                    lambda: float(len(hub.stragglers)),
                ),
                Gauge(
                    "tidewire_stragglers_kept_bytes",
                    "Bytes kept for them, once for all who miss the same.",
                    lambda: float(hub.stragglers.kept),
                ),
                Gauge(
                    "tidewire_users",
                    "Users with an id that have a connection here.",
                    lambda: float(len(dispatcher.users)),
                ),
                Gauge(
                    "tidewire_paced_work",
                    "Pieces of work for many connections that wait for their time slice: orders, deadlines, commands whose "
                    "keys have come. For long above 0: more of it than half of the loop does.",
                    lambda: float(len(dispatcher.pacer)),
                ),
            ]
        )

    # ports.Metrics

    def command(self, method: str, code: int, seconds: float, count: int = 1) -> None:
        """See ports.Metrics."""
        self._commands.inc(count, (method, _label(code) if code else "0"))
        self._command_seconds.observe(seconds, (method,), count)

    def commands_dropped(self, count: int) -> None:
        """See ports.Metrics."""
        self._commands_dropped.inc(count)

    def commands_throttled(self, outcome: str, count: int) -> None:
        """See ports.Metrics."""
        self._throttled.inc(count, (outcome,))

    def connection_opened(self, format_name: str, compression: str) -> None:
        """See ports.Metrics."""
        self._opened.inc(1, (format_name, compression))

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
        """See ports.Metrics. One is logged in a minute."""
        self.order_taken("unknown", "malformed")
        if self._seldom.allows("order.malformed"):
            self._log.warning("order.malformed", reason=why)

    def order_lost(self) -> None:
        """See ports.Metrics."""
        self._orders_lost.inc()

    # The ticker.

    def loop_lag(self, seconds: float) -> None:
        """The edge's timer was late by this."""
        self._loop_lag.observe(seconds)


def _label(code: int) -> str:
    return "application" if code in APPLICATION_CODES else str(code)


if TYPE_CHECKING:
    _: type[Metrics] = Telemetry
