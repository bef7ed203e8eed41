"""The rules of a configuration with their buckets, and what was decided by each. Pure; a reload replaces them in place."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

from tidewire.kernel.buckets import Buckets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tidewire.options.rate_limit_options import RateLimitsConfig
    from tidewire.options.rate_limit_rules import EnvoyRule, RateLimit, RateLimitRule

UNITS: Final = {1.0: 1, 60.0: 2, 3600.0: 3, 86400.0: 4}
"""Envoy's numbers of the periods that it has names for, by seconds."""


class Rule:
    """One rule that counts in buckets. `outcomes`: how often what was decided, by a short constant."""

    __slots__ = ("buckets", "outcomes")

    def __init__(self, buckets: Buckets[bytes]) -> None:
        self.buckets = buckets
        self.outcomes: Counter[str] = Counter()


class Pattern(msgspec.Struct, frozen=True):
    """What an Envoy rule asks of a descriptor: keys in order, and values where they are given."""

    rule: EnvoyRule
    counted: Rule
    values: tuple[str | None, ...]

    def fits(self, values: Sequence[str]) -> bool:
        """Return whether a descriptor with the same keys has these values."""
        return all(
            wanted is None or wanted == given for wanted, given in zip(self.values, values, strict=True)
        )


class Rulebook:
    """All rules by name: those of edges, and those of gateways."""

    def __init__(self, config: RateLimitsConfig, most: int) -> None:
        self.rules: dict[str, Rule] = {}
        self.envoy: dict[str, Rule] = {}
        self._patterns: dict[tuple[str, tuple[str, ...]], list[Pattern]] = {}
        self.configure(config, most)

    def configure(self, config: RateLimitsConfig, most: int) -> None:
        """Follow other rules. Buckets of a name that stays stay as empty as they are."""
        self.rules = _kept(self.rules, config.rules, most)
        self.envoy = _kept(self.envoy, config.envoy, most)
        self._patterns = {}
        for rule in config.envoy:
            pairs = [entry.partition("=") for entry in rule.entries]
            values = tuple(value if given else None for _, given, value in pairs)
            place = rule.domain, tuple(key for key, _, _ in pairs)
            self._patterns.setdefault(place, []).append(Pattern(rule, self.envoy[rule.name], values))

    def find(self, domain: str, keys: tuple[str, ...], values: Sequence[str]) -> Pattern | None:
        """Return the first rule that fits a descriptor; None: nothing limits it."""
        patterns = self._patterns.get((domain, keys), ())
        return next((pattern for pattern in patterns if pattern.fits(values)), None)

    def sweep(self, now: float) -> None:
        """Drop buckets that are full."""
        for _, rule in self.all():
            rule.buckets.sweep(now)

    def all(self) -> Iterator[tuple[str, Rule]]:
        """Yield every rule with its name."""
        yield from self.rules.items()
        yield from self.envoy.items()


def _kept(before: dict[str, Rule], rules: Iterable[RateLimitRule | EnvoyRule], most: int) -> dict[str, Rule]:
    return {rule.name: _follow(before.get(rule.name), rule, most) for rule in rules}


def _follow(kept: Rule | None, rule: RateLimit, most: int) -> Rule:
    if kept is None:
        return Rule(Buckets(rule.allowance, most))
    kept.buckets.allowance, kept.buckets.most = rule.allowance, most
    return kept
