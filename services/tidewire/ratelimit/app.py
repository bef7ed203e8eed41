"""The rate-limit service put together: the only module that knows every part. `platform.service` is the process around it."""

from __future__ import annotations

import asyncio
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from tidewire.ratelimit.envoy import EnvoyServicer
from tidewire.ratelimit.places import Places
from tidewire.ratelimit.rulebook import Rulebook
from tidewire.ratelimit.servicer import RateLimitServicer
from tidewire.ratelimit.telemetry import metrics_of

if TYPE_CHECKING:
    from tidewire.options.rate_limit_options import RateLimitsConfig
    from tidewire.platform.metrics import Registry
    from tidewire.platform.service import Surroundings
    from tidewire.ratelimit.config import RateLimitConfig

TICK: Final = 0.25
"""Seconds between two looks at what is over."""


class RateLimit:
    """What the rate-limit service does; implements `platform.service.Core`. It needs nothing but itself."""

    def __init__(self, config: RateLimitConfig, around: Surroundings) -> None:
        self._log = around.log
        self._now = around.clock.monotonic
        self._rulebook = Rulebook(config.rate_limits, config.rate_limit_service.max_keys)
        self._places = Places(
            _limits(config.rate_limits), config.rate_limit_service.max_keys, lambda: token_hex(8), self._now()
        )
        self._servicer = RateLimitServicer(self._rulebook, self._places, self._now)
        self.services = [self._servicer.service(), EnvoyServicer(self._rulebook, self._now).service()]

    def register(self, registry: Registry) -> None:
        """Expose what it counts."""
        registry.add(metrics_of(self._rulebook, self._places, self._servicer, self._now))

    async def start(self) -> None:
        """There is nothing to reach."""

    async def run(self) -> None:
        """Forget what is over."""
        while True:
            now = self._now()
            self._places.look(now)
            self._rulebook.sweep(now)
            await asyncio.sleep(TICK)

    def started(self, **process: object) -> None:
        """Say so."""
        self._log.info("ratelimit.ready", **process, rules=len(self._rulebook.rules))

    def why_unready(self) -> str | None:
        """It always can serve."""
        return None

    def configure(self, config: RateLimitConfig) -> None:
        """Take other rules; buckets stay as full as they are."""
        self._rulebook.configure(config.rate_limits, config.rate_limit_service.max_keys)
        self._places.configure(_limits(config.rate_limits), config.rate_limit_service.max_keys)

    async def close(self) -> None:
        """There is nothing to leave."""


def _limits(config: RateLimitsConfig) -> dict[str, int]:
    return {rule.name: rule.limit for rule in config.connections}
