from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidewire.edge.room import Room


def filled(room: Room, stream: str, size: int = 1) -> int:
    """How many more a stream may hold, all of which it takes."""
    count = 0
    while room.take(room.shares[stream], size):
        count += 1
    return count


def test_one_stream_gets_half_two_a_third_each_and_others_find_room() -> None:
    """In number, and in bytes."""
    for room, size in ((Room(120, 10**6), 1), (Room(10**6, 1200), 10)):
        assert filled(room, "a", size) == 60
        assert filled(room, "b", size) == 30
        room.give_back(room.shares["a"], 20, 20 * size)
        assert filled(room, "b", size) == 10
        assert filled(room, "c", size) == 20
        assert room.take(room.shares["d"], size)
        assert (room.publications, room.size) == (101, 101 * size)
        assert room.largest == 40 * size


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30), st.booleans()), max_size=60),
    st.integers(1, 20),
    st.integers(1, 200),
)
def test_bounds_hold_and_sums_are_right(
    steps: list[tuple[str, int, bool]], publications: int, size: int
) -> None:
    """Whatever is taken and given back; a stream that holds nothing is refused only where nothing is free."""
    room = Room(publications, size)
    held: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for stream, each, gives_back in steps:
        share = room.shares[stream]
        if gives_back and held[stream]:
            room.give_back(share, 1, held[stream].pop())
        elif room.take(share, each):
            held[stream].append(each)
        else:
            free = size - room.size - each, publications - room.publications - 1
            assert room.publications
            assert held[stream] or min(free) < 0
    everything = [each for sizes in held.values() for each in sizes]
    assert (room.publications, room.size) == (len(everything), sum(everything))
    assert room.publications <= publications
    assert room.size <= max(size, 30)
    assert room.largest == max(map(sum, held.values()))


def test_what_is_taken_where_nothing_is_held() -> None:
    """One of any size: it would be refused for ever."""
    room = Room(2, 100)
    assert room.take(room.shares["a"], 1_000)
    assert not room.take(room.shares["b"], 1)
    room.give_back(room.shares["a"], 1, 1_000)
    assert room.take(room.shares["b"], 1)
    assert not room.take(room.shares["a"], 100)
    assert Room(1, 1).largest == 0
