"""The configuration of the rate-limit service: its own section, and what it shares with the edges of the same file."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from tidewire.options.rate_limit_options import RateLimitsConfig
from tidewire.options.sections import SECTIONS
from tidewire.platform.rpc_options import HealthPort, RpcConfig, RpcPort
from tidewire.platform.service_options import InternalPort, ProcessConfig, ServiceConfig


class RateLimitRpcConfig(RpcConfig, frozen=True, kw_only=True):
    """The gRPC server of a service, and its health port for probes."""

    port: RpcPort = 9643
    health_port: HealthPort = 9644


class RateLimitServiceConfig(ServiceConfig, frozen=True, kw_only=True):
    """The rate-limit service (`tidewire ratelimit`)."""

    internal_port: InternalPort = 9120
    rpc: Annotated[RateLimitRpcConfig, Meta(description="The gRPC server that edges and gateways call.")] = (
        field(default_factory=RateLimitRpcConfig)
    )
    max_keys: Annotated[
        int,
        Meta(
            ge=100,
            le=100_000_000,
            description="Most buckets of one rule that are not full; full ones take no room. With more, the fullest of those "
            "that were not used for long are forgotten, which makes them full; a metric counts that. Of a rule for connections, most users or addresses that edges "
            "hold places of, counted for each edge: whether there is a place for another one is not judged, and counted.",
        ),
    ] = 1_000_000


class RateLimitConfig(ProcessConfig, frozen=True, kw_only=True):
    """Everything that the rate-limit service is told."""

    service = "ratelimit"
    section = "rate_limit_service"
    others = SECTIONS - {"log", "rate_limit_service", "rate_limits", "tracing"}

    rate_limits: Annotated[RateLimitsConfig, Meta(description="The rules.")] = field(
        default_factory=RateLimitsConfig
    )
    rate_limit_service: Annotated[RateLimitServiceConfig, Meta(description="The rate-limit service.")] = (
        field(default_factory=RateLimitServiceConfig)
    )
