from __future__ import annotations

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.attendance import joined
from tidewire.edge.attendance import Attendance
from tidewire.edge.roll import Roll, runs, size_of
from tidewire.kernel.presence_wire import (
    CHUNK_SIZE,
    Change,
    Connected,
    Delta,
    Disconnected,
    Joined,
    Left,
    Occupied,
    PartitionState,
    Vacated,
    encode,
    user_partition,
)
from tidewire.kernel.subjects import channel_partition

MEMBER = Attendance(counted=True, kept=True)
SOMEBODY = Attendance(counted=True)


def taken(roll: Roll) -> list[Change]:
    """What waits."""
    return [change for run in roll.take() for change in run.changes]


def test_first_and_last_subscriber_make_a_channel_occupied_and_vacated() -> None:
    """Whether or not it is known who they are; between them nothing is said of it."""
    roll = Roll(4)
    roll.joined("a", SOMEBODY, joined("a", "1"))
    assert taken(roll) == [Occupied("a")]
    roll.joined("a", MEMBER, joined("a", "2"))
    assert taken(roll) == [joined("a", "2")]
    roll.left("a", SOMEBODY, "1")
    assert taken(roll) == []
    roll.left("a", MEMBER, "2")
    assert taken(roll) == [Left("a", "2"), Vacated("a")]
    assert roll.states() == [PartitionState(channel_partition("a", 4), 4, 0, 0, 0)]


def test_changes_have_contiguous_numbers_in_their_partition() -> None:
    """They begin at 1, over however many batches, and belong to the channel's or the user's partition."""
    roll = Roll(4)
    firsts: dict[int, list[tuple[int, int]]] = {}
    for number in range(40):
        roll.joined(f"c{number}", MEMBER, joined(f"c{number}"))
        if number % 7 == 0:
            for run in roll.take():
                firsts.setdefault(run.partition, []).append((run.first, len(run.changes)))
                assert {channel_partition(cast("Any", each).channel, 4) for each in run.changes} == {
                    run.partition
                }
    assert len(firsts) == 4
    for each in firsts.values():
        assert [first for first, _ in each] == [
            1 + sum(n for _, n in each[:index]) for index in range(len(each))
        ]


def test_users_are_on_their_own_partitions() -> None:
    """Connections are counted, not users."""
    roll, here = Roll(4), cast("Any", "connection")
    roll.connected(here, Connected("alice", "1", 5))
    roll.connected(cast("Any", "another"), Connected("alice", "2", 6))
    assert taken(roll) == [Connected("alice", "1", 5), Connected("alice", "2", 6)]
    assert roll.states() == [PartitionState(user_partition("alice", 4), 2, 0, 2, 0)]
    roll.disconnected(here, Disconnected("alice", "1", 9))
    assert taken(roll) == [Disconnected("alice", "1", 9)]
    assert [state.users for state in roll.states()] == [1]


def test_of_changes_about_the_same_the_last_is_enough() -> None:
    """A client that comes and goes a thousand times in a batch is two changes."""
    roll = Roll(4)
    for _ in range(1000):
        roll.joined("a", MEMBER, joined("a"))
        roll.left("a", MEMBER, "c0")
    assert taken(roll) == [Left("a", "c0"), Vacated("a")]


def test_another_info_is_announced_and_counted_once() -> None:
    """It says what is."""
    roll = Roll(4)
    roll.joined("a", MEMBER, joined("a"))
    taken(roll)
    renewed = Joined("a", "c0", "alice", b"", b"2")
    roll.renewed(renewed)
    assert taken(roll) == [renewed]
    assert [state.members for state in roll.states()] == [1]


@given(
    st.lists(
        st.builds(
            Joined,
            st.text(max_size=20),
            st.text(max_size=20),
            st.text(max_size=1024),
            st.binary(max_size=9000),
        ),
        max_size=40,
    )
)
def test_runs_fit_into_a_message_and_lose_nothing(changes: list[Joined]) -> None:
    """About CHUNK_SIZE, whatever the texts are; what is larger goes alone."""
    found = list(runs(changes))
    assert [each for run in found for each in run] == changes
    for run in found:
        size = len(encode(Delta(1, 1, 1, tuple(run))))
        assert size <= sum(4 * size_of(each) for each in run) + 40
        assert len(run) == 1 or sum(map(size_of, run)) <= CHUNK_SIZE
