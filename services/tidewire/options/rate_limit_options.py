"""Settings of rate limits, which edges and the rate-limit service read from one file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated

from msgspec import Meta, field

from tidewire.kernel.config import ORDERED, RESTART, Duration, Problem, Section, duration, repeated
from tidewire.options.rate_limit_rules import CLAIM, ConnectionRule, EnvoyRule, RateLimitRule
from tidewire.platform.rpc_client_options import TARGET, RpcClientConfig, RpcClientTls


def names_differ(config: RateLimitsConfig) -> Iterator[Problem]:
    """Metrics tell rules apart by their names."""
    taken: dict[str, str] = {}
    for section in ("rules", "connections", "envoy"):
        items: Iterable[object] = getattr(config, section)
        yield from repeated(section, items, "name")
        for index, item in enumerate(items):
            name = getattr(item, "name")  # noqa: B009 - a check sees sections of which parts are wrong
            path = f"{section}[{index}].name"
            if taken.setdefault(name, section) != section:
                yield Problem(path, f"{name!r} is one of {taken[name]} already")


def replicas_are_named(config: RateLimitsConfig) -> Iterator[Problem]:
    """What gRPC takes for something else would fail only with the first call."""
    for index, replica in enumerate(config.replicas):
        path = f"replicas[{index}]"
        if not re.fullmatch(TARGET, replica) or "," in replica:
            yield Problem(path, "expected dns:///host:port or ipv4:address:port, one process each")
        elif replica in config.replicas[:index]:
            yield Problem(path, f"{replica!r} is there already")
        elif config.tls.ca_file and not config.tls.server_name and not replica.startswith("dns:"):
            yield Problem("tls.server_name", f"is needed where {path} is an address")
    if (config.rules or config.connections) and not config.replicas:
        yield Problem("replicas", "is needed for rules: where the rate-limit service listens")


def descriptors_differ(config: RateLimitsConfig) -> Iterator[Problem]:
    """Of two rules for one descriptor the second would never count."""
    taken: dict[tuple[str, tuple[str, ...]], int] = {}
    for index, rule in enumerate(config.envoy):
        first = taken.setdefault((rule.domain, rule.entries), index)
        if first != index:
            yield Problem(
                f"envoy[{index}].entries", f"are those of envoy[{first}], which is the one that counts"
            )


class RateLimitsConfig(Section, frozen=True, kw_only=True):
    """Rate limits over all edges, and the way to the service that counts."""

    checks = (names_differ, replicas_are_named, descriptors_differ)
    reloadable = True

    replicas: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="Every replica of the rate-limit service, each by an address of its own (`dns:///ratelimit-0.ratelimit:9643`, "
            "`ipv4:10.0.0.1:9643`). Keys are divided among them. Written alike for all edges.",
            extra=RESTART,
        ),
    ] = ()
    tls: Annotated[RpcClientTls, Meta(description="TLS towards the replicas.")] = field(
        default_factory=RpcClientTls
    )
    timeout: Annotated[
        Duration,
        Meta(
            description="How long a replica may take to answer before its keys go to the next one.",
            extra={"at_least": "10ms", "at_most": "2s", **RESTART},
        ),
    ] = duration("500ms")
    wait: Annotated[
        Duration,
        Meta(
            description="How long a command may wait for tokens of its key; then `when_down` counts, or error 111 where others "
            "got some meanwhile.",
            extra={"at_least": "10ms", "at_most": "3s"},
        ),
    ] = duration("1s")
    max_keys: Annotated[
        int,
        Meta(
            ge=100,
            le=10_000_000,
            description="Most keys of one rule for which an edge holds tokens. With more, those that were used longest ago are given "
            "back.",
        ),
    ] = 100_000
    max_waiting: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Most connections of one edge that wait for tokens; others get error 111.",
        ),
    ] = 10_000
    edges: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="How many edge processes there are at most, if you know. Only `tidewire check-config` reads it, to say by "
            "how much each rule may be exceeded. 0: any number.",
        ),
    ] = 0
    rules: Annotated[tuple[RateLimitRule, ...], Meta(max_length=256, description="What clients do.")] = ()
    connections: Annotated[
        tuple[ConnectionRule, ...], Meta(max_length=16, description="Connections at the same time.")
    ] = ()
    envoy: Annotated[
        tuple[EnvoyRule, ...],
        Meta(max_length=4096, description="Rules for gateways, by Envoy's API.", extra=ORDERED),
    ] = ()

    @property
    def claims(self) -> frozenset[str]:
        """The claims of connection tokens that are part of keys."""
        parts = [part for rule in self.rules for part in rule.key]
        return frozenset(part.removeprefix(CLAIM) for part in parts if part.startswith(CLAIM))


def client_config(replica: str, config: RateLimitsConfig) -> RpcClientConfig:
    """Return how an edge calls one replica: once, since the next one is asked where it does not answer."""
    return RpcClientConfig(
        target=replica, tls=config.tls, timeout=config.timeout, attempts=1, close_timeout=Duration(0)
    )
