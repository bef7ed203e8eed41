from __future__ import annotations

from typing import Any

import pytest

from tidewire.cli.rate_bounds import bounds
from tidewire.kernel.config import ConfigError, decode
from tidewire.options.rate_limit_options import RateLimitRule, RateLimitsConfig

RULE: dict[str, Any] = {"name": "r", "command": "publish", "key": ["user"], "limit": 100}
REPLICAS = ["dns:///a:1", "ipv4:10.0.0.1:2"]


def problems(**config: Any) -> list[str]:
    """What is wrong with a configuration."""
    with pytest.raises(ConfigError) as caught:
        decode(RateLimitsConfig, {"replicas": REPLICAS, **config})
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"key": ["users"]},
            "rules[0].key[0]: expected one of user, ip, channel, namespace, method or claim:NAME",
        ),
        ({"key": ["claim:"]}, "rules[0].key[0]: expected one of"),
        ({"key": ["user", "user"]}, "rules[0].key[1]: 'user' is there already"),
        ({"key": ["method"]}, "rules[0].key[0]: publish commands have no method"),
        ({"command": "connect", "key": ["channel"]}, "rules[0].key[0]: connect commands have no channel"),
        ({"command": "rpc", "namespaces": ["chat"]}, "rules[0].namespaces: rpc commands have no channel"),
        ({"lease_size": 101}, "rules[0].lease_size: expected no more than burst"),
        ({"lease_size": 51, "burst": 50}, "rules[0].lease_size: expected no more than burst"),
        ({"name": "a b"}, "rules[0].name: a name holds letters"),
        ({"when_down": "maybe"}, "rules[0].when_down: expected one of allow, deny, local"),
    ],
)
def test_rules_that_cannot_be(changes: dict[str, Any], problem: str) -> None:
    """Each is one clear line."""
    (line,) = problems(rules=[{**RULE, **changes}])
    assert line.startswith(problem)


def test_names_are_of_one_rule() -> None:
    """Of whatever kind."""
    connection = {"name": "r", "key": "user", "limit": 1}
    assert problems(rules=[RULE, RULE]) == ["rules[1].name: 'r' is rules[0] already"]
    assert problems(rules=[RULE], connections=[connection]) == [
        "connections[0].name: 'r' is one of rules already"
    ]


def test_gateways_descriptors_have_one_rule() -> None:
    """Where the keys and values are the same; another value is another rule."""
    entries = [
        ["path=/login", "remote_address"],
        ["path", "remote_address"],
        ["path=/login", "remote_address"],
    ]
    rules = [
        {"name": f"e{n}", "domain": "web", "entries": each, "limit": 1} for n, each in enumerate(entries)
    ]
    assert problems(envoy=rules) == ["envoy[2].entries: are those of envoy[0], which is the one that counts"]
    decode(RateLimitsConfig, {"envoy": [*rules[:2], {**rules[2], "domain": "api"}]})


def test_replicas_are_one_process_each() -> None:
    """Else two would count for one place."""
    assert "replicas[0]" in problems(replicas=["ipv4:10.0.0.1:1,10.0.0.2:1"])[0]
    assert "already" in problems(replicas=[REPLICAS[0]] * 2)[0]
    assert problems(replicas=[], rules=[RULE])[0].startswith("replicas: is needed for rules")
    assert "server_name" in problems(tls={"ca_file": "ca.pem"})[0]


def test_leases_are_a_tenth_of_the_burst_unless_said_otherwise() -> None:
    """One at least, and a thousand at most."""

    def size(**changes: Any) -> int:
        return decode(RateLimitRule, {**RULE, **changes}).terms.lease_size

    assert (size(), size(limit=5), size(limit=10**6), size(burst=20), size(lease_size=3)) == (
        10,
        1,
        1000,
        2,
        3,
    )


def test_leases_hold_what_comes_back_in_a_call() -> None:
    """Else an edge could not hand out what the rule lets pass; and never more than a bucket holds."""

    def size(**changes: Any) -> int:
        return decode(RateLimitRule, {**RULE, **changes}).terms.lease_size

    assert (size(limit=1000, burst=100), size(limit=1000, burst=10), size(limit=100, burst=10)) == (20, 10, 2)


def test_the_bound_is_told() -> None:
    """For any number of edges, or for so many."""
    rule = {**RULE, "lease_time": "2s"}
    connection = {"name": "c", "key": "ip", "limit": 7}
    envoy = {"name": "e", "domain": "d", "entries": ["a"], "limit": 1, "period": "1m"}
    config = {"replicas": REPLICAS, "rules": [rule], "connections": [connection], "envoy": [envoy]}
    lines = list(bounds(decode(RateLimitsConfig, config)))
    assert lines[0].startswith(
        "rate limit r: 100 in 1s, 100 at once; over any window at most 200 more (leases of 10"
    )
    assert "300 more where a replica ends" in lines[0]
    assert lines[1] == "connection limit c: 7 for each ip over all edges"
    assert lines[2] == "rate limit e: 1 in 1m, 1 at once, at each replica that gateways ask"
    assert lines[0].endswith("; any number while no replica answers")
    (line, *_) = bounds(decode(RateLimitsConfig, {**config, "edges": 3}))
    assert "at most 60 more" in line
    for when_down, told in (
        ("local", "; and the whole rule at each edge while no replica answers"),
        ("deny", "in it"),
    ):
        (line, *_) = bounds(decode(RateLimitsConfig, {**config, "rules": [{**rule, "when_down": when_down}]}))
        assert line.endswith(told)
