from __future__ import annotations

import pytest

from tests.fakes.presence import LISTENING, Bench
from tests.support.presence_edge import Truth
from tidewire.kernel.presence_wire import (
    HEARTBEAT,
    LEASE,
    Bye,
    Change,
    Chunk,
    Connected,
    Delta,
    Disconnected,
    Event,
    Joined,
    Left,
    Occupied,
    PartitionState,
    ReplicaBeat,
    Vacated,
)
from tidewire.presence import asks, follower, leaves, mesh, occupancy, replica
from tidewire.presence.occupancy import SETTLE, Turn
from tidewire.presence.replica import DEAF, LISTENING_AGAIN, RETURN


def joined(*clients: str, channel: str = "room:a") -> tuple[Change, ...]:
    """Connections in a channel."""
    return tuple(Joined(channel, client, f"u-{client}") for client in clients)


def say(
    bench: Bench, first: int, *changes: Change, edge: str = "e1", incarnation: int = 1, partition: int = 0
) -> None:
    """An edge announces changes."""
    bench.replica.delta(edge, partition, Delta(1, incarnation, first, changes), bench.now)


def answer(bench: Bench, truth: Truth, partition: int = 0, incarnation: int = 1) -> list[Chunk]:
    """The edge answers the last question; return what it said."""
    question = bench.voice.questions[-1]
    chunks = truth.chunks(question.edge, incarnation, partition, 2)
    for chunk in chunks:
        bench.replica.chunk(question.number, chunk, bench.now)
    return chunks


def truth_of(*changes: Change) -> Truth:
    """What an edge has after these changes."""
    truth = Truth()
    truth.take(changes)
    return truth


@pytest.fixture
def bench() -> Bench:
    """A replica that answers, and one edge that lives."""
    bench = Bench()
    bench.beat()
    return bench


def keep(bench: Bench, seconds: float, *edges: str, states: tuple[PartitionState, ...] = ()) -> None:
    """Let time pass while these edges give signs of life."""
    end = bench.now + seconds
    while bench.now < end:
        for edge in edges:
            bench.beat(edge, 1, *states)
        bench.pass_time(min(HEARTBEAT, end - bench.now))


# answers


def test_it_listens_before_it_answers() -> None:
    """However little there is; and asks all edges to speak up."""
    bench = Bench(started=False)
    assert bench.voice.hellos == 1
    assert bench.replica.why_unready == "listening for edges"
    keep(bench, LISTENING - 0.1, "e1")
    assert bench.problem() == "not_synced"
    bench.beat()
    bench.pass_time(0.2)
    assert bench.problem() is None
    assert bench.replica.why_unready is None
    assert bench.problem(1) == "elsewhere"


def test_who_hears_no_edge_knows_nothing() -> None:
    """Whoever asks is served by one."""
    bench = Bench()
    assert bench.replica.why_unready is None
    assert bench.problem() == "not_synced"


def test_an_edge_that_speaks_before_it_says_where_it_stands_is_doubted(bench: Bench) -> None:
    """It may have spoken elsewhere before."""
    say(bench, 1, *joined("c1"), edge="e2")
    assert bench.problem() == "not_synced"
    bench.beat("e2", 1, PartitionState(0, 1, 1, 0, 0))
    assert bench.problem() is None


def test_a_gap_is_filled_by_a_snapshot(bench: Bench) -> None:
    """What comes meanwhile is applied behind it, and nothing is answered until then."""
    say(bench, 1, *joined("c1"))
    say(bench, 3, *joined("c3"))
    assert bench.problem() == "not_synced"
    bench.tick()
    (question,) = bench.voice.questions
    assert (question.edge, question.partitions) == ("e1", (0,))
    say(bench, 4, Left("room:a", "c1"))
    answer(bench, truth_of(*joined("c1", "c2", "c3")))
    assert bench.problem() is None
    assert bench.clients("room:a") == {"c2", "c3"}
    assert bench.metrics.counts["gap"] == 1


def test_a_hole_behind_the_snapshot_is_asked_for_anew(bench: Bench) -> None:
    """Twice, if it must be."""
    say(bench, 5, *joined("c5"))
    bench.tick()
    say(bench, 9, *joined("c9"))
    answer(bench, truth_of(*joined("c1", "c2", "c3", "c4", "c5")))
    assert bench.problem() == "not_synced"
    bench.tick()
    assert len(bench.voice.questions) == 2
    answer(bench, truth_of(*joined(*(f"c{number}" for number in range(9)))))
    assert bench.problem() is None


def test_counts_that_differ_are_asked_about(bench: Bench) -> None:
    """A change that was forged, or a mistake of ours."""
    say(bench, 1, *joined("c1"))
    bench.beat("e1", 1, PartitionState(0, 1, 2, 0, 0))
    assert bench.problem() == "not_synced"
    assert bench.metrics.counts["counts"] == 1


def test_somebody_else_who_spoke_in_an_edges_name_is_found_out(bench: Bench) -> None:
    """Two signs of life behind what was heard: the edge itself is asked."""
    say(bench, 1, *joined("c1"))
    say(bench, 2, *joined("forged"))
    state = PartitionState(0, 1, 1, 0, 0)
    bench.beat("e1", 1, state)
    assert bench.problem() is None
    bench.beat("e1", 1, state)
    assert bench.problem() == "not_synced"
    bench.tick()
    answer(bench, truth_of(*joined("c1")))
    assert bench.clients("room:a") == {"c1"}


def test_a_number_beyond_belief_does_no_lasting_harm(bench: Bench) -> None:
    """It is forgotten with the next snapshot but one."""
    say(bench, 1, *joined("c1"))
    say(bench, 2**62, *joined("forged"))
    bench.tick()
    answer(bench, truth_of(*joined("c1")))
    bench.tick()
    answer(bench, truth_of(*joined("c1")))
    assert bench.problem() is None
    assert bench.clients("room:a") == {"c1"}


def test_an_edge_that_does_not_answer_is_asked_again(bench: Bench) -> None:
    """After a pause that grows; an answer that comes late is passed over."""
    say(bench, 2, *joined("c2"))
    bench.tick()
    late = bench.voice.questions[-1]
    keep(bench, 2.3, "e1")
    assert bench.metrics.counts["silence"] == 1
    for chunk in truth_of(*joined("c1", "c2")).chunks("e1", 1, 0):
        bench.replica.chunk(late.number, chunk, bench.now)
    assert bench.problem() == "not_synced"
    keep(bench, 40, "e1")
    assert 4 <= len(bench.voice.questions) <= 8
    keep(bench, asks.PATIENCE + asks.LONGEST_PAUSE, "e1")
    while bench.replica.asks.under_way == 0:
        keep(bench, 0.25, "e1")
    answer(bench, truth_of(*joined("c1", "c2")))
    assert bench.clients("room:a") == {"c1", "c2"}


@pytest.mark.parametrize(
    "fault",
    ["lost", "twice", "twice_then_lost", "too_late", "flood", "other_life", "other_edge", "nobody_asked"],
)
def test_chunks_are_taken_as_they_were_asked_for(bench: Bench, fault: str) -> None:
    """One that is lost is missed, one that comes twice is not applied twice, and others are not believed."""
    say(bench, 2, *joined("c2"))
    bench.tick()
    (question,) = bench.voice.questions
    truth = truth_of(*joined("c1", "c2", "c3", "c4", "c5"))
    first, second, third = truth.chunks("e1", 1, 0, 2)
    forged = Chunk(1, 1, "e1", 0, 9, 0, True, joined("forged"))
    if fault == "other_life":
        forged = Chunk(1, 2, "e1", 0, 9, 0, True, joined("forged"))
    if fault == "other_edge":
        forged = Chunk(1, 1, "e2", 0, 9, 0, True, joined("forged"))
    number = question.number + (fault == "nobody_asked")
    given = {
        "lost": [first, third],
        "twice": [first, first, second, third],
        "twice_then_lost": [first, first, third],
        "too_late": [first, third, first, second, third],
        "flood": [first, *[second] * 1_000, third],
    }.get(fault, [])
    for chunk in given or [forged]:
        bench.replica.chunk(number, chunk, bench.now)
    if fault in {"twice", "flood"}:
        assert bench.clients("room:a") == {"c1", "c2", "c3", "c4", "c5"}
    else:
        assert bench.problem() == "not_synced"
        assert "forged" not in bench.clients("room:a")


def test_changes_wait_for_a_snapshot_within_a_bound(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond, it is asked for anew, and the answer that was on its way is of no use."""
    monkeypatch.setattr(follower, "MOST_BUFFERED", 10)
    say(bench, 2, *joined("c2"))
    bench.tick()
    for number in range(3, 13):
        say(bench, number, *joined(f"c{number}"))
    assert bench.metrics.counts["overflow"] == 1
    answer(bench, truth_of(*joined("c1", "c2")))
    assert bench.problem() == "not_synced"
    bench.tick()
    answer(bench, truth_of(*joined(*(f"c{number}" for number in range(1, 13)))))
    assert bench.problem() is None


def test_there_is_no_room_for_more_than_the_bound() -> None:
    """What changes then is not answered; it is asked for when there is room again."""
    bench = Bench(most_entries=4)
    say(bench, 1, *joined("c1", "c2", "c3", "c4"))
    keep(bench, 2, "e1", states=(PartitionState(0, 4, 4, 0, 0),))
    assert bench.problem() is None
    say(bench, 5, *joined("c5"))
    assert bench.problem() == "not_synced"
    assert bench.metrics.counts["full"] == 1
    keep(bench, 3, "e1")
    assert bench.voice.questions == []
    bench.replica.mesh.most_entries = 10
    keep(bench, 2, "e1")
    answer(bench, truth_of(*joined("c1", "c2", "c3", "c4", "c5")))
    assert bench.problem() is None


def test_snapshots_are_asked_for_as_they_can_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """nats-server keeps no more than so much for a connection."""
    monkeypatch.setattr(asks, "MOST_ENTRIES", 10)
    bench = Bench(partitions=range(4))
    states = [PartitionState(partition, 5, 5, 0, 0) for partition in range(4)]
    bench.beat("e1", 1, *states)
    bench.tick()
    assert [question.partitions for question in bench.voice.questions] == [(0, 1)]
    truth = truth_of(*joined("c1", "c2", "c3", "c4", "c5"))
    answer(bench, truth, 0)
    bench.tick()
    assert [question.partitions for question in bench.voice.questions] == [(0, 1), (2,)]


def test_edges_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones are not heard, and counted."""
    monkeypatch.setattr(mesh, "MOST_EDGES", 2)
    bench = Bench()
    for edge in ("e1", "e2", "e3"):
        bench.beat(edge)
    assert set(bench.replica.mesh.lives) == {"e1", "e2"}
    assert bench.replica.mesh.unheard == 1


# lives


def test_a_dead_edge_takes_its_members_along(bench: Bench) -> None:
    """In channels that tell leaves, once."""
    bench = Bench(silent=["quiet"])
    say(bench, 1, *joined("c1"), Joined("quiet:a", "c1", "u"), edge="dead")
    bench.beat("dead", 1, PartitionState(0, 2, 2, 0, 0))
    say(bench, 1, *joined("c2"))
    keep(bench, LEASE + 0.5, "e1", states=(PartitionState(0, 1, 1, 0, 0),))
    assert bench.voice.gone == [("room:a", "c1")]
    assert bench.clients("room:a") == {"c2"}
    keep(bench, 20, "e1", states=(PartitionState(0, 1, 1, 0, 0),))
    assert len(bench.voice.leaves) == 1
    assert ("dead", 1, 0) in bench.voice.beats[-10].swept


def test_a_token_has_its_word_on_the_leave_of_a_dead_edge(bench: Bench) -> None:
    """Before the namespace's options, and also where the member is known from a snapshot, or has info."""
    bench = Bench(silent=["quiet"])
    say(
        bench,
        1,
        Joined("room:a", "shy", "u", told=False),
        Joined("room:a", "usual", "u"),
        Joined("quiet:a", "loud", "u", b"1", b"2", told=True),
        Joined("quiet:a", "usual", "u", b"", b"3"),
        edge="dead",
    )
    bench.beat("dead", 1, PartitionState(0, 4, 4, 0, 0))
    assert bench.clients("room:a") == {"shy", "usual"}
    keep(bench, LEASE + 0.5, "e1")
    assert bench.voice.gone == [("room:a", "usual"), ("quiet:a", "loud")]
    assert bench.voice.leaves[1].event == Event(1, "leave", "loud", "u", b"1", b"2")


def test_an_edge_that_says_bye_has_told_its_leaves(bench: Bench) -> None:
    """And what is still on its way of it is passed over."""
    say(bench, 1, *joined("c1"))
    bench.replica.heartbeat("e1", Bye(1, 1), bench.now)
    say(bench, 2, *joined("c2"))
    bench.beat("e1")
    assert bench.replica.mesh.lives == {}
    keep(bench, 20, "e2")
    assert bench.voice.leaves == []
    bench.beat("e1", 2)
    assert "e1" in bench.replica.mesh.lives


def test_a_bye_of_an_earlier_life_ends_nothing(bench: Bench) -> None:
    """It came late."""
    bench.beat("e1", 2)
    bench.replica.heartbeat("e1", Bye(1, 1), bench.now)
    assert bench.replica.mesh.lives["e1"].incarnation == 2


def test_the_next_life_keeps_whom_it_has(bench: Bench) -> None:
    """The others leave, once, when it had time to say so."""
    say(bench, 1, *joined("c1", "c2"))
    say(bench, 1, *joined("c2"), incarnation=2)
    bench.beat("e1", 2, PartitionState(0, 1, 1, 0, 0))
    bench.pass_time(leaves.SUCCESSOR_TIME - 0.1)
    assert bench.voice.leaves == []
    bench.pass_time(0.3)
    assert bench.voice.gone == [("room:a", "c1")]
    say(bench, 3, *joined("c9"), incarnation=1)
    assert bench.clients("room:a") == {"c2"}


def test_a_next_life_that_comes_late_holds_up_no_leaves(bench: Bench) -> None:
    """They are told when the lease would have ended, or an edge that is started again slowly would take its members along late."""
    say(bench, 1, *joined("c1"))
    keep(bench, LEASE - 0.5, "other")
    bench.beat("e1", 2)
    bench.pass_time(0.4)
    assert bench.voice.leaves == []
    bench.pass_time(0.2)
    assert bench.voice.gone == [("room:a", "c1")]


def test_a_life_that_was_taken_for_over_is_asked_as_one_that_returns(bench: Bench) -> None:
    """Leaves of its members were told: it tells their joins again, of each partition as long as it takes; not a new life."""
    truth = truth_of(*joined("c1"))
    for incarnation, returned in ((1, True), (2, False)):
        say(bench, 1, *joined("c1"), incarnation=incarnation)
        bench.beat("e1", incarnation, truth.state(0))
        assert bench.problem() is None
        keep(bench, LEASE + 0.5, "e2")
        assert len(bench.voice.leaves) == incarnation
        again = 1 if returned else 3
        bench.beat("e1", again, truth.state(0))
        bench.tick()
        assert bench.voice.questions[-1].returned is returned
        answer(bench, truth, incarnation=again)
        assert bench.problem() is None
        bench.replica.heartbeat("e1", Bye(1, again), bench.now) if not returned else None
    keep(bench, LEASE, "e2")


def test_gap_long_after_a_return_is_no_return(bench: Bench) -> None:
    """Its members were told of."""
    truth = truth_of(*joined("c1"))
    bench.beat("e1", 1, truth.state(0))
    bench.tick()
    assert not bench.voice.questions[-1].returned
    answer(bench, truth)
    keep(bench, LEASE + 0.5, "e2")
    bench.beat("e1", 1, truth.state(0))
    bench.tick()
    answer(bench, truth)
    for returned in (True, False):
        assert bench.voice.questions[-1].returned is returned
        keep(bench, mesh.RETURNING, "e1", "e2", states=(truth.state(0),))
        truth.take(joined("c2"))
        bench.beat("e1", 1, truth.state(0))
        bench.tick()


def test_leaves_wait_while_the_edge_returns(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was told behind a join would stand; whom the edge still has, and whom it has not, is then known."""
    monkeypatch.setattr(replica, "MOST_AT_ONCE", 1)
    truth = truth_of(*joined("c1", "c2", "c3"))
    say(bench, 1, *joined("c1", "c2", "c3"))
    bench.beat("e1", 1, truth.state(0))
    while not bench.voice.leaves:
        keep(bench, 0.25, "e2")
    assert bench.voice.gone == [("room:a", "c1")]
    truth.take([Left("room:a", "c2")])
    bench.beat("e1", 1, truth.state(0))
    bench.pass_time(1.0)
    assert bench.voice.gone == [("room:a", "c1")]
    answer(bench, truth)
    bench.pass_time(1.0)
    assert bench.voice.gone == [("room:a", "c1"), ("room:a", "c2")]


def test_that_leaves_are_published_is_said_no_more_of_an_edge_that_is_back(bench: Bench) -> None:
    """When it ends once more others would tell them, should this replica be gone by then."""
    truth = truth_of(*joined("c1"))
    for edge in ("e1", "e3"):
        say(bench, 1, *joined("c1"), edge=edge)
        bench.beat(edge, 1, truth.state(0))
    keep(bench, LEASE + 0.5, "e2")
    assert set(bench.voice.beats[-1].swept) == {("e1", 1, 0), ("e3", 1, 0)}
    bench.beat("e1", 1, truth.state(0))
    keep(bench, HEARTBEAT, "e2")
    assert set(bench.voice.beats[-1].swept) == {("e3", 1, 0)}


def test_what_is_remembered_of_lives_that_are_over_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may speak for edges can invent names."""
    monkeypatch.setattr(mesh, "MOST_EDGES", 3)
    bench = Bench()
    for number in range(10):
        bench.replica.heartbeat(f"bye-{number}", Bye(1, 1), bench.now)
        bench.beat(f"e{number}")
        keep(bench, LEASE + 0.5)
    found = bench.replica.mesh
    assert len(found._over) <= 3
    assert len(found._lapsed) == 3
    bench.beat("e9")
    assert found.lives["e9"].returned_until > bench.now
    bench.beat("e1")
    assert found.lives["e1"].returned_until == 0.0


def test_two_edges_of_one_name_are_told_of(bench: Bench) -> None:
    """While both speak, the later one alone is heard."""
    bench.beat("e1", 1)
    bench.beat("e1", 2)
    for _ in range(4):
        bench.pass_time(HEARTBEAT)
        bench.beat("e1", 1)
        bench.beat("e1", 2)
    assert bench.metrics.counts["collided e1"] == 2
    assert bench.replica.mesh.lives["e1"].incarnation == 2


def test_what_is_on_its_way_of_a_former_life_is_no_collision(bench: Bench) -> None:
    """It comes within a moment of the first words of the next."""
    bench.beat("e1", 2)
    bench.beat("e1", 1)
    bench.pass_time(0.25)
    bench.beat("e1", 2)
    bench.beat("e1", 1)
    for _ in range(4):
        bench.pass_time(HEARTBEAT)
        bench.beat("e1", 2)
    assert "collided e1" not in bench.metrics.counts


def test_a_clock_that_was_set_back_is_no_collision(bench: Bench) -> None:
    """The life that counts as the later one is dead, and the other is heard once its lease is over."""
    bench.beat("e1", 2)
    for _ in range(4):
        bench.pass_time(HEARTBEAT)
        bench.beat("e1", 1)
    assert "collided e1" not in bench.metrics.counts
    assert bench.replica.mesh.lives["e1"].incarnation == 1


def test_nobody_ends_while_the_replica_is_away(bench: Bench) -> None:
    """Afterwards edges have a lease and some time to come back themselves."""
    say(bench, 1, *joined("c1"))
    bench.replica.link_down()
    assert bench.problem() == "unavailable"
    assert bench.replica.why_unready == "NATS is away"
    bench.pass_time(100)
    assert bench.clients("room:a") == {"c1"}
    bench.replica.link_up(bench.now)
    keep(bench, LEASE + 1, "e2")
    assert bench.problem() == "not_synced"
    assert bench.clients("room:a") == {"c1"}
    bench.beat("e1", 1, PartitionState(0, 1, 1, 0, 0))
    assert bench.problem() is None
    assert bench.voice.questions == []


def test_nobody_ends_while_nothing_is_heard_at_all(bench: Bench) -> None:
    """NATS does not say that it is away: edges would end one after the other, and lists lack some of them meanwhile."""
    say(bench, 1, *joined("c1"))
    say(bench, 1, *joined("c2"), edge="e2")
    one, two = (PartitionState(0, 1, 1, 0, 0),), (PartitionState(0, 1, 1, 0, 0),)
    bench.beat("e2", 1, *two)
    bench.pass_time(HEARTBEAT - 0.5)
    bench.beat("e1", 1, *one)
    assert bench.problem() is None
    bench.silent = True
    bench.pass_time(DEAF + 0.1)
    assert bench.problem() == "not_synced"
    bench.pass_time(2 * LEASE)
    assert bench.voice.leaves == []
    assert set(bench.replica.mesh.lives) == {"e1", "e2"}
    bench.silent = False
    bench.beat("e1", 1, *one)
    assert bench.problem() == "not_synced", "the other may have missed something"
    bench.beat("e2", 1, *two)
    assert bench.problem() == "not_synced", "somebody may have come whom it does not know"
    keep(bench, LISTENING_AGAIN + 0.1, "e1", "e2", states=one)
    assert bench.problem() is None
    assert bench.clients("room:a") == {"c1", "c2"}
    assert bench.voice.leaves == []


def test_an_edge_that_ends_is_not_taken_for_silence(bench: Bench) -> None:
    """Though it was the only one: the replica hears itself."""
    say(bench, 1, *joined("c1"))
    bench.beat("e1", 1, PartitionState(0, 1, 1, 0, 0))
    bench.pass_time(LEASE + 0.5)
    assert bench.replica.mesh.lives == {}
    assert bench.voice.gone == [("room:a", "c1")]


@pytest.mark.parametrize("pause", [1, 5, 20])
def test_an_only_edge_that_ends_while_it_is_doubted_holds_nothing_up(bench: Bench, pause: float) -> None:
    """Its time is over when it would be with others there; the next edge is answered then, or at once if it comes later."""
    say(bench, 1, *joined("c1"))
    bench.beat("e1", 1, PartitionState(0, 1, 1, 0, 0))
    bench.replica.link_down()
    bench.replica.link_up(bench.now)
    back = bench.now
    bench.pass_time(pause)
    assert bench.problem() == "not_synced"
    while bench.problem() is not None:
        assert bench.now < max(back + pause, back + LEASE + RETURN) + 1
        bench.beat("e2")
        bench.pass_time(0.25)
    assert bench.clients("room:a") == set()
    assert bench.voice.gone == [("room:a", "c1")]


def test_a_replica_that_ends_in_order_is_not_waited_for(bench: Bench) -> None:
    """Else what it was to tell would come a lease later."""
    other = Bench("r0")
    other.beat("e1", 1)
    say(bench, 1, *joined("c1"), edge="dead")
    keep(bench, LEASE - 1, "e1")
    bench.replica.peer(ReplicaBeat(1, "r0"), bench.now)
    assert set(bench.replica.peers.live) == {"r0"}
    other.replica.end()
    bench.replica.peer(other.voice.beats[-1], bench.now)
    keep(bench, 1.5, "e1")
    assert bench.voice.gone == [("room:a", "c1")]


def test_a_replica_that_learns_has_no_say(bench: Bench) -> None:
    """Its word is for itself: others tell the leaves at once."""
    say(bench, 1, *joined("c1"), edge="dead")
    bench.replica.peer(ReplicaBeat(1, "r0"), bench.now)
    bench.replica.peer(ReplicaBeat(1, "r0", speaks=False), bench.now)
    assert bench.replica.peers.live == {}
    keep(bench, LEASE + 0.5, "e1")
    assert bench.voice.gone == [("room:a", "c1")]


def test_what_was_missed_while_away_is_not_answered(bench: Bench) -> None:
    """Not before the edge has said where it stands, however long it was listened."""
    say(bench, 1, *joined("c1"))
    bench.replica.link_down()
    bench.replica.link_up(bench.now)
    keep(bench, LISTENING, "e2")
    say(bench, 2, *joined("c2"))
    assert bench.problem() == "not_synced"
    bench.beat("e1", 1, PartitionState(0, 2, 2, 0, 0), PartitionState(5, 7, 1, 1, 1))
    assert bench.problem() is None


def test_a_partition_that_is_not_named_any_more_is_asked_for(bench: Bench) -> None:
    """Something was there, and the edge that should know says nothing of it."""
    say(bench, 1, *joined("c1"))
    bench.replica.link_down()
    bench.replica.link_up(bench.now)
    bench.pass_time(LISTENING)
    bench.beat("e1")
    assert bench.problem() == "not_synced"
    bench.tick()
    assert len(bench.voice.questions) == 1


def test_standing_still_is_like_being_away(bench: Bench) -> None:
    """The replica's own clock says that it was not there to hear."""
    say(bench, 1, *joined("c1"))
    bench.now += 30
    assert bench.problem() == "not_synced"
    bench.tick()
    assert bench.clients("room:a") == {"c1"}
    bench.beat("e1", 1, PartitionState(0, 1, 1, 0, 0))
    bench.pass_time(LISTENING)
    assert bench.problem() is None


def test_an_edge_that_comes_back_is_asked_for_all(bench: Bench) -> None:
    """It was taken for dead; its life is the same."""
    say(bench, 1, *joined("c1"))
    keep(bench, LEASE + 1, "e2")
    assert bench.voice.gone == [("room:a", "c1")]
    bench.beat("e1", 1, PartitionState(0, 1, 1, 0, 0))
    assert bench.problem() == "not_synced"
    bench.tick()
    answer(bench, truth_of(*joined("c1")))
    assert bench.clients("room:a") == {"c1"}


# replicas


def test_who_is_not_first_waits_for_the_leaves_to_be_told(bench: Bench) -> None:
    """And does not tell them again."""
    say(bench, 1, *joined("c1"))
    swept = (("e1", 1, 0),)
    for _ in range(4):
        bench.replica.peer(ReplicaBeat(1, "r0"), bench.now)
        keep(bench, HEARTBEAT, "e2")
    bench.replica.peer(ReplicaBeat(1, "r0", (), swept), bench.now)
    keep(bench, 30, "e2")
    assert bench.voice.leaves == []
    assert bench.replica.leaves.waiting == 0


def test_who_is_back_with_the_edge_does_not_leave(bench: Bench) -> None:
    """It was taken for dead, and lives; its leaves were not told yet. Another channel's members, and others of the channel, are gone."""
    say(bench, 1, *joined("back", "gone"), *joined("back", channel="room:b"))
    bench.pass_time(LEASE - 0.5)
    bench.replica.peer(ReplicaBeat(1, "r0"), bench.now)
    bench.pass_time(1)
    assert bench.replica.mesh.lives == {}
    say(bench, 1, *joined("back"))
    say(bench, 1, *joined("gone"), edge="e2")
    keep(bench, LEASE + 1, "e1", "e2", states=(PartitionState(0, 1, 1, 0, 0),))
    assert bench.voice.gone == [("room:a", "gone"), ("room:b", "back")]


def test_who_is_next_tells_what_the_first_did_not(bench: Bench) -> None:
    """Dead or mute, it had a lease's time."""
    say(bench, 1, *joined("c1"))
    for _ in range(8):
        bench.replica.peer(ReplicaBeat(1, "r0"), bench.now)
        keep(bench, HEARTBEAT, "e2")
    assert bench.voice.gone == [("room:a", "c1")]


def test_who_was_away_hears_that_the_leaves_are_told(bench: Bench) -> None:
    """The edge died meanwhile, for the others."""
    say(bench, 1, *joined("c1"))
    bench.replica.link_down()
    bench.pass_time(20)
    bench.replica.link_up(bench.now)
    keep(bench, HEARTBEAT + 0.5, "e2")
    bench.replica.peer(ReplicaBeat(1, "r2", (), (("e1", 1, 0),)), bench.now)
    keep(bench, 30, "e2")
    assert bench.voice.leaves == []
    assert bench.clients("room:a") == set()


def test_a_living_edge_that_was_told_dead_may_die_later(bench: Bench) -> None:
    """Its sign of life counts for more than what a replica that was cut off says."""
    say(bench, 1, *joined("c1"))
    bench.pass_time(HEARTBEAT + 0.5)
    bench.replica.peer(ReplicaBeat(1, "r2", (), (("e1", 1, 0),)), bench.now)
    bench.beat("e1", 1, PartitionState(0, 1, 1, 0, 0))
    keep(bench, 10, "e2")
    assert bench.voice.gone == [("room:a", "c1")]


def test_who_was_heard_of_just_now_is_not_dead(bench: Bench) -> None:
    """The replica that says so was cut off; when the edge does die, its leaves are told."""
    say(bench, 1, *joined("c1"))
    bench.replica.peer(ReplicaBeat(1, "r2", (), (("e1", 1, 0),)), bench.now)
    keep(bench, 10, "e2")
    assert bench.voice.gone == [("room:a", "c1")]


def test_leaves_wait_while_nothing_can_be_sent(bench: Bench) -> None:
    """None is lost by it, and none comes twice."""
    say(bench, 1, *joined("c1", "c2"))
    bench.voice.mute = True
    keep(bench, LEASE + 1, "e2")
    assert bench.replica.leaves.waiting == 2
    bench.voice.mute = False
    bench.tick()
    assert sorted(bench.voice.gone) == [("room:a", "c1"), ("room:a", "c2")]
    assert bench.replica.leaves.waiting == 0


def test_leaves_that_wait_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond, they are counted as lost."""
    monkeypatch.setattr(leaves, "MOST_LEAVES", 1)
    say(bench, 1, *joined("c1", "c2"))
    keep(bench, LEASE + 1, "e2")
    assert bench.voice.leaves == []
    assert bench.metrics.counts["leaves_lost"] == 2


def test_a_replica_beats_when_it_has_something_to_say(bench: Bench) -> None:
    """Until it knows what there is, and while it learns it again, only to hear itself."""
    fresh = Bench(started=False)
    fresh.pass_time(LISTENING - 0.5)
    assert {beat.speaks for beat in fresh.voice.beats} == {False}
    fresh.pass_time(1)
    assert fresh.voice.beats[-1] == ReplicaBeat(1, "r1")
    bench.replica.link_down()
    count = len(bench.voice.beats)
    bench.pass_time(5)
    assert len(bench.voice.beats) == count


# occupancy


def test_a_channels_first_and_last_subscriber_of_the_mesh(bench: Bench) -> None:
    """Not each edge's."""
    say(bench, 1, Occupied("room:a"))
    say(bench, 1, Occupied("room:a"), edge="e2")
    bench.pass_time(SETTLE + 0.3)
    assert bench.voice.turns == [Turn(0, "room:a", True)]
    say(bench, 2, Vacated("room:a"))
    bench.pass_time(SETTLE + 0.3)
    assert len(bench.voice.turns) == 1
    say(bench, 2, Vacated("room:a"), edge="e2")
    bench.pass_time(SETTLE + 0.3)
    assert bench.voice.turns[1:] == [Turn(0, "room:a", False)]


def test_a_move_from_one_edge_to_another_is_no_change(bench: Bench) -> None:
    """Within a second."""
    say(bench, 1, Occupied("room:a"))
    bench.pass_time(2)
    say(bench, 2, Vacated("room:a"))
    bench.pass_time(SETTLE / 2)
    say(bench, 1, Occupied("room:a"), edge="e2")
    bench.pass_time(2)
    assert bench.voice.turns == [Turn(0, "room:a", True)]


def test_a_dead_edge_vacates_its_channels(bench: Bench) -> None:
    """Like one that says so."""
    say(bench, 1, Occupied("room:a"))
    bench.pass_time(2)
    keep(bench, LEASE + SETTLE + 1, "e2")
    assert bench.voice.turns == [Turn(0, "room:a", True), Turn(0, "room:a", False)]


def test_another_replica_has_told_it(bench: Bench) -> None:
    """The next one waits a lease, and tells what was not."""
    bench.replica.peer(ReplicaBeat(1, "r0"), bench.now)
    say(bench, 1, Occupied("room:a"), Occupied("room:b"))
    bench.pass_time(SETTLE + 0.3)
    assert bench.voice.turns == []
    bench.hear_turn("room:a", occupied=True)
    keep(bench, LEASE + 1, "e1", states=(PartitionState(0, 2, 0, 0, 2),))
    assert bench.voice.turns == [Turn(0, "room:b", True)]


def test_what_is_found_at_the_start_is_no_news() -> None:
    """It was so before there was anybody to tell."""
    bench = Bench(started=False)
    say(bench, 1, Occupied("room:a"))
    bench.beat("e1", 1, PartitionState(0, 1, 0, 0, 1))
    bench.pass_time(LISTENING + 2)
    assert bench.voice.turns == []


def test_changes_that_wait_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones are counted."""
    monkeypatch.setattr(occupancy, "MOST_UNSETTLED", 1)
    say(bench, 1, Occupied("room:a"), Occupied("room:b"))
    assert bench.replica.occupancy.untold == 1


# users


def test_users_are_seen_when_their_connection_or_edge_ends(bench: Bench) -> None:
    """By the edge's word, or now."""
    say(bench, 1, Connected("u1", "c1", 5), Connected("u2", "c2", 5))
    at = bench.now_ms - 500
    say(bench, 3, Disconnected("u1", "c1", at))
    assert bench.replica.seen.last("u1", bench.now_ms) == at
    keep(bench, LEASE + 1, "e2")
    assert bench.replica.seen.last("u2", bench.now_ms) >= bench.now_ms - 2_000
