"""What rate limits do at this edge: read from their state when somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.platform.exposition import Merge
from tidewire.platform.metrics import Gauge, Total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tidewire.edge.connection_limits import ConnectionLimits
    from tidewire.edge.limits import Limits

    Sample = tuple[tuple[str, str], float]


def limit_metrics(
    limits: Limits, places: ConnectionLimits, replicas: Callable[[], Mapping[str, bool]]
) -> Iterable[Gauge | Total]:
    """Return what a registry takes; `replicas` says which of them answer."""
    yield Total(
        "tidewire_rate_limit_decisions",
        "Commands, and connections, by rule: allowed, refused (111, or closed), would_be_refused (a dry run), passed and "
        "denied (nobody could count: when_down), unjudged (the same of a dry run).",
        lambda: dict(_decisions(limits, places)),
        ["rule", "outcome"],
    )
    yield Gauge(
        "tidewire_rate_limit_keys",
        "Keys of which this edge holds tokens, or knows that there are none, by rule.",
        lambda: {(limit.rule.name,): float(len(limit.leases)) for limit in limits.all()},
        ["rule"],
    )
    yield Gauge(
        "tidewire_rate_limit_local_keys",
        "Keys of which this edge has let commands pass by itself (when_down: local), as long as it matters, by rule.",
        lambda: {(limit.rule.name,): float(len(limit.alone)) for limit in limits.all()},
        ["rule"],
    )
    yield Total(
        "tidewire_rate_limit_local_forgotten_keys",
        "Of these, dropped since there were rate_limits.max_keys: each may be spent once more.",
        lambda: {(limit.rule.name,): float(limit.alone.forgotten) for limit in limits.all()},
        ["rule"],
    )
    yield Gauge(
        "tidewire_rate_limit_waiting",
        "Connections that wait until rate limits know more.",
        lambda: float(len(limits.waiters)),
    )
    yield Gauge(
        "tidewire_rate_limit_replica_up",
        "1 for each replica of the rate-limit service that answers this edge (each of its workers).",
        lambda: {(name,): float(up) for name, up in replicas().items()},
        ["target"],
        Merge.MIN,
    )
    yield Gauge(
        "tidewire_rate_limit_connection_keys",
        "Users or addresses for whose connections this edge holds places, by rule.",
        lambda: {(slots.name,): float(len(slots)) for slots in places.rules()},
        ["rule"],
    )


def _decisions(limits: Limits, places: ConnectionLimits) -> Iterator[Sample]:
    for limit in limits.all():
        leases, name = limit.leases, limit.rule.name
        yield (name, "allowed"), float(leases.allowed)
        yield (name, "refused"), float(leases.refused)
        yield (name, "would_be_refused"), float(leases.would_be_refused)
        yield (name, "passed"), float(limit.passed)
        yield (name, "denied"), float(limit.denied)
        yield (name, "unjudged"), float(leases.unknown)
    for slots in places.rules():
        yield (slots.name, "allowed"), float(slots.allowed)
        yield (slots.name, "refused"), float(slots.refused)
        yield (slots.name, "would_be_refused"), float(slots.would_be_refused)
        yield (slots.name, "passed"), float(slots.passed)
        yield (slots.name, "denied"), float(slots.denied)
