"""What the rate-limit service counts: read from its state when somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.platform.metrics import Gauge, Total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tidewire.ratelimit.places import Places
    from tidewire.ratelimit.rulebook import Rulebook
    from tidewire.ratelimit.servicer import RateLimitServicer


def metrics_of(
    rulebook: Rulebook, places: Places, servicer: RateLimitServicer, now: Callable[[], float]
) -> Iterable[Gauge | Total]:
    """Return what a registry takes."""
    yield Total(
        "tidewire_ratelimit_decisions",
        "Answers by rule: granted (some tokens, or a gateway's request), refused (none), would_be_refused (a dry run).",
        lambda: {
            (name, outcome): float(count)
            for name, rule in rulebook.all()
            for outcome, count in rule.outcomes.items()
            if outcome != "tokens"
        },
        ["rule", "outcome"],
    )
    yield Total(
        "tidewire_ratelimit_leased_tokens",
        "Tokens that edges were given, by rule.",
        lambda: {(name,): float(rule.outcomes["tokens"]) for name, rule in rulebook.rules.items()},
        ["rule"],
    )
    yield Total(
        "tidewire_ratelimit_returned_tokens",
        "Tokens that edges brought back unspent.",
        lambda: servicer.unspent,
    )
    yield Gauge(
        "tidewire_ratelimit_keys",
        "Buckets that are not full, by rule.",
        lambda: {(name,): float(len(rule.buckets)) for name, rule in rulebook.all()},
        ["rule"],
    )
    yield Total(
        "tidewire_ratelimit_forgotten_keys",
        "Buckets that were dropped before they were full, since there were rate_limit_service.max_keys: each may be spent once "
        "more than the rule says.",
        lambda: {(name,): float(rule.buckets.forgotten) for name, rule in rulebook.all()},
        ["rule"],
    )
    yield Gauge("tidewire_ratelimit_edges", "Edges that hold places for connections.", lambda: places.edges)
    yield Gauge(
        "tidewire_ratelimit_connections",
        "Connections that edges hold places for, by rule.",
        lambda: {(rule,): float(count) for rule, count in places.held().items()},
        ["rule"],
    )
    yield Total(
        "tidewire_ratelimit_places_refused",
        "Places for connections that were refused.",
        lambda: places.refused,
    )
    yield Total(
        "tidewire_ratelimit_places_unjudged",
        "Questions for a place that were not judged, since edges held places of rate_limit_service.max_keys users or addresses.",
        lambda: places.unjudged,
    )
    yield Gauge(
        "tidewire_ratelimit_learning",
        "1 while it waits for edges to say what they hold, and gives no places.",
        lambda: float(places.is_learning(now())),
    )
