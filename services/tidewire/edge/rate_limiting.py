"""Rate limits as the edge has them: what decides, the service that counts, and their life."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tidewire.edge.limit_telemetry import limit_metrics

if TYPE_CHECKING:
    from tidewire.edge.adapters.grpc_ratelimit import GrpcRateLimit
    from tidewire.edge.connection_limits import ConnectionLimits
    from tidewire.edge.limits import Limits
    from tidewire.edge.rules import Rules
    from tidewire.options.rate_limit_options import RateLimitsConfig
    from tidewire.platform.metrics import Gauge, Total


class RateLimiting:
    """What belongs to rate limits: the service that counts, and what decides by it."""

    def __init__(
        self,
        service: GrpcRateLimit,
        limits: Limits,
        places: ConnectionLimits,
        now: Callable[[], float],
    ) -> None:
        self.service = service
        self.places = places
        self._limits = limits
        self._now = now

    def configure(self, config: RateLimitsConfig, rules: Rules) -> None:
        """Follow a configuration; without rules no command is looked at."""
        self._limits.configure(config, self._now())
        self.places.configure(config)
        self.service.holds_places = bool(config.connections)
        needed = bool(config.rules or config.connections)
        rules.limits, rules.places = (self._limits, self.places) if needed else (None, None)

    def is_full(self, address: str) -> bool:
        """Return whether an address is known to have all its connections."""
        return self.places.address_is_full(address, self._now())

    def tick(self) -> None:
        """Drop what nobody uses."""
        self._limits.tick(self._now())

    def metrics(self) -> Iterable[Gauge | Total]:
        """Return what to expose."""
        return limit_metrics(self._limits, self.places, self.service.states)

    async def close(self) -> None:
        """Give back what is left, and end."""
        self._limits.close(self._now())
        await self.service.settle()
        await self.service.close()
