from __future__ import annotations

import random

from tests.support.presence_edge import Truth
from tests.unit.presence.test_convergence import described, wanted
from tidewire.kernel.presence_wire import Change, Connected, Disconnected, Joined, Left, Occupied, Vacated
from tidewire.presence.compact import keys
from tidewire.presence.content import SILENCE, Content, People


class Heard:
    """What others are told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def occupied(self, channel: str) -> None:
        self.told.append(channel)

    def vacated(self, channel: str) -> None:
        self.told.append(f"-{channel}")

    def user_gone(self, user: str, at_ms: int) -> None:
        self.told.append((user, at_ms))


def random_changes(seed: int, count: int, *, honest: bool = False) -> list[Change]:
    """Changes of few things, so that all of them meet. Honest: a connection is one user's, with one info."""
    choice = random.Random(seed)
    found: list[Change] = []
    for _ in range(count):
        channel, client, user = (
            choice.choice([f"{kind}{n}" for n in range(4)]) for kind in ("ch", "cl", "u")
        )
        info = choice.choice([b"", b"1", b"2"])
        if honest:
            user, info = f"u-{client}", client.encode()
        found.append(
            choice.choice(
                [
                    Joined(channel, client, user, info, choice.choice([b"", b"x"])),
                    Left(channel, client),
                    Connected(user, client, choice.randrange(9)),
                    Disconnected(user, client, 5),
                    Occupied(channel),
                    Vacated(channel),
                ]
            )
        )
    return found


def test_it_holds_what_a_plain_model_holds() -> None:
    """And counts it as an edge does."""
    for seed in range(50):
        content, truth = Content({}, SILENCE), Truth()
        for change in random_changes(seed, 200):
            content.apply([change])
            truth.take([change])
            state = truth.state(0)
            assert content.counts == (state.members, state.users, state.channels)
        assert described(content) == wanted(truth)


def test_applied_twice_is_applied_once() -> None:
    """So that what a snapshot holds already may come again behind it."""
    changes = random_changes(1, 300)
    once, twice = Content({}, SILENCE), Content({}, SILENCE)
    once.apply(changes)
    for start in range(0, 300, 10):
        twice.apply(changes[start : start + 10])
        twice.apply(changes[start : start + 10])
    assert described(once) == described(twice)
    assert once.counts == twice.counts


def test_a_connection_is_there_once_and_gone_with_its_last_use() -> None:
    """Whatever it is used for: memory is what a replica has least of."""
    people: People = {}
    content = Content(people, SILENCE)
    content.apply([Connected("u", "c", 1), Joined("a", "c", "u", b"{}"), Joined("b", "c", "u", b"{}", b"x")])
    assert list(people) == ["c"]
    assert people["c"].uses == 3
    content.apply([Left("a", "c"), Left("b", "c"), Left("b", "c")])
    assert people["c"].uses == 1
    content.apply([Disconnected("u", "c", 2)])
    assert people == {}
    assert content.rooms == {}
    assert content.users == {}


def test_replaced_contents_leave_nobody_behind() -> None:
    """The connections of a life that goes on are those that its contents use."""
    for seed in range(20):
        people: People = {}
        content = Content(people, SILENCE)
        content.apply(random_changes(seed, 100, honest=True))
        fresh = Content(people, SILENCE)
        fresh.apply(
            each for each in random_changes(seed + 1, 100, honest=True) if isinstance(each, Joined | Occupied)
        )
        fresh.replace(content)
        assert set(people) == {client for room in fresh.rooms.values() for client in keys(room.members)}


def test_what_differs_is_told_when_a_snapshot_comes_into_force() -> None:
    """Nothing is told while it is received."""
    heard = Heard()
    content = Content({}, heard)
    content.apply([Occupied("stays"), Occupied("goes"), Connected("u", "c", 1), Connected("v", "d", 1)])
    assert heard.told == ["stays", "goes"]
    heard.told.clear()
    fresh = Content(content.people, SILENCE)
    fresh.apply([Occupied("stays"), Occupied("comes"), Connected("v", "d", 1)])
    assert heard.told == []
    fresh.replace(content)
    assert sorted(map(str, heard.told)) == ["('u', 0)", "-goes", "comes"]


def test_an_end_is_told() -> None:
    """Channels and users; the members stay for whoever tells their leaves."""
    heard = Heard()
    content = Content({}, heard)
    content.apply([Occupied("a"), Joined("a", "c", "u"), Connected("u", "c", 1)])
    heard.told.clear()
    content.end()
    assert heard.told == ["-a", ("u", 0)]
    assert content.has("a", "c")
