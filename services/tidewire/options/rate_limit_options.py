"""Settings of rate limits: the rules, which edges and the rate-limit service read from one file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Final, Literal

from msgspec import Meta, field

from tidewire.kernel.config import RESTART, Duration, Problem, Section, duration, repeated
from tidewire.kernel.rate_bound import Terms
from tidewire.kernel.token_bucket import Allowance
from tidewire.platform.rpc_client_options import TARGET, RpcClientConfig, RpcClientTls

CLAIM: Final = "claim:"
_NAME: Final = Meta(
    pattern="^[-a-zA-Z0-9_]+$",
    max_length=64,
    description="Its name in metrics and logs, different for every rule.",
    extra={"hint": "a name holds letters, digits, - and _ only"},
)
_PARTS: Final = {
    "user": ("connect", "subscribe", "publish", "rpc"),
    "ip": ("connect", "subscribe", "publish", "rpc"),
    "channel": ("subscribe", "publish"),
    "namespace": ("subscribe", "publish"),
    "method": ("rpc",),
}
_CLAIM: Final = re.compile(r"claim:[-a-zA-Z0-9_]{1,64}")
_ENTRY: Final = re.compile(r"[^=]{1,256}(=.{0,1024})?")
_PORTION: Final = 10
"""Leases that hold a whole burst, where no size is given."""
_LARGEST_LEASE: Final = 1000


class RateLimit(Section, frozen=True, kw_only=True):
    """How much in what time."""

    limit: Annotated[int, Meta(ge=1, le=1_000_000_000, description="How often in `period`.")]
    period: Annotated[
        Duration,
        Meta(
            description="The time in which `limit` come back, evenly.",
            extra={"at_least": "100ms", "at_most": "24h"},
        ),
    ] = duration("1s")
    burst: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000_000,
            description="How often at once, after a quiet time. Over any window, `burst` and what comes back in it is the "
            "most that the rule allows. 0: `limit`.",
        ),
    ] = 0

    @property
    def allowance(self) -> Allowance:
        """The bucket."""
        return Allowance(self.limit / self.period, self.burst or self.limit)


def key_fits(rule: RateLimitRule) -> Iterator[Problem]:
    """A key is made of what a command has."""
    for index, part in enumerate(rule.key):
        if _CLAIM.fullmatch(part):
            continue
        commands = _PARTS.get(part)
        if commands is None:
            choices = ", ".join(_PARTS)
            yield Problem(f"key[{index}]", f"expected one of {choices} or claim:NAME, got {part!r}")
        elif rule.command not in commands:
            yield Problem(f"key[{index}]", f"a {rule.command} command has no {part}")
        if part in rule.key[:index]:
            yield Problem(f"key[{index}]", f"{part!r} is there already")
    if rule.namespaces and rule.command not in _PARTS["channel"]:
        yield Problem("namespaces", f"a {rule.command} command has no channel")


def lease_fits(rule: RateLimitRule) -> Iterator[Problem]:
    """A lease that is larger than the bucket never comes whole."""
    if rule.lease_size > (rule.burst or rule.limit):
        yield Problem("lease_size", "expected no more than burst")


class RateLimitRule(RateLimit, frozen=True, kw_only=True):
    """A limit on what clients do, over all edges together."""

    checks = (key_fits, lease_fits)
    reloadable = True

    name: Annotated[str, _NAME]
    command: Annotated[
        Literal["connect", "subscribe", "publish", "rpc"],
        Meta(
            description="What is counted. `publish` is also `tw.publish`; `subscribe` is not what the server subscribes to."
        ),
    ]
    key: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            max_length=8,
            description="Whose bucket it is: `user`, `ip` (of IPv6 the /64 network), `channel`, `namespace`, `method` (of rpc), "
            "`claim:NAME` (a text, number or truth value in the connection token). Several make one key together. Where a "
            "client has one of them not (no user id, no such claim), the rule does not apply to it.",
        ),
    ]
    namespaces: Annotated[
        tuple[str, ...],
        Meta(
            description="Only channels of these namespaces (`_`: those without one). Empty: of all.",
        ),
    ] = ()
    lease_size: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Tokens that an edge gets at once for a key. Larger ones need fewer calls, and one edge may hold more "
            "that another could have used. 0: a tenth of the burst, 1 at least and 1000 at most.",
        ),
    ] = 0
    lease_time: Annotated[
        Duration,
        Meta(
            description="In what time an edge spends them, or loses them. What comes back in that time is by how much the rule "
            "may be exceeded.",
            extra={"at_least": "100ms", "at_most": "1m"},
        ),
    ] = duration("1s")
    when_down: Annotated[
        Literal["allow", "deny"],
        Meta(
            description="What happens while no replica answers, or too many commands wait for one: `allow` lets commands pass, "
            "`deny` refuses them with error 100 (temporary)."
        ),
    ] = "allow"
    dry_run: Annotated[bool, Meta(description="Whether it only counts, and refuses and delays nothing.")] = (
        False
    )
    close_after: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="How many refusals in a minute a connection gets before it is closed with 3013. 0: it never is for "
            "this rule.",
        ),
    ] = 60

    @property
    def terms(self) -> Terms:
        """The rule as its buckets and leases have it."""
        allowance = self.allowance
        automatic = max(1, min(_LARGEST_LEASE, int(allowance.burst) // _PORTION))
        return Terms(allowance, self.lease_size or automatic, float(self.lease_time))


class ConnectionRule(Section, frozen=True, kw_only=True):
    """A limit on connections that are open at the same time, over all edges together."""

    reloadable = True

    name: Annotated[str, _NAME]
    key: Annotated[
        Literal["user", "ip"],
        Meta(
            description="Whose connections. One too many of a `user` is closed with 3504, after which SDKs do not try again. Of "
            "an `ip` (of IPv6 the /64 network) it is closed with 3013, and handshakes get HTTP 429 as long as that is known."
        ),
    ]
    limit: Annotated[int, Meta(ge=1, le=1_000_000_000, description="How many at most.")]
    when_down: Annotated[
        Literal["allow", "deny"],
        Meta(
            description="What happens to new connections while nobody can count: `allow` lets them in, `deny` refuses them with "
            "error 100 (temporary)."
        ),
    ] = "allow"
    dry_run: Annotated[bool, Meta(description="Whether it only counts, and refuses nothing.")] = False


def entries_are_entries(rule: EnvoyRule) -> Iterator[Problem]:
    """Each is a key, or a key and its value."""
    for index, entry in enumerate(rule.entries):
        if not _ENTRY.fullmatch(entry):
            yield Problem(f"entries[{index}]", f"expected KEY or KEY=VALUE, got {entry!r}")


class EnvoyRule(RateLimit, frozen=True, kw_only=True):
    """A limit for gateways that ask by Envoy's rate limit service (v3)."""

    checks = (entries_are_entries,)
    reloadable = True

    name: Annotated[str, _NAME]
    domain: Annotated[
        str, Meta(min_length=1, max_length=256, description="The domain that the gateway's filter names.")
    ]
    entries: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            max_length=16,
            description="The descriptor that it is for: its entries in their order, each `KEY` (any value, which has a bucket of "
            "its own) or `KEY=VALUE`. The first rule that fits a descriptor counts.",
        ),
    ]
    dry_run: Annotated[bool, Meta(description="Whether it only counts, and answers OK.")] = False


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


class RateLimitsConfig(Section, frozen=True, kw_only=True):
    """Rate limits over all edges, and the way to the service that counts."""

    checks = (names_differ, replicas_are_named)
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
            description="How long a command may wait for the first tokens of its key; then `when_down` counts.",
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
            description="Most connections of one edge that wait for tokens; for others `when_down` counts.",
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
        tuple[EnvoyRule, ...], Meta(max_length=4096, description="Rules for gateways, by Envoy's API.")
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
