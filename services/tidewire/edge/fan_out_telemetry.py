"""Metrics of publications on their way through the edge: what came, what was written of it to whom, and what was spared."""

from __future__ import annotations

from tidewire.platform.metrics import Counter, Histogram

SIZE_OF_BATCH = (1, 3, 10, 30, 100, 300, 1_000, 10_000)
SIZE_OF_FAN_OUT = (1, 10, 100, 1_000, 10_000, 100_000)


class FanOutTelemetry:
    """The part of ports.Metrics that the hub and what is below it report to."""

    def __init__(self) -> None:
        self._received = Counter(
            "tidewire_publications_received",
            "Publications that NATS delivered to this edge, once per channel.",
        )
        self._dropped = Counter(
            "tidewire_publications_dropped",
            "Publications that could not be delivered: not_json (a native publisher's data is not JSON), malformed "
            "(headers), version (written by a newer release), forged (on tw.out, but not by the channel's stream); and what a "
            "wildcard heard and must not deliver: "
            "restricted (a $ or # channel), forged_subject (no channel's, or another partition's).",
            ["reason"],
        )
        self._deltas_made = Counter(
            "tidewire_deltas_made",
            "Deltas computed: one for each publication after the first in a channel with subscribers that asked for them.",
        )
        self._delta_deliveries = Counter(
            "tidewire_delta_deliveries",
            "Deliveries to subscribers that asked for deltas: delta, or the whole publication since it was the first one for "
            "them, no_gain (the delta is not smaller), unasked (neither delta_publish nor its publisher wants it), too_large "
            "(it, the one before, or what goes out with it; or too much is kept in all). Without those caught up with.",
            ["outcome"],
        )
        self._delta_saved = Counter(
            "tidewire_delta_saved_bytes", "Bytes of publications that were not sent, since deltas were."
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
        self._batch_size = Histogram(
            "tidewire_batch_publications",
            "Publications of one batch (channels with batch_max_delay), as it goes out.",
            bounds=SIZE_OF_BATCH,
        )
        self._batch_delay = Histogram(
            "tidewire_batch_delay_seconds", "From the first publication of a batch to its write."
        )
        self._conflated = Counter(
            "tidewire_publications_conflated",
            "Publications that nobody was sent, since a newer one of their key came before their batch went out, with the same "
            "tags: of others it depends on the subscriber's filter which is sent.",
        )
        self._withheld = Counter(
            "tidewire_deliveries_withheld",
            "Deliveries that were not made in conflating channels, since the connection's socket was full.",
        )
        self._caught_up = Counter(
            "tidewire_deliveries_caught_up",
            "Of tidewire_deliveries those that connections got when their sockets took bytes again: the latest of each key. "
            "The difference to tidewire_deliveries_withheld was conflated, or is owed.",
        )
        self._unkept = Counter(
            "tidewire_publications_unkept",
            "Publications, once per form in which they are sent, that found no room among what is kept for slow connections "
            "(conflate_max_keys, or 64 MiB in all) and waited with each of them, up to client.queue_max_size.",
        )
        self._keys_ignored = Counter(
            "tidewire_publication_keys_ignored",
            "Publications with a Tw-Key that is none (empty, too long, not UTF-8, a control character): delivered, never "
            "conflated.",
        )

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

    def delta_made(self) -> None:
        """See ports.Metrics."""
        self._deltas_made.inc()

    def delta_delivered(self, outcome: str, deliveries: int, saved: int) -> None:
        """See ports.Metrics."""
        self._delta_deliveries.inc(deliveries, (outcome,))
        self._delta_saved.inc(saved)

    def batched(self, publications: int, seconds: float) -> None:
        """See ports.Metrics."""
        self._batch_size.observe(publications)
        self._batch_delay.observe(seconds)

    def conflated(self, count: int) -> None:
        """See ports.Metrics."""
        self._conflated.inc(count)

    def withheld(self, count: int) -> None:
        """See ports.Metrics."""
        self._withheld.inc(count)

    def unkept(self, count: int) -> None:
        """See ports.Metrics."""
        self._unkept.inc(count)

    def caught_up(self, deliveries: int, size: int) -> None:
        """See ports.Metrics."""
        self._caught_up.inc(deliveries)
        self._deliveries.inc(deliveries)
        self._fan_out_bytes.inc(size)

    def key_ignored(self) -> None:
        """See ports.Metrics."""
        self._keys_ignored.inc()

    def latency(self, seconds: float) -> None:
        """See ports.Metrics."""
        self._latency.observe(seconds)
