"""What the one configuration file holds that all processes share: each passes over what is another's."""

from __future__ import annotations

from typing import Final

SECTIONS: Final = frozenset(
    {
        "channel",
        "client",
        "dev",
        "drain",
        "history",
        "history_service",
        "http",
        "log",
        "nats",
        "node_name",
        "presence",
        "presence_service",
        "rate_limit_service",
        "rate_limits",
        "rpc",
        "send",
        "storage",
        "tracing",
        "websocket",
        "workers",
    }
)
