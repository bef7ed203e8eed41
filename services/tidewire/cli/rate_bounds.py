"""What a person is told of rate limits before they run: the rule in words, and by how much it may be exceeded. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from tidewire.kernel.rate_bound import excess, lease_excess

if TYPE_CHECKING:
    from tidewire.options.rate_limit_options import RateLimitsConfig
    from tidewire.options.rate_limit_rules import RateLimit

_DOWN: Final = {
    "allow": "; any number while no replica answers",
    "deny": "",
    "local": "; and the whole rule at each edge while no replica answers",
}


def bounds(config: RateLimitsConfig) -> Iterator[str]:
    """Yield a line for each rule."""
    edges = f"{config.edges} edges" if config.edges else "any number of edges"
    for rule in config.rules:
        terms = rule.terms
        yield (
            f"rate limit {rule.name}: {_rule(rule)}; over any window at most {lease_excess(terms, config.edges)} more "
            f"(leases of {terms.lease_size} for {rule.lease_time}, {edges}), and {excess(terms, config.edges, 1)} more where a "
            f"replica ends or comes back in it{_DOWN[rule.when_down]}"
        )
    for connection in config.connections:
        yield f"connection limit {connection.name}: {connection.limit} for each {connection.key} over all edges"
    for envoy in config.envoy:
        yield f"rate limit {envoy.name}: {_rule(envoy)}, at each replica that gateways ask"


def _rule(rule: RateLimit) -> str:
    return f"{rule.limit} in {rule.period}, {rule.burst or rule.limit} at once"
