from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.limits import Limited
from tidewire.edge.connection_limits import leave
from tidewire.edge.limits import AWAY
from tidewire.edge.waiting import TokensWanted
from tidewire.kernel import errors

USERS: dict[str, Any] = {"name": "users", "key": "user", "limit": 2}
ADDRESSES: dict[str, Any] = {"name": "addresses", "key": "ip", "limit": 2}


def test_a_connection_waits_for_its_place_and_takes_it() -> None:
    """The next one asks for another."""
    limited = Limited(connections=[USERS])
    first, second = limited.party(), limited.party()
    verdict = limited.places.judge(first)
    assert isinstance(verdict, TokensWanted)
    limited.waiters.add(verdict, lambda: None)
    assert limited.service.slots[0].wanted == 1
    limited.service.place(1)
    assert limited.places.judge(first) is None
    limited.places.enter(first)
    assert isinstance(limited.places.judge(second), TokensWanted)


def test_one_too_many_is_told_at_once_for_a_second() -> None:
    """To come again; of an address handshakes are refused meanwhile."""
    limited = Limited(connections=[USERS, ADDRESSES])
    party = limited.party()
    verdict = limited.places.judge(party)
    assert isinstance(verdict, TokensWanted)
    limited.waiters.add(verdict, lambda: None)
    limited.service.place(0)
    refused = limited.places.judge(party)
    assert refused == errors.TOO_MANY_REQUESTS.saying(
        "too many requests: the user has 2 connections over all edges; try again in 1.0 s"
    )
    nobody = limited.party("")
    refused = limited.places.judge(nobody)
    assert getattr(refused, "code", 0) == 3013
    assert limited.places.address_is_full("10.0.0.1", limited.clock.now)
    assert not limited.places.address_is_full("10.0.0.2", limited.clock.now)
    limited.passes(1.1, party)
    assert not limited.places.address_is_full("10.0.0.1", limited.clock.now)
    assert isinstance(limited.places.judge(party), TokensWanted)


def test_a_place_that_is_free_here_needs_no_call() -> None:
    """A client that comes back at once finds its own place."""
    limited = Limited(connections=[USERS])
    party = limited.party()
    limited.places.judge(party)
    limited.service.place(1)
    limited.places.enter(party)
    leave(party)
    assert [slot.held for slot in limited.service.slots] == [0]
    again = limited.party()
    assert limited.places.judge(again) is None
    leave(again)
    leave(again)
    assert limited.service.slots[0].held == 0, "leaving twice, or without a place, frees nothing"


@pytest.mark.parametrize("when_down", ["allow", "deny"])
def test_while_nobody_can_count_the_rule_says(when_down: str) -> None:
    """Who is let in is counted as soon as somebody can."""
    limited = Limited(connections=[{**USERS, "when_down": when_down}])
    limited.service.reachable = False
    party = limited.party()
    assert limited.places.judge(party) == (None if when_down == "allow" else AWAY)
    if when_down == "allow":
        limited.places.enter(party)
        (slots,) = limited.places.rules()
        assert (slots.passed, slots.allowed) == (1, 0)
        assert [slot.held for slot in limited.places.slots()] == [1]


def test_who_waits_for_a_replica_that_learns_waits_no_longer_than_others() -> None:
    """Then it is as if nobody could count."""
    limited = Limited(connections=[{**USERS, "when_down": "deny"}], wait="1s")
    party = limited.party()
    verdict = limited.places.judge(party)
    assert isinstance(verdict, TokensWanted)
    gone_on: list[bool] = []
    limited.waiters.add(verdict, lambda: gone_on.append(True))
    limited.service.place(0, learning=True)
    assert gone_on == []
    limited.passes(1.0, party)
    limited.run_timers()
    assert gone_on == [True]
    assert limited.places.judge(party) == AWAY
    assert limited.service.slots[0].wanted == 0, "nobody waits any more"


def test_a_dry_run_lets_in_and_counts_what_is_over() -> None:
    """Of each that came since the last answer."""
    limited = Limited(connections=[{**USERS, "dry_run": True}])
    for _ in range(3):
        party = limited.party()
        assert limited.places.judge(party) is None
        limited.places.enter(party)
    limited.service.place(3, over=True)
    (slots,) = limited.places.rules()
    assert slots.would_be_refused == 3


def test_slots_are_as_many_as_connections() -> None:
    """One of which nothing is held, wanted or granted is forgotten."""
    limited = Limited(connections=[USERS])
    party = limited.party()
    limited.places.judge(party)
    limited.service.place(1)
    limited.places.enter(party)
    leave(party)
    (slot,) = limited.service.slots
    slot.slots.forget(slot)
    assert len(slot.slots) == 1
    limited.service.place(0)
    slot.slots.forget(slot)
    assert len(slot.slots) == 0


def test_a_reload_keeps_what_counts_the_same() -> None:
    """Another limit is the service's; another key begins anew."""
    limited = Limited(connections=[USERS])
    party = limited.party()
    limited.places.judge(party)
    limited.service.place(1)
    limited.places.enter(party)
    limited.configure(connections=[{**USERS, "limit": 5}])
    assert [slot.held for slot in limited.places.slots()] == [1]
    limited.configure(connections=[{**USERS, "key": "ip"}])
    assert list(limited.places.slots()) == []
    leave(party)


def test_who_comes_while_a_question_is_under_way_is_not_refused_by_its_answer() -> None:
    """One place was asked for and given; the second client asks again."""
    limited = Limited(connections=[USERS])
    parties = [limited.party(), limited.party()]
    for party in parties:
        verdict = limited.places.judge(party)
        assert isinstance(verdict, TokensWanted)
        limited.waiters.add(verdict, lambda: None)
    limited.service.place(1, asked=1)
    assert limited.places.judge(parties[0]) is None
    limited.places.enter(parties[0])
    assert isinstance(limited.places.judge(parties[1]), TokensWanted)


@pytest.mark.parametrize("when_down", ["allow", "deny"])
def test_nobody_is_remembered_who_came_and_went_while_nobody_could_count(when_down: str) -> None:
    """However many users an outage sees."""
    limited = Limited(connections=[{**USERS, "when_down": when_down}])
    (slots,) = limited.places.rules()
    early = limited.party("early")
    limited.places.judge(early)
    limited.service.place(1)
    limited.places.enter(early)
    limited.service.reachable = False
    for number in range(10):
        party = limited.party(f"user-{number}")
        if limited.places.judge(party) is None:
            limited.places.enter(party)
        leave(party)
    assert len(slots) == 1
    leave(early)
    assert len(slots) == 0, "its place is not there to be taken without asking"


def test_a_slot_that_was_dropped_does_not_take_its_successor_with_it() -> None:
    """Another replica may look after the old one still."""
    limited = Limited(connections=[USERS])
    old = limited.party()
    limited.places.judge(old)
    (slot,) = limited.service.slots
    limited.service.place(0)
    slot.slots.forget(slot)
    limited.passes(2.0)
    party = limited.party()
    limited.places.judge(party)
    limited.service.place(1)
    limited.places.enter(party)
    slot.slots.forget(slot)
    assert [each.held for each in limited.places.slots()] == [1]


def test_a_rule_that_comes_back_counts_who_stayed() -> None:
    """Their end is not taken for that of others."""
    limited = Limited(connections=[USERS])
    stays = limited.party()
    limited.places.judge(stays)
    limited.service.place(1)
    limited.places.enter(stays)
    limited.configure(connections=[])
    limited.configure(connections=[USERS])
    assert [slot.held for slot in limited.places.slots()] == [1]
    leave(stays)
    assert [slot.held for slot in limited.places.slots()] == [0]
    assert len(limited.service.slots) == 1


def test_who_waits_for_a_place_and_then_for_a_token_waits_no_longer_than_others() -> None:
    """A place that is there does not begin the time anew."""
    connects = {"name": "c", "command": "connect", "key": ["user"], "limit": 10}
    limited = Limited(connections=[USERS], rules=[connects], wait="1s")
    party = limited.party()
    assert isinstance(limited.places.judge(party), TokensWanted)
    limited.service.place(1)
    limited.passes(0.5, party)
    assert limited.places.judge(party) is None
    assert isinstance(limited.limits.judge("connect", party), TokensWanted)
    limited.passes(0.6, party)
    assert limited.places.judge(party) is None
    assert limited.limits.judge("connect", party) is None, "nobody has answered, and the rule says allow"
    limited.places.enter(party)
    assert party.standing is not None
    assert not party.standing.waits_since
