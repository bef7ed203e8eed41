from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.attendance import PARTITIONS, PresentCore
from tidewire.edge import roll, snapshots
from tidewire.kernel.presence_wire import (
    Change,
    Chunk,
    Connected,
    Disconnected,
    Joined,
    Left,
    Occupied,
    Vacated,
)

TO = b"tw.pres.c.r1.1"


class Replica:
    """Applies snapshots and deltas as replicas do."""

    def __init__(self) -> None:
        self.state: dict[Any, Change] = {}

    def apply(self, change: Change) -> None:
        match change:
            case Joined():
                self.state[change.channel, change.client] = change
            case Left():
                self.state.pop((change.channel, change.client), None)
            case Occupied():
                self.state[change.channel] = change
            case Vacated():
                self.state.pop(change.channel, None)
            case Connected():
                self.state["", change.client] = change
            case Disconnected():
                self.state.pop(("", change.client), None)


def all_chunks(core: PresentCore) -> list[Chunk]:
    """Let snapshots end."""
    while len(core.snapshots) or core.turns:
        core.turns.turn()
    return [chunk for _, chunk in core.wire.chunks]


def test_snapshot_holds_what_was_announced() -> None:
    """Of all partitions, or of those that were named; empty ones too, with one final chunk."""
    core = PresentCore()
    for number in range(20):
        core.join(f"room:{number % 7}", f"user-{number % 5}", info=number)
        core.let_in(core.client(""), f"public:{number}")
    core.turns.turn()
    core.snapshots.ask("r1", TO, ())
    replica, announced = Replica(), Replica()
    chunks = all_chunks(core)
    for chunk in chunks:
        assert (chunk.edge, chunk.incarnation) == ("e1", core.announcer.incarnation)
        for entry in chunk.entries:
            replica.apply(entry)
    for change in core.wire.changes:
        announced.apply(change)
    assert replica.state == announced.state
    assert len(replica.state) == 20 + 20 + 20 + 7
    assert [chunk.partition for chunk in chunks if chunk.final] == list(range(PARTITIONS))
    lasts = {state.partition: state.last for state in core.announcer.roll.states()}
    assert {chunk.partition: chunk.last for chunk in chunks} == lasts
    core.wire.chunks.clear()
    core.snapshots.ask("r1", TO, (2, 2, 77, -1))
    assert {chunk.partition for chunk in all_chunks(core)} == {2}


def test_edge_without_anybody_answers_with_empty_snapshots() -> None:
    """So that the replica knows that it has all."""
    core = PresentCore()
    core.snapshots.ask("r1", TO, ())
    chunks = all_chunks(core)
    assert [(chunk.last, chunk.index, chunk.final, chunk.entries) for chunk in chunks] == [
        (0, 0, True, ())
    ] * PARTITIONS


def test_parts_follow_each_other_and_changes_in_between_lead_to_the_truth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who applies all changes behind `last` ends at what is there."""
    monkeypatch.setattr(roll, "CHUNK_SIZE", 200)
    core = PresentCore()
    guests = [core.join("room:a", f"user-{number}") for number in range(60)]
    core.turns.turn()
    core.wire.deltas.clear()
    core.snapshots.ask("r1", TO, ())
    steps = 0
    while len(core.snapshots) or core.turns:
        core.turns.turn()
        steps += 1
        if guests:
            core.dispatcher.lost(guests.pop().connection)
            core.let_in(core.client(f"late-{steps}"), "room:a")
    chunks = [chunk for _, chunk in core.wire.chunks]
    assert steps > 3
    replica = Replica()
    for number in range(PARTITIONS):
        of_this = [chunk for chunk in chunks if chunk.partition == number]
        assert [chunk.index for chunk in of_this] == list(range(len(of_this)))
        assert [chunk.final for chunk in of_this] == [False] * (len(of_this) - 1) + [True]
        (last,) = {chunk.last for chunk in of_this}
        for chunk in of_this:
            for entry in chunk.entries:
                replica.apply(entry)
        for partition, first, changes in core.wire.deltas:
            if partition == number:
                for behind, change in enumerate(changes, first):
                    if behind > last:
                        replica.apply(change)
    here = {session.party.client for session in (each.session for each in core.dispatcher.connections)}
    assert {key[1] for key in replica.state if isinstance(key, tuple) and key[0] == "room:a"} == here
    assert {key[1] for key in replica.state if isinstance(key, tuple) and not key[0]} == here


def test_replicas_that_ask_at_once_share_what_is_made() -> None:
    """One that asks again is answered once, where it wants it last."""
    core = PresentCore()
    core.join("room:a")
    for replica, to in (("r1", b"tw.pres.c.r1.1"), ("r2", b"tw.pres.c.r2.1"), ("r1", b"tw.pres.c.r1.2")):
        core.snapshots.ask(replica, to, (0,))
    all_chunks(core)
    assert [to for to, _ in core.wire.chunks] == [(b"tw.pres.c.r1.2", b"tw.pres.c.r2.1")]
    assert [each for (each,) in core.metrics.of("snapshot_asked")] == ["first", "joined", "again"]


def test_number_of_replicas_that_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can ask could ask under many names."""
    monkeypatch.setattr(snapshots, "MAX_REPLICAS", 2)
    core = PresentCore()
    for number in range(4):
        core.snapshots.ask(f"r{number}", b"tw.pres.c.x", (1,))
    all_chunks(core)
    assert [len(to) for to, _ in core.wire.chunks] == [2]
    assert core.metrics.of("snapshot_asked").count(("refused",)) == 2


def test_snapshot_waits_while_nats_takes_no_more() -> None:
    """Publications go first."""
    core = PresentCore()
    core.wire.congested = True
    core.snapshots.ask("r1", TO, ())
    for _ in range(5):
        core.turns.turn()
    assert core.wire.chunks == []
    core.wire.congested = False
    assert len(all_chunks(core)) == PARTITIONS


def test_when_nats_goes_nobody_waits_any_more() -> None:
    """Replicas ask again when it is back."""
    core = PresentCore()
    core.wire.away = True
    core.snapshots.ask("r1", TO, ())
    assert all_chunks(core) == []
    core.wire.away = False
    core.snapshots.ask("r1", TO, (0,))
    assert len(all_chunks(core)) == 1


def test_members_go_in_slices() -> None:
    """A large snapshot leaves the loop to others."""
    core = PresentCore()
    for number in range(snapshots.SLICE * 2):
        core.snapshots.ask("r1", TO, (number % PARTITIONS,))
    core.turns.turn()
    assert len(core.wire.chunks) <= snapshots.SLICE


def test_joins_are_told_with_the_snapshots_of_an_edge_that_was_taken_for_dead() -> None:
    """Its leaves were told; not where it was only a snapshot, nor of who is not told of."""
    core = PresentCore()
    core.join("room:a", info={"n": 1})
    core.let_in(core.client("bob"), "public:a")
    core.relay()

    def told(*returned: bool) -> list[tuple[str, str, str]]:
        for number, each in enumerate(returned):
            core.snapshots.ask(f"r{number}", TO, (), returned=each)
        all_chunks(core)
        heard, core.wire.told = core.wire.told, []
        return [(channel, event.change, event.client) for channel, event in heard]

    assert told(False) == []
    assert told(False, True, False) == [("room:a", "join", "c0")], "for all who wait for the same"
    assert told(False) == []
    core.wire.away = True
    assert told(True) == []
    core.wire.away = False
    assert told(False) == [], "what was asked for before NATS went is asked for again"
