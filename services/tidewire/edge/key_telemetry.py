"""Metrics of the issuers' key sets. The label is the configured URL without its query."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.platform.exposition import Merge
from tidewire.platform.metrics import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidewire.edge.policies.key_cache import KeyCache, KeySource
    from tidewire.edge.ports import KeyMetrics
    from tidewire.kernel.clock import Clock
    from tidewire.platform.metrics import Registry


class KeyTelemetry:
    """Implements ports.KeyMetrics, with gauges read from the cache."""

    def __init__(self, cache: KeyCache, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock
        self._fetches = Counter(
            "tidewire_jwks_fetches",
            "Fetches of a key set by outcome: ok, or why not (timeout, connection, status, too_large, encoding, malformed, "
            "interrupted).",
            ["url", "outcome"],
        )
        self._seconds = Histogram(
            "tidewire_jwks_fetch_duration_seconds", "Time that a fetch of a key set took."
        )

    def register(self, registry: Registry) -> None:
        """Expose everything."""
        registry.add(
            [
                self._fetches,
                self._seconds,
                Gauge(
                    "tidewire_jwks_up",
                    "1 while the last fetch of the key set went well, 0 while its issuer is away.",
                    self._read(lambda source: float(source.fetched_at is not None and not source.problem)),
                    ["url"],
                    Merge.MIN,
                ),
                Gauge(
                    "tidewire_jwks_keys",
                    "Keys of the set that are used: 0 before the first fetch and after max_stale.",
                    self._read(lambda source: float(source.usable(self._clock.monotonic()))),
                    ["url"],
                    Merge.MIN,
                ),
                Gauge(
                    "tidewire_jwks_keys_ignored",
                    "Keys of the set that cannot be used: of another use, kind or algorithm, too weak, private, or two "
                    "of one kid.",
                    self._read(lambda source: float(len(source.held.ignored))),
                    ["url"],
                    Merge.MAX,
                ),
                Gauge(
                    "tidewire_jwks_age_seconds",
                    "Time since the last fetch that went well; +Inf before the first.",
                    self._read(self._age),
                    ["url"],
                    Merge.MAX,
                ),
                Gauge(
                    "tidewire_jwks_waiting",
                    "Commands that wait for a fetch because their token's key is not held.",
                    self._read(lambda source: float(source.waiting)),
                    ["url"],
                ),
            ]
        )

    def keys_fetched(self, url: str, outcome: str, seconds: float) -> None:
        """See ports.KeyMetrics."""
        self._fetches.inc(1, (url, outcome))
        self._seconds.observe(seconds)

    def _age(self, source: KeySource) -> float:
        return float("inf") if source.fetched_at is None else self._clock.monotonic() - source.fetched_at

    def _read(self, number: Callable[[KeySource], float]) -> Callable[[], dict[tuple[str, ...], float]]:
        return lambda: {(source.name,): number(source) for source in self._cache.sources.values()}


if TYPE_CHECKING:
    _: type[KeyMetrics] = KeyTelemetry
