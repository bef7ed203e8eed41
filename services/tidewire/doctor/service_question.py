"""Asks a service whether it is there, over the connection that an edge would make; it changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from tidewire.kernel.clock import SystemClock
from tidewire.kernel.errors import TidewireError
from tidewire.platform.rpc_client import RpcClient
from tidewire.platform.rpc_telemetry import RpcClientMetrics

if TYPE_CHECKING:
    from tidewire.platform.rpc_call import Method
    from tidewire.platform.rpc_client_options import RpcClientConfig


async def why_not(config: RpcClientConfig, question: str) -> str:
    """Return why a service does not answer an empty request of a method, "" where it does."""
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
