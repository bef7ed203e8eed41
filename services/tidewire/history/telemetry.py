"""What the history service counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.platform.metrics import Counter, Gauge, Registry, Total, metrics_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tidewire.history.cache import Cache
    from tidewire.history.feed import Feed


class Telemetry:
    """Implements `ports.Metrics`."""

    def __init__(self) -> None:
        self._heard = Counter(
            "tidewire_history_publications",
            "Publications taken from streams, by storage profile.",
            ["profile"],
        )
        self._dropped = Counter(
            "tidewire_history_dropped",
            "Messages that are in no channel's history: not what JetStream published again (forged), of a namespace without "
            "history (no_history), on a subject that is no channel's on its partition (no_channel), or with a wildcard in it "
            "(wildcard), which NATS stores and delivers to nobody.",
            ["reason"],
        )
        self._repaired = Counter(
            "tidewire_history_repaired",
            "Publications that did not come live, by what a look at the stream brought: found; gone, so that nothing before is "
            "proven by memory; too_many, so that memory began anew.",
            ["outcome"],
        )
        self._lives = Counter(
            "tidewire_history_epochs",
            "Times that the channels of a stream got an epoch: at the start, by a new generation, since the stream went_back "
            "(this is an alarm), or since it was made anew elsewhere.",
            ["reason"],
        )
        self._reads = Counter(
            "tidewire_history_reads",
            "Reads that were answered, from memory or with the help of the stream, by their outcome.",
            ["source", "outcome"],
        )
        self._joined = Counter(
            "tidewire_history_reads_joined", "Reads that waited for the same one that was under way."
        )
        self._refused = Counter(
            "tidewire_history_reads_refused",
            "Reads that were refused (busy), since too many wait for streams: of all, or of the same connection.",
        )
        self._positions = Counter(
            "tidewire_history_positions", "Positions told, from memory or the stream.", ["source"]
        )
        self._purges = Counter("tidewire_history_purges", "Channels purged.")

    def register(
        self,
        registry: Registry,
        cache: Cache,
        feeds: Callable[[], Mapping[str, Feed]],
        under_way: Callable[[], int],
        requests_waiting: Callable[[], int],
        now: Callable[[], float],
    ) -> None:
        """Expose everything."""
        registry.add(metrics_of(self))
        registry.add(
            [
                Gauge("tidewire_history_channels", "Channels in memory.", lambda: len(cache)),
                Gauge("tidewire_history_cache_bytes", "What they take, about.", lambda: cache.bytes),
                Total(
                    "tidewire_history_evicted_publications",
                    "Publications that left memory for want of room; they can be read from the stream.",
                    lambda: cache.bodies_evicted,
                ),
                Total(
                    "tidewire_history_evicted_channels",
                    "Channels that left memory for want of room.",
                    lambda: cache.channels_evicted,
                ),
                Gauge("tidewire_history_waiting_reads", "Reads that wait for a stream.", under_way),
                Gauge(
                    "tidewire_history_waiting_requests",
                    "Requests to streams, of reads and other calls, that wait for their turn.",
                    requests_waiting,
                ),
                Gauge(
                    "tidewire_history_current",
                    "1 while memory is known to hold all that the stream has; else its channels are UNAVAILABLE.",
                    lambda: {(name,): float(feed.is_current(now())) for name, feed in feeds().items()},
                    ["stream"],
                ),
                Gauge(
                    "tidewire_history_sequence",
                    "How far the stream was followed.",
                    lambda: {(name,): float(feed.heard) for name, feed in feeds().items()},
                    ["stream"],
                ),
            ]
        )

    def heard(self, profile: str) -> None:
        """See ports.Metrics."""
        self._heard.values[profile,] += 1

    def dropped(self, reason: str) -> None:
        """See ports.Metrics."""
        self._dropped.inc(1, (reason,))

    def repaired(self, outcome: str, count: int = 1) -> None:
        """See ports.Metrics."""
        self._repaired.inc(count, (outcome,))

    def life_changed(self, reason: str) -> None:
        """See ports.Metrics."""
        self._lives.inc(1, (reason,))

    def read(self, source: str, outcome: str) -> None:
        """See ports.Metrics."""
        self._reads.inc(1, (source, outcome))

    def refused(self) -> None:
        """See ports.Metrics."""
        self._refused.inc()

    def joined(self) -> None:
        """See ports.Metrics."""
        self._joined.inc()

    def positions(self, source: str, count: int) -> None:
        """See ports.Metrics."""
        self._positions.inc(count, (source,))

    def purged(self) -> None:
        """See ports.Metrics."""
        self._purges.inc()
