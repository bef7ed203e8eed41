"""Whether a command may be carried out now, over all edges together: the rules of `rate_limits` applied to it. Pure.

Each rule that applies to a command has a key for it. Either every one of them has a token and all are spent, or none is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Final, Protocol

from tidewire.edge.addresses import network
from tidewire.edge.leases import Lease, Leases
from tidewire.edge.waiting import (
    CROWDED,
    DOWN,
    OVERTAKEN,
    UNKNOWN,
    Key,
    TokensWanted,
    Waiters,
    gives_up,
    is_crowded_out,
    standing_of,
    waits_no_more,
)
from tidewire.kernel import errors
from tidewire.kernel.buckets import Buckets
from tidewire.kernel.channels import split_channel
from tidewire.kernel.errors import Disconnect, ReplyError
from tidewire.kernel.subjects import NO_NAMESPACE
from tidewire.options.rate_limit_rules import CLAIM

if TYPE_CHECKING:
    from tidewire.edge.effects import Publish
    from tidewire.edge.party import Party
    from tidewire.options.rate_limit_options import RateLimitsConfig
    from tidewire.options.rate_limit_rules import RateLimitRule

    Part = Callable[["Party", str, str], str]
    """A part of a key, of a client, a channel and a method; what is false is none."""

AWAY: Final = errors.INTERNAL.saying("temporarily not possible: the rate-limit service is away")
MINUTE: Final = 60.0


Verdict = ReplyError | Disconnect | TokensWanted | None
"""None: it may be carried out."""


class Service(Protocol):
    """Who counts."""

    def ask(self, lease: Lease) -> bool:
        """Ask for tokens, and say later what came; False: nobody can be asked."""

    def give_back(self, leases: Leases, key: Key, tokens: int, asked_at: float) -> None:
        """Give back tokens that were asked for then."""


def network_of(party: Party, _channel: str, _method: str) -> str:
    """The part `ip`."""
    return network(party.address) if party.address else ""


def namespace_of(channel: str) -> str:
    """Return a channel's namespace as rules name it."""
    return split_channel(channel).namespace or NO_NAMESPACE


_PARTS: Final[Mapping[str, Part]] = {
    "user": lambda party, _channel, _method: party.user,
    "ip": network_of,
    "channel": lambda _party, channel, _method: channel,
    "namespace": lambda _party, channel, _method: namespace_of(channel),
    "method": lambda _party, _channel, method: method,
}


def _part(name: str) -> Part:
    if not name.startswith(CLAIM):
        return _PARTS[name]
    claim = name.removeprefix(CLAIM)

    def read(party: Party, _channel: str, _method: str) -> str:
        return party.standing.claims.get(claim, "") if party.standing is not None else ""

    return read


class Limit:
    """One rule, compiled."""

    __slots__ = ("_namespaces", "_parts", "alone", "denied", "leases", "passed", "rule")

    def __init__(self, rule: RateLimitRule, leases: Leases) -> None:
        self.rule = rule
        self.leases = leases
        self.alone: Buckets[Key] = Buckets(rule.allowance, leases.most)
        """What is left of the rule at this edge by itself, for `when_down: local`."""
        self.denied = 0
        self.passed = 0
        """Commands that were refused and let pass since nobody could be asked."""
        self._parts = [_part(name) for name in rule.key]
        self._namespaces = frozenset(rule.namespaces)

    def key(self, party: Party, channel: str, method: str) -> Key:
        """Return the key of a command; "": the rule does not apply to it."""
        if self._namespaces and namespace_of(channel) not in self._namespaces:
            return ""
        parts = self._parts
        if len(parts) == 1:
            return parts[0](party, channel, method)
        found = tuple(part(party, channel, method) for part in parts)
        return found if all(found) else ""


class Limits:
    """The rules in force, and their leases."""

    def __init__(self, service: Service, waiters: Waiters) -> None:
        self._service = service
        self.waiters = waiters
        self._rules: dict[str, Limit] = {}
        self._by_command: dict[str, tuple[Limit, ...]] = {}

    def configure(self, config: RateLimitsConfig, now: float) -> None:
        """Follow other rules. Those that are as they were keep their leases."""
        before, self._rules = self._rules, {}
        for rule in config.rules:
            kept = before.get(rule.name)
            if kept is not None and kept.rule == rule and kept.leases.most == config.max_keys:
                self._rules[rule.name] = before.pop(rule.name)
            else:
                leases = Leases(rule, config.max_keys, self._service.ask, self._service.give_back)
                self._rules[rule.name] = Limit(rule, leases)
        self._by_command = {
            command: tuple(limit for limit in self._rules.values() if limit.rule.command == command)
            for command in ("connect", "subscribe", "publish", "rpc")
        }
        self.waiters.most, self.waiters.patience = config.max_waiting, float(config.wait)
        for limit in before.values():
            limit.leases.clear(now)

    def all(self) -> Iterable[Limit]:
        """Return every rule."""
        return self._rules.values()

    def close(self, now: float) -> None:
        """Give back all tokens."""
        for limit in self._rules.values():
            limit.leases.clear(now)

    def tick(self, now: float) -> None:
        """Drop what nobody uses."""
        for limit in self._rules.values():
            if len(limit.leases):
                limit.leases.look(now)
            if len(limit.alone):
                limit.alone.sweep(now)

    # What commands ask.

    def judge(self, command: str, party: Party, channel: str = "", method: str = "") -> Verdict:
        """Judge a command, and spend a token of each rule that applies to it."""
        limits = self._by_command[command]
        if not limits:
            return None
        now = party.started
        if len(limits) == 1:  # nearly always
            (limit,) = limits
            key = limit.key(party, channel, method)
            if not key:
                return None
            wait = limit.leases.spend(key, now)
            if wait:
                return self._not_now([(limit, limit.leases.find(key, now), wait)], party, now)
            if party.standing is not None:
                party.standing.waits_since = 0.0
            return None
        return self._judge_all(limits, party, channel, method)

    def _judge_all(self, limits: Sequence[Limit], party: Party, channel: str, method: str) -> Verdict:
        now = party.started
        found = list(self._seen(limits, party, channel, method, 1))
        missing = [each for each in found if each[2]]
        verdict = self._not_now(missing, party, now) if missing else None
        if verdict is None:
            waits_no_more(party)
            for limit, lease, wait in found:
                if not wait:
                    limit.leases.take(lease, 1)
        return verdict

    def _seen(
        self, limits: Iterable[Limit], party: Party, channel: str, method: str, cost: int
    ) -> Iterator[tuple[Limit, Lease, float]]:
        now = party.started
        for limit in limits:
            key = limit.key(party, channel, method)
            if key:
                lease = limit.leases.find(key, now)
                yield limit, lease, limit.leases.peek(lease, cost, now)

    def plan(self, party: Party, effects: Sequence[Publish]) -> Mapping[Lease, int] | None:
        """Return what publications cost where there are tokens for all of them; None where they must be judged one by one."""
        costs: dict[Lease, int] = {}
        for effect in effects:
            for limit, lease, wait in self._seen(
                self._by_command["publish"], party, effect.channel, "", len(effect.ids)
            ):
                cost = costs.get(lease, 0) + len(effect.ids)
                if wait or limit.leases.peek(lease, cost, party.started):
                    return None
                costs[lease] = cost
        return costs

    def carry_out(self, plan: Mapping[Lease, int]) -> None:
        """Spend what was planned at the same moment."""
        for lease, cost in plan.items():
            lease.leases.take(lease, cost)

    # What is not to be had at once.

    def _not_now(self, missing: Sequence[tuple[Limit, Lease, float]], party: Party, now: float) -> Verdict:
        """Judge a command for which some rules have no token at hand; it is let pass by all of them, or by none."""
        refused = [(limit, wait) for limit, _, wait in missing if wait > 0 and not limit.rule.dry_run]
        if refused:
            return self._refuse(refused, party, now)
        unknown = [
            (limit, lease) for limit, lease, wait in missing if wait == UNKNOWN and not limit.rule.dry_run
        ]
        if unknown and is_crowded_out(party, self.waiters):
            return _turned_away([limit for limit, _ in unknown], CROWDED)
        if unknown and not gives_up(party, self.waiters, now):
            return TokensWanted([lease for _, lease in unknown])
        began = waits_no_more(party)
        if overtaken := [limit for limit, lease in unknown if lease.answered_at >= began]:
            return _turned_away(overtaken, OVERTAKEN)
        away = [(limit, lease) for limit, lease, wait in missing if wait < 0 and not limit.rule.dry_run]
        verdict = self._judge_without(away, party, now)
        if verdict is None:
            for limit, lease, wait in missing:
                if limit.rule.dry_run:
                    _count_only(limit, lease, wait)
        return verdict

    def _judge_without(self, away: Sequence[tuple[Limit, Lease]], party: Party, now: float) -> Verdict:
        """Judge a command as its rules say for while no replica answers."""
        denying = [limit for limit, _ in away if limit.rule.when_down == "deny"]
        for limit in denying:
            limit.denied += 1
        if denying:
            return AWAY
        taken: list[tuple[Limit, Lease]] = []
        for limit, lease in away:
            if limit.rule.when_down == "local":
                if wait := limit.alone.take(lease.key, now, 1):
                    for other, of_other in taken:
                        other.alone.put_back(of_other.key, 1)
                    return self._refuse([(limit, wait)], party, now)
                taken.append((limit, lease))
        for limit, _ in away:
            limit.passed += 1
        return None

    def _refuse(
        self, refused: Sequence[tuple[Limit, float]], party: Party, now: float
    ) -> ReplyError | Disconnect:
        standing = standing_of(party)
        standing.waits_since = 0.0
        standing.impatience = max(standing.impatience, now)
        for limit, _ in refused:
            limit.leases.refused += 1
            if limit.rule.close_after:
                standing.impatience += MINUTE / limit.rule.close_after
        if standing.impatience - now > MINUTE:
            return errors.TOO_MANY_REQUESTS_CLOSE
        return too_many(max(wait for _, wait in refused))


def too_many(wait: float) -> ReplyError:
    """Return error 111 with the seconds after which to try again."""
    return errors.TOO_MANY_REQUESTS.saying(f"too many requests: try again in {ceil(wait * 10) / 10} s")


def _turned_away(limits: Iterable[Limit], error: ReplyError) -> ReplyError:
    for limit in limits:
        limit.leases.refused += 1
    return error


def _count_only(limit: Limit, lease: Lease, wait: float) -> None:
    if wait == UNKNOWN:
        limit.leases.owe(lease)
    elif wait == DOWN:
        limit.leases.unjudged(1)
    else:
        limit.leases.settled(0, 1)
