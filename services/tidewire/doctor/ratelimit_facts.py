"""Asks each replica of the rate-limit service whether it is there."""

from __future__ import annotations

import asyncio
from typing import Final

from tidewire.doctor.service_question import why_not
from tidewire.edge.config import EdgeConfig
from tidewire.options.rate_limit_options import client_config

QUESTION: Final = "/tidewire.rpc.ratelimit.v1.RateLimit/Lease"
"""Without keys it asks for nothing."""


async def read_ratelimit(config: EdgeConfig) -> dict[str, str]:
    """Return for each replica why it does not answer, "" where it does; nothing where there are no rules."""
    limits = config.rate_limits
    if not (limits.rules or limits.connections):
        return {}
    problems = await asyncio.gather(
        *(why_not(client_config(replica, limits), QUESTION) for replica in limits.replicas)
    )
    return dict(zip(limits.replicas, problems, strict=True))
