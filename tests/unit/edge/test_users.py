from __future__ import annotations

from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from tidewire.edge.connection import Connection
from tidewire.edge.users import Users


def connections(count: int) -> list[Connection]:
    """Different ones; the index asks nothing of them."""
    return [cast("Connection", object()) for _ in range(count)]


def test_connections_of_a_user_are_found_in_the_order_in_which_they_came() -> None:
    """And nobody else's."""
    users = Users()
    one, two, other = connections(3)
    users.add("alice", one)
    users.add("bob", other)
    users.add("alice", two)
    assert (users.of("alice"), users.of("bob"), users.of("carol")) == ((one, two), (other,), ())
    assert [users.has(user) for user in ("alice", "bob", "carol")] == [True, True, False]


def test_anonymous_users_are_nobody_in_particular() -> None:
    """An order for the user "" would be one for all of them."""
    users = Users()
    users.add("", connections(1)[0])
    assert (users.has(""), users.of(""), len(users)) == (False, (), 0)


def test_unknown_connections_are_forgotten_without_a_word() -> None:
    """Of a known user, and of an unknown one."""
    users = Users()
    one, stranger = connections(2)
    users.add("alice", one)
    users.discard("alice", stranger)
    users.discard("bob", one)
    assert users.of("alice") == (one,)


def test_answer_stays_as_it_was_while_connections_go() -> None:
    """Who walks over it closes them."""
    users = Users()
    for each in connections(3):
        users.add("alice", each)
    for each in users.of("alice"):
        users.discard("alice", each)
    assert len(users) == 0


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["alice", "bob", ""]), st.integers(0, 3))))
def test_index_holds_what_is_there_and_nothing_else(steps: list[tuple[bool, str, int]]) -> None:
    """A user without connections takes no room."""
    users, seats = Users(), connections(4)
    there: set[tuple[str, int]] = set()
    for comes, user, seat in steps:
        if comes:
            users.add(user, seats[seat])
            there |= {(user, seat)} if user else set()
        else:
            users.discard(user, seats[seat])
            there -= {(user, seat)}
    for user in ("alice", "bob", ""):
        assert set(users.of(user)) == {seats[seat] for name, seat in there if name == user}
    assert len(users) == len({name for name, _ in there})
