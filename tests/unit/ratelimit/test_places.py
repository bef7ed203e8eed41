from __future__ import annotations

import itertools
from collections.abc import Iterator
from itertools import count

import pytest

from tidewire.ratelimit.places import EDGE_LEASE, FROZEN, LEARNING, MOVED_AGAIN, Holding, Place, Places

LIMIT = 3


def lives() -> Iterator[str]:
    """Names of lives."""
    return map(str, count(1))


class Replica:
    """One replica, with a clock and the sequences of the edges that speak to it."""

    def __init__(self) -> None:
        self.now = 1000.0
        names = lives()
        self.places = Places({"users": LIMIT}, 100, lambda: next(names), self.now)
        self.sequences = count(1)

    def passes(self, seconds: float) -> Replica:
        """Let time pass, with looks at the clock as a process does."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.25)
            self.places.look(self.now)
        return self

    def hold(self, edge: str, held: int, wanted: int, *, moved: bool = False, anew: bool = False) -> Place:
        """Say what an edge has of the one key."""
        holding = Holding("users", b"alice", held, wanted, moved)
        found = self.places.hold(edge, next(self.sequences), [holding], self.now, anew=anew)
        assert found is not None
        return found[1][0]


@pytest.fixture
def replica() -> Replica:
    """One that has learned."""
    return Replica().passes(LEARNING)


def test_all_edges_together_have_no_more_than_the_limit(replica: Replica) -> None:
    """What one gives up another may have."""
    assert replica.hold("a", 0, 2).granted == 2
    assert replica.hold("b", 0, 2).granted == 1
    assert replica.hold("c", 0, 1).granted == 0
    assert replica.places.refused == 2
    replica.hold("a", 1, 1)
    assert replica.hold("c", 0, 1).granted == 1
    assert replica.places.held() == {"users": 3}


def test_what_is_open_is_never_taken_away(replica: Replica) -> None:
    """An edge may hold more than the limit after a failure, and then nobody gets more."""
    assert replica.hold("a", 5, 6).granted == 5
    assert replica.hold("b", 0, 1).granted == 0


def test_an_edge_that_dies_frees_its_places_in_bounded_time(replica: Replica) -> None:
    """Not before its lease is over, in which it may be heard again."""
    replica.hold("a", 0, 3)
    replica.passes(EDGE_LEASE)
    assert replica.hold("b", 0, 1).granted == 0
    replica.passes(0.25)
    assert replica.hold("b", 0, 3).granted == 3
    assert replica.places.edges == 1


def test_an_edge_that_is_known_no_more_learns_that_it_is_another_life(replica: Replica) -> None:
    """By another name, upon which it says everything anew."""
    first = replica.places.hold("a", 1, [], replica.now, anew=False)
    again = replica.places.hold("a", 2, [], replica.now, anew=False)
    replica.passes(EDGE_LEASE + 1)
    later = replica.places.hold("a", 3, [], replica.now, anew=False)
    assert first is not None
    assert again is not None
    assert later is not None
    assert first[0] == again[0] != later[0]


def test_a_replica_that_begins_promises_nothing_until_it_has_learned() -> None:
    """It neither refuses who has a place nor gives away one that another edge may hold."""
    replica = Replica()
    assert replica.hold("a", 2, 3) == Place(2, learning=True)
    replica.passes(LEARNING / 2)
    assert replica.hold("b", 1, 1).granted == 1
    replica.passes(LEARNING / 2)
    assert replica.hold("a", 2, 3) == Place(2)
    assert replica.places.refused == 1


def test_keys_of_another_replica_are_learned_first(replica: Replica) -> None:
    """Edges notice one after the other that it is gone; keys of our own go on meanwhile."""
    assert replica.hold("a", 2, 3, moved=True) == Place(2, learning=True)
    other = Holding("users", b"bob", 0, 1)
    found = replica.places.hold("a", next(replica.sequences), [other], replica.now, anew=False)
    assert found is not None
    assert found[1] == [Place(1)]
    replica.passes(LEARNING)
    replica.hold("b", 1, 1, moved=True)
    assert replica.hold("a", 2, 3, moved=True) == Place(2)
    replica.passes(MOVED_AGAIN)
    assert replica.hold("b", 1, 2, moved=True).learning, "another failure"


def test_who_was_frozen_begins_anew(replica: Replica) -> None:
    """Edges have gone elsewhere, and may have come to hold less or more."""
    replica.hold("a", 0, 3)
    replica.now += FROZEN + 0.1
    assert replica.hold("b", 0, 1) == Place(0, learning=True)
    assert replica.places.held() == {}


def test_what_was_said_before_is_not_obeyed_later(replica: Replica) -> None:
    """A call that was on its way while the replica was frozen."""
    replica.places.hold("a", 7, [Holding("users", b"alice", 0, 0)], replica.now, anew=False)
    stale = replica.places.hold("a", 7, [Holding("users", b"alice", 3, 3)], replica.now, anew=False)
    assert stale is None
    assert replica.places.held() == {}


def test_what_an_edge_says_anew_replaces_what_it_said(replica: Replica) -> None:
    """Keys that it does not name are free."""
    replica.hold("a", 0, 3)
    replica.places.hold("a", next(replica.sequences), [], replica.now, anew=True)
    assert replica.places.held() == {"users": 0}
    assert replica.hold("b", 0, 3).granted == 3


def test_a_rule_that_is_not_known_is_told(replica: Replica) -> None:
    """The edge's configuration is another one."""
    found = replica.places.hold("a", 1, [Holding("other", b"alice", 1, 2)], replica.now, anew=False)
    assert found is not None
    assert found[1] == [Place(1, known=False)]


def test_edges_are_no_more_than_there_is_room_for(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is known may go on, and who goes makes room."""
    monkeypatch.setattr("tidewire.ratelimit.places.MOST_EDGES", 2)
    replica.hold("a", 0, 1)
    replica.hold("b", 0, 1)
    assert [replica.places.takes(edge) for edge in ("a", "b", "c")] == [True, True, False]
    replica.passes(EDGE_LEASE + 1)
    assert replica.places.takes("c")


def test_keys_are_no_more_than_there_is_room_for(replica: Replica) -> None:
    """Further ones are not judged, and counted; who gives one up makes room, and so does an edge that is gone."""
    places, number = replica.places, itertools.count(1)
    places.configure({"users": LIMIT}, 3)

    def hold(edge: str, key: bytes, wanted: int) -> Place:
        found = places.hold(edge, next(number), [Holding("users", key, 0, wanted)], replica.now, anew=False)
        assert found is not None
        return found[1][0]

    for edge, key in (("one", b"a"), ("one", b"b"), ("two", b"a")):
        assert hold(edge, key, 1) == Place(1)
    assert hold("two", b"c", 1) == Place(0, learning=True)
    assert hold("two", b"c", 0) == Place(0)
    assert hold("two", b"a", 2) == Place(2), "it has one already"
    assert places.unjudged == 1
    assert hold("one", b"b", 0) == Place(0)
    assert hold("two", b"c", 1) == Place(1)
    assert hold("two", b"d", 1) == Place(0, learning=True)
    replica.passes(EDGE_LEASE + 1)
    for key in (b"e", b"f", b"g"):
        assert hold("three", key, 1) == Place(1)
    assert hold("three", b"h", 1) == Place(0, learning=True)


def test_a_rule_that_was_gone_for_a_while_counts_nobody_who_left_meanwhile(replica: Replica) -> None:
    """And edges learn that they are to say again what they hold by it."""
    before = replica.places.hold("a", next(replica.sequences), [], replica.now, anew=False)
    assert replica.hold("a", 0, 3).granted == 3
    replica.places.configure({}, 100)
    assert not replica.hold("a", 0, 0).known
    replica.places.configure({"users": LIMIT}, 100)
    assert replica.hold("b", 0, 3).granted == 3
    assert replica.places.held() == {"users": 3}
    after = replica.places.hold("a", next(replica.sequences), [], replica.now, anew=False)
    assert before is not None
    assert after is not None
    assert after[0] != before[0]


def test_another_limit_of_a_rule_keeps_what_is_held(replica: Replica) -> None:
    """Who is in stays, and is counted."""
    assert replica.hold("a", 0, 3).granted == 3
    replica.places.configure({"users": LIMIT + 1}, 100)
    assert replica.hold("b", 0, 3).granted == 1
