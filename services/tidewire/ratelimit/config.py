"""The configuration of the rate-limit service: its own section, and what it shares with the edges of the same file."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, field

from tidewire.kernel.config import RESTART, Section
from tidewire.options.log_options import LogConfig
from tidewire.options.rate_limit_options import RateLimitsConfig
from tidewire.platform.rpc_options import RpcConfig
from tidewire.platform.tracing_options import TracingConfig

OTHERS: Final = frozenset(
    {
        "channel",
        "client",
        "dev",
        "drain",
        "history",
        "history_service",
        "http",
        "nats",
        "node_name",
        "presence",
        "presence_service",
        "rpc",
        "send",
        "storage",
        "websocket",
        "workers",
    }
)
"""Settings of other processes in the same file."""


class RateLimitRpcConfig(RpcConfig, frozen=True, kw_only=True):
    """The gRPC server of a service, and its health port for probes."""

    port: Annotated[int, Meta(ge=0, le=65535, description="Port; 0 = any free port.")] = 9643
    health_port: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="Port that speaks `grpc.health.v1.Health` without TLS and nothing else, for probes that have no "
            "certificate; 0 = any free port.",
        ),
    ] = 9644


class RateLimitServiceConfig(Section, frozen=True, kw_only=True):
    """The rate-limit service (`tidewire ratelimit`)."""

    reloadable = True

    node_name: Annotated[
        str,
        Meta(
            pattern="^[-a-zA-Z0-9_]*$",
            max_length=64,
            description="Name of this process in logs. Empty: the host name and a random suffix.",
            extra={"hint": "a name holds letters, digits, - and _ only", **RESTART},
        ),
    ] = ""
    internal_address: Annotated[
        str,
        Meta(
            min_length=1, description="IP address of the internal listener (probes, metrics).", extra=RESTART
        ),
    ] = "127.0.0.1"
    internal_port: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="Port of the internal listener: `/live`, `/ready`, `/metrics`; 0 = any free port.",
            extra=RESTART,
        ),
    ] = 9120
    rpc: Annotated[RateLimitRpcConfig, Meta(description="The gRPC server that edges and gateways call.")] = (
        field(default_factory=RateLimitRpcConfig)
    )
    max_keys: Annotated[
        int,
        Meta(
            ge=100,
            le=100_000_000,
            description="Most buckets of one rule that are not full; full ones take no room. With more, the fullest of those "
            "that were not used for long are forgotten, which makes them full; a metric counts that.",
        ),
    ] = 1_000_000


class ServiceConfig(Section, frozen=True, kw_only=True):
    """Everything that the rate-limit service is told."""

    others = OTHERS

    log: Annotated[LogConfig, Meta(description="Logs.")] = field(default_factory=LogConfig)
    tracing: Annotated[TracingConfig, Meta(description="Traces.")] = field(default_factory=TracingConfig)
    rate_limits: Annotated[RateLimitsConfig, Meta(description="The rules.")] = field(
        default_factory=RateLimitsConfig
    )
    rate_limit_service: Annotated[RateLimitServiceConfig, Meta(description="The rate-limit service.")] = (
        field(default_factory=RateLimitServiceConfig)
    )
