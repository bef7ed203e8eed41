"""Asks the history service whether it is there, over the connection that an edge would make; it changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from tidewire.edge.config import EdgeConfig
from tidewire.kernel.clock import SystemClock
from tidewire.kernel.errors import TidewireError
from tidewire.options.stored import stored
from tidewire.platform.rpc_client import RpcClient
from tidewire.platform.rpc_telemetry import RpcClientMetrics

if TYPE_CHECKING:
    from tidewire.platform.rpc_call import Method

QUESTION: Final = "/tidewire.rpc.history.v1.History/Position"
"""Without channels it asks for nothing."""


async def read_history(config: EdgeConfig) -> str | None:
    """Return why the service does not answer, "" where it does; None: no namespace needs it."""
    if not stored(config):
        return None
    client = RpcClient(config.history, (QUESTION,), RpcClientMetrics(), structlog.get_logger(), SystemClock())
    try:
        await client.start()
        ask: Method[bytes, bytes] = client.unary_unary(QUESTION)
        await ask(b"")
    except TidewireError as error:
        return str(error)
    finally:
        await client.close()
    return ""
