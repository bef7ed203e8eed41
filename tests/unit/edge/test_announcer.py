from __future__ import annotations

import pytest

from tests.fakes.attendance import PresentCore, joined
from tests.fakes.edge import token
from tidewire.edge import announcer
from tidewire.kernel.presence_wire import Connected, Disconnected, Joined, Left, Occupied, Vacated


def test_what_happens_in_a_batch_is_announced_together() -> None:
    """Members where presence is kept, only channels elsewhere, nothing where occupancy is off."""
    core = PresentCore()
    alice = core.client("alice", info=1)
    for channel in ("room:a", "chat:a", "dull:a"):
        core.let_in(alice, channel)
    assert core.wire.deltas == []
    core.turns.turn()
    since = int(core.clock.wall() * 1e3)
    assert set(core.wire.changes) == {
        Connected("alice", "c0", since),
        Occupied("room:a"),
        Joined("room:a", "c0", "alice", b"1"),
        Occupied("chat:a"),
    }
    core.wire.deltas.clear()
    core.clock.advance(2)
    core.dispatcher.lost(alice.connection)
    core.turns.turn()
    assert set(core.wire.changes) == {
        Disconnected("alice", "c0", since + 2000),
        Left("room:a", "c0"),
        Vacated("room:a"),
        Vacated("chat:a"),
    }


def test_attempts_that_come_to_nothing_and_connections_that_never_open_are_not_announced() -> None:
    """Nor are users without an id."""
    core = PresentCore()
    alice = core.client()
    core.turns.turn()
    core.wire.deltas.clear()
    alice.say({"id": 2, "subscribe": {"channel": "room:a"}})
    alice.say({"id": 3, "unsubscribe": {"channel": "room:a"}})
    core.client(None)
    core.client("")
    core.turns.turn()
    assert core.wire.deltas == []


def test_more_than_may_wait_is_announced_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch has a bound."""
    monkeypatch.setattr(announcer, "MAX_PENDING", 5)
    core = PresentCore()
    for _ in range(5):
        core.client("alice")
    assert len(core.wire.changes) == 5


def test_lost_changes_keep_their_numbers() -> None:
    """While NATS is away nothing is kept: the gap says that a snapshot is needed, and so do the counts."""
    core = PresentCore()
    alice = core.join("room:a")
    core.turns.turn()
    before = core.announcer.roll.states()
    core.wire.away = True
    core.dispatcher.lost(alice.connection)
    core.turns.turn()
    core.presence.beat()
    core.wire.away = False
    assert core.announcer.roll.pending == 0
    core.join("room:a")
    core.turns.turn()
    core.presence.beat()
    (states,) = core.wire.beats
    assert {state.partition for state in states} == {state.partition for state in before}
    assert [(state.members, state.users, state.channels) for state in states] == [
        (state.members, state.users, state.channels) for state in before
    ]
    gaps = {state.partition: state.last for state in states}
    for partition, _, changes in core.wire.deltas:
        gaps[partition] -= len(changes)
    assert sum(gaps.values()) == 3
    assert ("lost", 3) in core.metrics.of("presence_announced")


def test_heartbeats_come_every_two_seconds_behind_all_that_was_announced() -> None:
    """Their counts are those after the last change."""
    core = PresentCore()
    core.join("room:a")
    core.run(4.0)
    assert core.wire.log[-2:] == ["beat", "beat"]
    assert set(core.wire.log[:-2]) == {"delta"}
    (state, *_) = [state for state in core.wire.beats[-1] if state.members]
    assert (state.members, state.channels) == (1, 1)


def test_replica_that_begins_is_answered_soon_and_once() -> None:
    """However many begin."""
    core = PresentCore()
    for _ in range(5):
        core.announcer.beat_soon()
    core.turns.turn()
    assert len(core.wire.beats) == 1


def test_goodbye_is_the_last_word_behind_the_leaves() -> None:
    """What happens after it is announced to nobody."""
    core = PresentCore()
    alice = core.join("room:a")
    core.turns.turn()
    core.wire.log.clear()
    core.dispatcher.lost(alice.connection)
    core.presence.end()
    assert core.wire.log[0] == "leave"
    assert core.wire.log[-1] == "bye"
    assert core.wire.log.count("delta") >= 1
    core.wire.log.clear()
    core.join("room:a")
    core.run(5)
    assert "delta" not in core.wire.log
    assert "beat" not in core.wire.log


def test_incarnation_grows_with_the_clock() -> None:
    """A later life has a greater one."""
    core = PresentCore()
    assert core.announcer.incarnation == int(core.clock.wall() * 1e9)


@pytest.mark.parametrize(("word", "told"), [(None, None), (True, True), (False, False)])
def test_what_a_token_says_of_joins_and_leaves_is_announced(word: bool | None, told: bool | None) -> None:
    """Else the leave of a dead edge's member would be told as the namespace has it; again with a new info, and in snapshots."""
    core = PresentCore()
    override = {} if word is None else {"override": {"join_leave": {"value": word}}}
    alice = core.let_in(core.client(), "room:a", token=token("alice", channel="room:a", **override))
    core.turns.turn()
    connection = alice.connection
    attendance = connection.session.subscriptions.find("room:a").attended
    core.announcer.renewed(connection, "room:a", attendance, b"2")
    core.turns.turn()
    core.snapshots.ask("r1", b"tw.pres.c.r1.1", ())
    while len(core.snapshots) or core.turns:
        core.turns.turn()
    entries = [entry for _, chunk in core.wire.chunks for entry in chunk.entries]
    members = [each for each in (*core.wire.changes, *entries) if isinstance(each, Joined)]
    assert [each.told for each in members] == [told] * 3


def test_member_with_a_new_info_is_announced_again() -> None:
    """As sub_refresh brings it."""
    core = PresentCore()
    core.join("room:a")
    core.turns.turn()
    core.wire.deltas.clear()
    connection = next(iter(core.dispatcher.connections))
    attendance = connection.session.subscriptions.find("room:a").attended
    core.announcer.renewed(connection, "room:a", attendance, b"2")
    core.turns.turn()
    assert core.wire.changes == [Joined("room:a", "c0", "alice", b"", b"2")]
    assert joined("room:a") != core.wire.changes[0]
