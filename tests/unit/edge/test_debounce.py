from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from tidewire.edge.debounce import LONGEST_CHAIN, Debounce
from tidewire.kernel.presence_wire import Event


def event(change: str, client: str, user: str = "alice") -> Event:
    """One."""
    return Event(1, "join" if change == "join" else "leave", client, user)


def shown(events: Iterator[Event]) -> list[str]:
    """In short."""
    return [f"{each.change} {each.client}" for each in events]


def test_user_who_is_back_in_time_causes_nothing_until_its_last_connection_leaves() -> None:
    """Then the leaves of all of them come, and whoever keeps clients by id has none left."""
    debounce = Debounce()
    assert shown(debounce.join(event("join", "a"))) == ["join a"]
    assert shown(debounce.leave(event("leave", "a"), due=10)) == []
    assert shown(debounce.join(event("join", "b"))) == []
    assert shown(debounce.overdue(11)) == []
    assert shown(debounce.leave(event("leave", "b"), due=20)) == []
    assert shown(debounce.overdue(19.9)) == []
    assert shown(debounce.overdue(20)) == ["leave a", "leave b"]
    assert debounce.kept == 0


def test_leave_that_nobody_takes_over_comes_when_it_is_due() -> None:
    """A join after that is a join, and one of another user always is."""
    debounce = Debounce()
    list(debounce.leave(event("leave", "a"), due=10))
    assert shown(debounce.join(event("join", "x", "bob"))) == ["join x"]
    assert shown(debounce.overdue(10)) == ["leave a"]
    assert shown(debounce.join(event("join", "b"))) == ["join b"]


def test_one_connection_takes_over_one() -> None:
    """Of two that have left the older; the other one's leave comes."""
    debounce = Debounce()
    list(debounce.leave(event("leave", "a"), due=10))
    list(debounce.leave(event("leave", "b"), due=11))
    assert shown(debounce.join(event("join", "c"))) == []
    assert shown(debounce.overdue(12)) == ["leave b"]


def test_client_that_comes_back_itself_leaves_once() -> None:
    """It has unsubscribed and subscribed again, however often: it takes nothing over but what it had taken over before."""
    debounce = Debounce()
    list(debounce.leave(event("leave", "a"), due=10))
    for number in range(5):
        assert shown(debounce.join(event("join", "b"))) == []
        assert shown(debounce.leave(event("leave", "b"), due=11.0 + number)) == []
    assert shown(debounce.overdue(20)) == ["leave a", "leave b"]
    list(debounce.leave(event("leave", "c"), due=30))
    assert shown(debounce.join(event("join", "c"))) == []
    assert shown(debounce.overdue(31)) == []
    assert debounce.kept == 0
    assert shown(debounce.leave(event("leave", "c"), due=0)) == ["leave c"]


def test_client_that_comes_back_itself_is_not_said_to_leave() -> None:
    """Though another connection of its user left before it, whose leave comes in its time."""
    debounce = Debounce()
    list(debounce.leave(event("leave", "a"), due=10))
    list(debounce.leave(event("leave", "b"), due=11))
    assert shown(debounce.join(event("join", "b"))) == []
    assert shown(debounce.overdue(12)) == ["leave a"]


def test_clients_without_a_user_are_never_held_nor_those_that_need_not_be() -> None:
    """Nobody can tell whether they are back."""
    debounce = Debounce()
    assert shown(debounce.leave(event("leave", "a", ""), due=10)) == ["leave a"]
    assert shown(debounce.leave(event("leave", "b"), due=0)) == ["leave b"]
    assert shown(debounce.join(event("join", "c", ""))) == ["join c"]


def test_chain_of_successors_has_a_bound() -> None:
    """At it everything is told, so that memory does not grow with reconnects."""
    debounce = Debounce()
    told: list[str] = []
    for number in range(LONGEST_CHAIN + 2):
        told += shown(debounce.join(event("join", str(number))))
        told += shown(debounce.leave(event("leave", str(number)), due=number + 1.0))
        told += shown(debounce.overdue(0))
        assert debounce.kept <= 1
    assert told == [
        "join 0",
        *[f"leave {number}" for number in range(LONGEST_CHAIN)],
        f"join {LONGEST_CHAIN}",
    ]


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 4), st.sampled_from(["in", "out", "wait"])),
        max_size=60,
    )
)
def test_in_the_end_exactly_those_are_shown_who_are_there_or_stand_for_somebody(
    steps: list[tuple[str, int, str]],
) -> None:
    """Whatever the order: each shown client's user is there, and when all have left nobody is shown."""
    debounce, now, serial = Debounce(), 0.0, 0
    there: dict[tuple[str, int], str] = {}
    shown_now: set[str] = set()

    def see(events: Iterator[Event]) -> None:
        for each in events:
            if each.change == "join":
                shown_now.add(each.client)
            else:
                shown_now.discard(each.client)

    for user, seat, what in [*steps, *((user, seat, "out") for user in "ab" for seat in range(5))]:
        now += 0.5
        see(debounce.overdue(now))
        if what == "in" and (user, seat) not in there:
            serial += 1
            there[user, seat] = f"{user}{serial}"
            see(debounce.join(event("join", there[user, seat], user)))
        elif what == "out" and (user, seat) in there:
            see(debounce.leave(event("leave", there.pop((user, seat)), user), due=now + 2))
        for each in there:
            assert any(client.startswith(each[0]) for client in shown_now)
    see(debounce.overdue(now + 2))
    assert shown_now == set()
    assert debounce.kept == 0
