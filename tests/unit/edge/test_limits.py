from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.limits import Limited
from tidewire.edge.effects import Publish
from tidewire.edge.limits import AWAY
from tidewire.edge.party import Party
from tidewire.edge.waiting import CROWDED, OVERTAKEN, TokensWanted, standing_of
from tidewire.kernel import errors
from tidewire.kernel.errors import Disconnect, ReplyError

RULE: dict[str, Any] = {"name": "r", "command": "publish", "key": ["user"], "limit": 100}
SMALL: dict[str, Any] = {**RULE, "limit": 2, "period": "1h", "lease_size": 1}


def waits(verdict: object) -> bool:
    """Whether a command has to wait."""
    return isinstance(verdict, TokensWanted)


def test_a_command_waits_for_the_first_tokens_of_its_key_only() -> None:
    """Then it is judged at once."""
    limited = Limited(rules=[RULE])
    party = limited.party()
    assert waits(limited.limits.judge("publish", party, "live:x"))
    limited.service.grant()
    assert limited.limits.judge("publish", party, "live:x") is None
    assert limited.limits.judge("subscribe", party, "live:x") is None, "no rule is for it"


def test_a_refusal_says_when_to_try_again() -> None:
    """In tenths of a second, rounded up."""
    limited = Limited(rules=[SMALL])
    party = limited.party()
    limited.limits.judge("publish", party)
    limited.service.grant(0, wait=1.13)
    verdict = limited.limits.judge("publish", party)
    assert verdict == errors.TOO_MANY_REQUESTS.saying("too many requests: try again in 1.2 s")


def test_who_goes_on_is_closed() -> None:
    """After as many refusals in a minute as the rule says; they are forgotten as evenly."""
    limited = Limited(rules=[{**SMALL, "close_after": 4}])
    party = limited.party()
    limited.limits.judge("publish", party)
    limited.service.grant(0, wait=1000)
    verdicts = [limited.limits.judge("publish", party) for _ in range(4)]
    assert all(isinstance(verdict, ReplyError) for verdict in verdicts)
    limited.passes(15, party)
    assert isinstance(limited.limits.judge("publish", party), ReplyError)
    assert limited.limits.judge("publish", party) == errors.TOO_MANY_REQUESTS_CLOSE


def test_all_rules_have_a_token_or_none_is_spent() -> None:
    """What one refuses costs the other nothing."""
    limited = Limited(rules=[RULE, {**SMALL, "name": "s", "key": ["channel"]}])
    party = limited.party()
    assert waits(limited.limits.judge("publish", party, "live:x"))
    limited.service.grant()
    assert limited.limits.judge("publish", party, "live:x") is None
    limited.service.grant(0, wait=5)
    for _ in range(50):
        assert isinstance(limited.limits.judge("publish", party, "live:x"), ReplyError)
    first, second = limited.limits.all()
    assert (first.leases.allowed, second.leases.allowed, second.leases.refused) == (1, 1, 50)


@pytest.mark.parametrize(
    ("key", "changes", "applies"),
    [
        (["user"], {"user": ""}, False),
        (["ip"], {"address": ""}, False),
        (["ip"], {}, True),
        (["user", "claim:plan"], {}, False),
        (["channel"], {}, True),
    ],
)
def test_a_rule_applies_to_who_has_all_parts_of_its_key(
    key: list[str], changes: dict[str, str], applies: bool
) -> None:
    """An anonymous client has no user id, one behind an unknown proxy no address."""
    limited = Limited(rules=[{**RULE, "key": key}])
    assert waits(limited.limits.judge("publish", limited.party(**changes), "live:x")) is applies


def test_keys_are_what_is_counted() -> None:
    """A /64 network is one address; namespaces and claims are text; several parts are one key together."""
    limited = Limited(rules=[{**RULE, "key": ["ip", "namespace", "claim:plan"]}])
    (limit,) = limited.limits.all()
    party = limited.party(address="2001:db8::1")
    standing_of(party).claims = {"plan": "free"}
    assert limit.key(party, "live:x", "") == limit.key(party, "live:y", "") != limit.key(party, "x", "")
    assert limit.key(party, "x", "") == ("20010db800000000/64", "_", "free")
    party.address = "2001:db8::ffff"
    assert limit.key(party, "x", "")[0] == "20010db800000000/64"


def test_only_channels_of_the_namespaces_that_a_rule_names() -> None:
    """And `_` for those without one."""
    limited = Limited(rules=[{**RULE, "namespaces": ["live", "_"]}])
    party = limited.party()
    assert limited.limits.judge("publish", party, "chat:x") is None
    assert waits(limited.limits.judge("publish", party, "live:x"))
    assert waits(limited.limits.judge("publish", party, "x"))


@pytest.mark.parametrize("when_down", ["allow", "deny"])
def test_who_has_waited_long_enough_gets_what_the_rule_says(when_down: str) -> None:
    """The next command waits anew."""
    limited = Limited(rules=[{**RULE, "when_down": when_down}], wait="1s")
    party = limited.party()
    verdict = limited.limits.judge("publish", party)
    assert isinstance(verdict, TokensWanted)
    limited.waiters.add(verdict, lambda: None)
    limited.passes(1.0, party)
    assert limited.limits.judge("publish", party) == (None if when_down == "allow" else AWAY)
    assert waits(limited.limits.judge("publish", party))
    (limit,) = limited.limits.all()
    assert (limit.passed, limit.denied) == ((1, 0) if when_down == "allow" else (0, 1))


@pytest.mark.parametrize("when_down", ["allow", "deny", "local"])
def test_who_waits_while_others_get_the_tokens_is_refused(when_down: str) -> None:
    """The service is there: else as many would pass each second as wait, whatever the rule says."""
    limited = Limited(rules=[{**RULE, "lease_size": 1, "when_down": when_down}], wait="1s")
    first, second = limited.party("alice"), limited.party("alice")
    for party in (first, second):
        verdict = limited.limits.judge("publish", party)
        assert isinstance(verdict, TokensWanted)
    limited.passes(0.5, first, second)
    limited.service.grant()
    assert limited.limits.judge("publish", first) is None
    limited.passes(0.5, second)
    assert limited.limits.judge("publish", second) == OVERTAKEN
    (limit,) = limited.limits.all()
    assert (limit.passed, limit.denied, limit.leases.refused) == (0, 0, 1)


def test_without_a_replica_an_edge_may_keep_the_rule_by_itself() -> None:
    """The burst, then what comes back, for each key; and no more than that when nobody answers a second time."""
    limited = Limited(rules=[{**RULE, "limit": 10, "burst": 20, "when_down": "local", "close_after": 0}])
    limited.service.reachable = False
    alice, bob = limited.party("alice"), limited.party("bob")

    def passed(*parties: Party) -> list[int]:
        return [sum(limited.limits.judge("publish", each) is None for _ in range(50)) for each in parties]

    assert passed(alice, bob) == [20, 20]
    refused = limited.limits.judge("publish", alice)
    assert isinstance(refused, ReplyError)
    assert refused.message.startswith("too many requests: try again in 0.")
    limited.passes(1.0, alice, bob)
    assert passed(alice) == [10]
    limited.service.reachable = True
    limited.passes(1.0, alice, bob)
    assert waits(limited.limits.judge("publish", alice))
    limited.service.grant(0, wait=5.0)
    assert isinstance(limited.limits.judge("publish", alice), ReplyError), "the service's word counts"
    limited.service.reachable = False
    limited.passes(5.0, alice, bob)
    assert passed(alice) == [20]
    (limit,) = limited.limits.all()
    assert (limit.passed, limit.denied, limit.leases.refused) == (70, 0, 30 + 30 + 1 + 40 + 1 + 30)
    limited.passes(10.0)
    limited.limits.tick(limited.clock.now)
    assert len(limit.alone) == 0, "they are full again"


def test_by_itself_an_edge_has_a_token_of_each_rule_or_spends_none() -> None:
    """And where one rule denies, it denies."""
    local = {**RULE, "when_down": "local"}
    rules = [
        {**local, "name": "many", "limit": 30},
        {**local, "name": "few", "limit": 10, "key": ["channel"]},
    ]
    limited = Limited(rules=rules)
    limited.service.reachable = False
    party = limited.party()
    assert [limited.limits.judge("publish", party, "a") for _ in range(10)] == [None] * 10
    for _ in range(50):
        assert limited.limits.judge("publish", party, "a") is not None
    assert [limited.limits.judge("publish", party, "b") for _ in range(10)] == [None] * 10
    assert [limited.limits.judge("publish", party, "c") for _ in range(10)] == [None] * 10
    assert limited.limits.judge("publish", party, "d") is not None, "thirty are spent"
    limited.configure(rules=[*rules, {**RULE, "name": "deny", "when_down": "deny"}])
    assert limited.limits.judge("publish", limited.party("bob"), "e") == AWAY
    assert [len(limit.alone) for limit in limited.limits.all()] == [1, 3, 0]


def test_keys_of_an_edge_by_itself_are_bounded() -> None:
    """Those that have spent least are forgotten, and counted."""
    limited = Limited(rules=[{**RULE, "when_down": "local"}], max_keys=100)
    limited.service.reachable = False
    for number in range(1_000):
        assert limited.limits.judge("publish", limited.party(f"user-{number}")) is None
    (limit,) = limited.limits.all()
    assert len(limit.alone) <= 100
    assert limit.alone.forgotten >= 900


def test_no_more_wait_than_may() -> None:
    """The others are refused: else whoever lets many wait would be under no limit. One that waits already goes on."""
    limited = Limited(rules=[RULE], max_waiting=2)
    first = limited.party("a")
    verdicts = []
    for party in (first, limited.party("b"), limited.party("c")):
        verdicts.append(limited.limits.judge("publish", party))
        if isinstance(verdicts[-1], TokensWanted):
            limited.waiters.add(verdicts[-1], lambda: None)
    assert [waits(verdict) for verdict in verdicts] == [True, True, False]
    assert verdicts[2] == CROWDED
    limited.configure(rules=[{**RULE, "limit": 99}], max_waiting=1)
    assert waits(limited.limits.judge("publish", first))


def test_a_dry_run_delays_nothing_and_counts_when_it_is_known() -> None:
    """The commands that went on meanwhile are counted as they would have been judged."""
    limited = Limited(rules=[{**RULE, "dry_run": True, "lease_size": 5}])
    party = limited.party()
    for _ in range(8):
        assert limited.limits.judge("publish", party) is None
    (limit,) = limited.limits.all()
    (lease,) = limited.service.asked
    assert lease.wanted == 13
    limited.service.grant(6)
    assert (limit.leases.allowed, limit.leases.would_be_refused) == (6, 2)
    limited.passes(2, party)
    limited.limits.judge("publish", party)
    limited.service.fail()
    assert limit.leases.unknown == 1


def publishes(*runs: tuple[str, int]) -> list[Publish]:
    """Publications of one read, in runs of a channel."""
    return [Publish(tuple(range(n)), channel, (b"1",) * n, b"", 0.0) for channel, n in runs]


def test_a_read_of_publications_is_paid_as_a_whole_or_judged_one_by_one() -> None:
    """Runs of one key count together; where not all can be paid none is."""
    limited = Limited(rules=[RULE])
    party = limited.party()
    assert limited.limits.plan(party, publishes(("live:x", 3))) is None
    limited.service.grant()
    plan = limited.limits.plan(party, publishes(("live:x", 3), ("live:y", 3)))
    assert plan is not None
    limited.limits.carry_out(plan)
    (limit,) = limited.limits.all()
    assert limit.leases.allowed == 6
    assert limited.limits.plan(party, publishes(("live:x", 3), ("live:y", 3))) is None
    assert limit.leases.allowed == 6


def test_a_rule_that_stays_as_it_was_keeps_its_leases() -> None:
    """Another one gives back what it had, and who waits for it goes on."""
    limited = Limited(rules=[RULE, {**RULE, "name": "s"}])
    party = limited.party()
    verdict = limited.limits.judge("publish", party)
    assert isinstance(verdict, TokensWanted)
    gone_on: list[bool] = []
    limited.waiters.add(verdict, lambda: gone_on.append(True))
    limited.service.grant()
    limited.limits.judge("publish", party)
    limited.configure(rules=[RULE, {**RULE, "name": "s", "limit": 50}])
    assert gone_on == [True]
    assert limited.service.returned == [("s", "alice", 9)]
    limited.limits.close(limited.clock.now)
    assert limited.service.returned[1:] == [("r", "alice", 9)]


def test_closing_is_temporary() -> None:
    """SDKs come back after it."""
    assert Disconnect(3013, "").reconnect


def test_who_waited_for_a_command_that_failed_has_not_waited_for_the_next_one() -> None:
    """A command that is refused for something else after its wait, a token that has expired, gives nothing away."""
    limited = Limited(rules=[{**RULE, "command": "subscribe"}], wait="1s")
    party = limited.party()
    assert waits(limited.limits.judge("subscribe", party, "c"))
    party.refuse("subscribe", 1, errors.TOKEN_EXPIRED)
    limited.service.grant(0, wait=0.5)
    limited.passes(5.0, party)
    assert waits(limited.limits.judge("subscribe", party, "c"))
