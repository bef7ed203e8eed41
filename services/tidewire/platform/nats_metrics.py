"""What the NATS link counts itself, as metrics that are read when somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.platform.exposition import Merge
from tidewire.platform.metrics import Gauge, Total

if TYPE_CHECKING:
    from tidewire.platform.nats_link import NatsLink


def link_metrics(link: NatsLink) -> list[Gauge | Total]:
    """Return the link's state, traffic and troubles."""
    return [
        Gauge(
            "tidewire_nats_connected",
            "1 while NATS is reachable.",
            lambda: float(link.state.value == "connected"),
            merge=Merge.MIN,
        ),
        Total(
            "tidewire_nats_reconnects",
            "Times that a new NATS connection was made.",
            lambda: link.stats.reconnects,
        ),
        Total("tidewire_nats_received_messages", "Messages from NATS.", lambda: link.stats.in_msgs),
        Total("tidewire_nats_received_bytes", "Their headers and payloads.", lambda: link.stats.in_bytes),
        Total("tidewire_nats_sent_messages", "Messages to NATS.", lambda: link.stats.out_msgs),
        Total("tidewire_nats_sent_bytes", "Their headers and payloads.", lambda: link.stats.out_bytes),
        Total(
            "tidewire_nats_callback_errors",
            "Exceptions in what hears NATS messages: mistakes of Tidewire.",
            lambda: link.stats.callback_errors,
        ),
        Gauge(
            "tidewire_nats_pending_bytes",
            "Bytes that wait for the NATS socket.",
            lambda: link.pending_bytes,
        ),
    ]
