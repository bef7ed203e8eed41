"""Asks the services whether they are there, over the connections that an edge would make; it changes nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from tidewire.edge.config import EdgeConfig
from tidewire.kernel.clock import SystemClock
from tidewire.kernel.errors import TidewireError
from tidewire.options.rate_limit_options import client_config
from tidewire.options.stored import stored
from tidewire.platform.rpc_client import RpcClient
from tidewire.platform.rpc_telemetry import RpcClientMetrics

if TYPE_CHECKING:
    from tidewire.platform.rpc_call import Method
    from tidewire.platform.rpc_client_options import RpcClientConfig


async def read_history(config: EdgeConfig) -> str | None:
    """Return why the history service does not answer, "" where it does; None: no namespace needs it."""
    return await _why_not(config.history, "history.v1.History/Position") if stored(config) else None


async def read_presence(config: EdgeConfig) -> str | None:
    """Return why the presence service does not answer, "" where it does; None: edges announce nobody."""
    return await _why_not(config.presence, "presence.v1.Presence/Stats") if config.presence.target else None


async def read_ratelimit(config: EdgeConfig) -> dict[str, str]:
    """Return for each rate-limit replica why it does not answer, "" where it does; nothing where there are no rules."""
    limits = config.rate_limits
    if not (limits.rules or limits.connections):
        return {}
    problems = await asyncio.gather(
        *(
            _why_not(client_config(replica, limits), "ratelimit.v1.RateLimit/Lease")
            for replica in limits.replicas
        )
    )
    return dict(zip(limits.replicas, problems, strict=True))


async def _why_not(config: RpcClientConfig, method: str) -> str:
    """Return why a service does not answer an empty request, which asks a method of ours for nothing; "" where it does."""
    question = f"/tidewire.rpc.{method}"
    client = RpcClient(config, (question,), RpcClientMetrics(), structlog.get_logger(), SystemClock())
    try:
        await client.start()
        ask: Method[bytes, bytes] = client.unary_unary(question)
        await ask(b"")
    except TidewireError as error:
        return str(error)
    finally:
        await client.close()
    return ""
