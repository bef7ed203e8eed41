from __future__ import annotations

from typing import Any

from tidewire.kernel.config import decode
from tidewire.options.rate_limit_options import RateLimitsConfig
from tidewire.ratelimit.rulebook import Rulebook

RULE: dict[str, Any] = {"name": "r", "command": "publish", "key": ["user"], "limit": 10, "period": "10s"}
ENVOY: list[dict[str, Any]] = [
    {"name": "one", "domain": "web", "entries": ["user=evil", "path"], "limit": 1},
    {"name": "any", "domain": "web", "entries": ["user", "path"], "limit": 2},
    {"name": "equals", "domain": "web", "entries": ["query=a=b"], "limit": 3},
    {"name": "empty", "domain": "web", "entries": ["user="], "limit": 4},
]


def config(**sections: Any) -> RateLimitsConfig:
    """Rules, and a replica that nobody asks."""
    return decode(RateLimitsConfig, {"replicas": ["ipv4:127.0.0.1:9"], **sections})


def test_buckets_of_a_name_that_stays_stay_as_empty_as_they_are() -> None:
    """Another limit is no way to a full bucket; a rule that is gone takes its buckets along."""
    book = Rulebook(config(rules=[RULE]), 100)
    assert book.rules["r"].buckets.grant(b"a", 1000.0, 10).tokens == 10
    book.configure(config(rules=[{**RULE, "limit": 20}]), 200)
    assert book.rules["r"].buckets.grant(b"a", 1000.0, 20).tokens < 20
    assert book.rules["r"].buckets.most == 200
    book.configure(config(), 200)
    assert book.rules == {}


def test_descriptors_find_the_first_rule_that_fits() -> None:
    """By domain, keys in their order, and values where they are given; a value may hold an equals sign, or be empty."""
    book = Rulebook(config(envoy=ENVOY), 100)

    def found(*entries: tuple[str, str], domain: str = "web") -> str:
        pattern = book.find(domain, tuple(key for key, _ in entries), [value for _, value in entries])
        return pattern.rule.name if pattern is not None else ""

    assert found(("user", "evil"), ("path", "/")) == "one"
    assert found(("user", "good"), ("path", "/")) == "any"
    assert found(("path", "/"), ("user", "good")) == ""
    assert found(("query", "a=b")) == "equals"
    assert found(("query", "a")) == ""
    assert found(("user", "")) == "empty"
    assert found(("user", "x")) == ""
    assert found(("user", "evil"), ("path", "/"), domain="other") == ""


def test_full_buckets_are_swept_from_every_rule() -> None:
    """Those of gateways, too."""
    book = Rulebook(config(rules=[RULE], envoy=ENVOY), 100)
    for _, rule in book.all():
        rule.buckets.grant(b"a", 1000.0, 1)
    book.sweep(1100.0)
    assert [len(rule.buckets) for _, rule in book.all()] == [0] * 5
