"""Settings of the mesh that `tidewire dev` starts on one machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, field

from tidewire.kernel.config import PATH, Problem, Section


def dev_ports_differ(dev: DevConfig) -> Iterator[Problem]:
    """Every process of the dev mesh has its own ports."""
    taken = {dev.nats_port: "nats_port"}
    for service, ports in (
        ("history", dev.history),
        ("presence", dev.presence),
        ("ratelimit", dev.ratelimit),
    ):
        for name in ("port", "health_port", "internal_port"):
            port, path = getattr(ports, name), f"{service}.{name}"
            if port in taken:
                yield Problem(path, f"{port} is {taken[port]} already")
            taken.setdefault(port, path)
    for index, edge in enumerate(dev.edges):
        for name, port in (("port", edge.port), ("internal_port", edge.internal_port)):
            path = f"edges[{index}].{name}"
            if port in taken:
                yield Problem(path, f"{port} is {taken[port]} already")
            taken.setdefault(port, path)


class DevEdge(Section, frozen=True, kw_only=True):
    """Ports of one edge of the dev mesh."""

    port: Annotated[int, Meta(ge=1, le=65535, description="Its public port, instead of `http.port`.")] = 8000
    internal_port: Annotated[
        int, Meta(ge=1, le=65535, description="Its internal port, instead of `http.internal_port`.")
    ] = 9000


class DevHistory(Section, frozen=True, kw_only=True):
    """Ports of the history process of the dev mesh, which runs where a namespace has history."""

    port: Annotated[
        int, Meta(ge=1, le=65535, description="Its gRPC port, instead of `history_service.rpc.port`.")
    ] = 9443
    health_port: Annotated[
        int,
        Meta(ge=1, le=65535, description="Its health port, instead of `history_service.rpc.health_port`."),
    ] = 9444
    internal_port: Annotated[
        int,
        Meta(ge=1, le=65535, description="Its internal port, instead of `history_service.internal_port`."),
    ] = 9100


class DevPresence(Section, frozen=True, kw_only=True):
    """Ports of the presence process of the dev mesh, which runs where a namespace has `presence` or `join_leave`."""

    port: Annotated[
        int, Meta(ge=1, le=65535, description="Its gRPC port, instead of `presence_service.rpc.port`.")
    ] = 9543
    health_port: Annotated[
        int,
        Meta(ge=1, le=65535, description="Its health port, instead of `presence_service.rpc.health_port`."),
    ] = 9544
    internal_port: Annotated[
        int,
        Meta(ge=1, le=65535, description="Its internal port, instead of `presence_service.internal_port`."),
    ] = 9110


class DevRateLimit(Section, frozen=True, kw_only=True):
    """Ports of the rate-limit process of the dev mesh, which runs where `rate_limits` has rules."""

    port: Annotated[
        int, Meta(ge=1, le=65535, description="Its gRPC port, instead of `rate_limit_service.rpc.port`.")
    ] = 9643
    health_port: Annotated[
        int,
        Meta(ge=1, le=65535, description="Its health port, instead of `rate_limit_service.rpc.health_port`."),
    ] = 9644
    internal_port: Annotated[
        int,
        Meta(ge=1, le=65535, description="Its internal port, instead of `rate_limit_service.internal_port`."),
    ] = 9120


class DevConfig(Section, frozen=True, kw_only=True):
    """The mesh that `tidewire dev` (and `make run`) starts on one machine; nothing else reads it."""

    checks = (dev_ports_differ,)

    edges: Annotated[tuple[DevEdge, ...], Meta(min_length=1, description="The edges to start.")] = (
        DevEdge(),
        DevEdge(port=8001, internal_port=9001),
    )
    history: Annotated[DevHistory, Meta(description="The history process.")] = field(
        default_factory=DevHistory
    )
    presence: Annotated[DevPresence, Meta(description="The presence process.")] = field(
        default_factory=DevPresence
    )
    ratelimit: Annotated[DevRateLimit, Meta(description="The rate-limit process.")] = field(
        default_factory=DevRateLimit
    )
    nats_port: Annotated[
        int,
        Meta(ge=1, le=65535, description="Port of the NATS server, on 127.0.0.1, instead of `nats.urls`."),
    ] = 4222
    data_dir: Annotated[
        str,
        Meta(
            min_length=1,
            description="Folder for what the mesh writes (NATS's data, the token key, `dev.json`). It may be deleted "
            "while the mesh is stopped.",
            extra=PATH,
        ),
    ] = ".tidewire"
