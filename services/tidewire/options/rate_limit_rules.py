"""The rules of rate limits: of what clients do, of their connections, and of gateways."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import ceil
from typing import Annotated, Final, Literal

from msgspec import Meta

from tidewire.kernel.config import Duration, Problem, Section, duration
from tidewire.kernel.rate_bound import Terms
from tidewire.kernel.token_bucket import Allowance

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
_CALL: Final = 0.02
"""Seconds that a call to the service may take: less than what comes back meanwhile would be less than the rule."""


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
            yield Problem(f"key[{index}]", f"{rule.command} commands have no {part}")
        if part in rule.key[:index]:
            yield Problem(f"key[{index}]", f"{part!r} is there already")
    if rule.namespaces and rule.command not in _PARTS["channel"]:
        yield Problem("namespaces", f"{rule.command} commands have no channel")


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
            description="What is counted. `publish` is also `tw.publish`, which `rpc` is not; `rpc` is also `tw.user_status`; "
            "`subscribe` is not what the server subscribes to."
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
            "that another could have used; an edge has one in the time of a call, some milliseconds, so that one which is less than "
            "what comes back meanwhile lets less pass than the rule. 0: a tenth of the burst, or what comes back in 20 ms where "
            "that is more; 1 at least, and 1000 and the burst at most.",
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
        Literal["allow", "deny", "local"],
        Meta(
            description="What happens while no replica answers in time: `allow` lets commands pass, `deny` refuses them with "
            "error 100 (temporary), and with `local` each edge process applies the whole rule by itself."
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
        portion = max(int(allowance.burst) // _PORTION, ceil(allowance.rate * _CALL))
        automatic = max(1, min(_LARGEST_LEASE, int(allowance.burst), portion))
        return Terms(allowance, self.lease_size or automatic, float(self.lease_time))


class ConnectionRule(Section, frozen=True, kw_only=True):
    """A limit on connections that are open at the same time, over all edges together."""

    reloadable = True

    name: Annotated[str, _NAME]
    key: Annotated[
        Literal["user", "ip"],
        Meta(
            description="Whose connections: of a `user`, or of an `ip` (of IPv6 the /64 network). One too many of a `user` gets "
            "error 111, one of an `ip` is closed with 3013; SDKs come back with growing pauses. Handshakes of an `ip` get HTTP 429 "
            "as long as that is known."
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
