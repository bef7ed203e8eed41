"""What may be spent of a rule over a reload that changes it: docs/rate-limits.md, "By how much a rule may be exceeded"."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.limits import Limited
from tidewire.kernel.config import decode
from tidewire.kernel.rate_bound import Terms, lease_excess
from tidewire.kernel.token_bucket import ROUNDING
from tidewire.options.rate_limit_options import RateLimitsConfig
from tidewire.ratelimit.rulebook import Rulebook

KEY = b"alice"
LEASE_TIME = 1.0


def rule_of(limit: int, burst: int, lease_size: int = 1) -> dict[str, Any]:
    """A rule on publications."""
    return {
        "name": "r",
        "command": "publish",
        "key": ["user"],
        "limit": limit,
        "burst": burst,
        "lease_size": lease_size,
        "lease_time": f"{LEASE_TIME:g}s",
        "close_after": 0,
    }


def config(rule: dict[str, Any]) -> RateLimitsConfig:
    """One rule, and a replica that nobody asks."""
    return decode(RateLimitsConfig, {"replicas": ["ipv4:127.0.0.1:9"], "rules": [rule]})


class Mesh:
    """Two edges and a replica, each of which is reloaded when the test says so."""

    def __init__(self, rule: dict[str, Any]) -> None:
        self.book = Rulebook(config(rule), 100)
        self.edges = [Limited(rules=[rule]) for _ in range(2)]
        self.now = self.edges[0].clock.now
        self.spent: list[float] = []
        self._asked_at = [self.now, self.now]

    def passes(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        for edge in self.edges:
            edge.clock.now = self.now

    def spend(self, number: int, times: int) -> None:
        """Let a user publish at an edge."""
        edge, party = self.edges[number], self.edges[number].party()
        asked = len(edge.service.asked)
        (limit,) = edge.limits.all()
        before = limit.leases.allowed
        for _ in range(times):
            edge.limits.judge("publish", party, "live:x")
        self.spent += [self.now] * (limit.leases.allowed - before)
        if len(edge.service.asked) > asked:
            self._asked_at[number] = self.now

    def answer(self, number: int) -> None:
        """Let the replica answer an edge; what it gives back comes first."""
        service, buckets = self.edges[number].service, self.book.rules["r"].buckets
        for _, _, tokens in service.returned:
            buckets.give_back(KEY, tokens, LEASE_TIME)
        service.returned.clear()
        asked, service.asked = service.asked, []
        for lease in asked:
            granted = buckets.grant(KEY, self.now, lease.wanted)
            lease.answered(granted.tokens, granted.wait, self._asked_at[number], self.now)


def terms_of(rule: dict[str, Any]) -> Terms:
    """Return its terms."""
    return config(rule).rules[0].terms


def rules() -> st.SearchStrategy[dict[str, Any]]:
    """Slow and fast ones, with all at once or little."""
    sizes = st.sampled_from([1, 5, 20])
    return st.tuples(sizes, sizes, st.integers(1, 10)).map(
        lambda drawn: rule_of(drawn[0], drawn[1], min(drawn[1], drawn[2]))
    )


steps = st.tuples(
    st.floats(0, 0.6), st.sampled_from(["spend", "spend", "answer", "answer"]), st.integers(1, 15)
)


@settings(max_examples=150)
@given(rules(), rules(), st.lists(steps, max_size=25), st.lists(steps, max_size=25), st.integers(0, 10))
def test_over_a_reload_both_rules_hold_one_after_the_other(
    old: dict[str, Any],
    new: dict[str, Any],
    before: list[tuple[float, str, int]],
    behind: list[tuple[float, str, int]],
    late: int,
) -> None:
    """The replica first, the edges some steps later; the burst of each rule is there once, and leases of the old one end."""
    mesh, at = Mesh(old), 0.0
    for number, (pause, what, count) in enumerate([*before, *behind]):
        mesh.passes(pause)
        if number == len(before):
            at = mesh.now
            mesh.book.configure(config(new), 100)
        if number == len(before) + late:
            for edge in mesh.edges:
                edge.configure(rules=[new])
        if what == "spend":
            mesh.spend(count % 2, count)
        else:
            mesh.answer(count % 2)
    first, second = terms_of(old), terms_of(new)
    for index, begin in enumerate(mesh.spent if at else ()):
        if begin >= at + LEASE_TIME:
            break
        for number, end in enumerate(mesh.spent[index:], 1):
            if end < at:
                continue
            allowed = first.allowance.burst + first.allowance.rate * (max(0.0, at - begin) + ROUNDING)
            allowed += second.allowance.burst + second.allowance.rate * (end - at + ROUNDING)
            assert number <= allowed + lease_excess(first) + 1e-6


def test_a_slower_rule_may_find_a_full_bucket() -> None:
    """A bucket keeps the time until it is full, and not the tokens that it lacks: that is the burst that is there once more."""
    mesh = Mesh(rule_of(20, 20, 20))
    for _ in range(2):
        mesh.spend(0, 20)
        mesh.answer(0)
    assert len(mesh.spent) == 20
    mesh.book.configure(config(rule_of(1, 60, 60)), 100)
    mesh.edges[0].configure(rules=[rule_of(1, 60, 60)])
    for _ in range(2):
        mesh.spend(0, 100)
        mesh.answer(0)
    assert len(mesh.spent) == 20 + 59
