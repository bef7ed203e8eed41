from __future__ import annotations

from collections.abc import Callable

from tests.fakes.clock import ManualClock
from tidewire.edge.waiting import Awaited, TokensWanted, Waiters, wire_key


class Line:
    """Waiters with timers that the test lets come."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.waiters = Waiters(
            self.clock.monotonic, lambda seconds, call: self.timers.append((seconds, call))
        )
        self.waiters.most, self.waiters.patience = 10, 1.0
        self.gone_on: list[str] = []

    def wait(self, name: str, *awaited: Awaited) -> None:
        """Let somebody wait."""
        self.waiters.add(TokensWanted(awaited), lambda: self.gone_on.append(name))

    def fire(self) -> None:
        """Let the timer come."""
        seconds, call = self.timers.pop()
        self.clock.now += seconds
        call()


def test_who_waits_for_several_goes_on_when_all_are_known() -> None:
    """Once, also where the time is over later."""
    line, one, two = Line(), Awaited(), Awaited()
    line.wait("both", one, two)
    line.wait("one", one)
    one.tell()
    assert line.gone_on == ["one"]
    two.tell()
    assert line.gone_on == ["one", "both"]
    line.fire()
    assert line.gone_on == ["one", "both"]
    assert (line.timers, len(line.waiters)) == ([], 0)


def test_nobody_waits_longer_than_the_patience() -> None:
    """One timer is enough for all."""
    line, never = Line(), Awaited()
    line.wait("first", never)
    line.clock.now += 0.4
    line.wait("second", never)
    assert len(line.timers) == 1
    line.clock.now -= 0.4
    line.fire()
    assert line.gone_on == ["first"]
    line.fire()
    assert line.gone_on == ["first", "second"]
    never.tell()
    assert line.gone_on == ["first", "second"]


def test_those_that_went_on_make_room() -> None:
    """Whoever was known meanwhile does not count."""
    line, known = Line(), Awaited()
    for number in range(10):
        line.wait(str(number), known)
    assert line.waiters.full
    known.tell()
    assert not line.waiters.full


def test_those_behind_one_that_waits_long_take_no_room() -> None:
    """Only who waits counts, and the line is not much longer than they are many."""
    line, never = Line(), Awaited()
    line.wait("long", never)
    for _ in range(5000):
        known = Awaited()
        line.wait("short", known)
        known.tell()
        assert not line.waiters.full
    assert len(line.waiters) == 1
    assert len(line.waiters._line) < 1100


def test_keys_are_sent_as_digests_none_of_which_is_another_ones() -> None:
    """However long they are, and whatever a client puts into its names."""
    keys = [
        wire_key("r", "a"),
        wire_key("s", "a"),
        wire_key("r", ("a", "b")),
        wire_key("r", ("a1:b", "")),
        wire_key("r", ("ab", "")),
        wire_key("r", ("", "ab")),
        wire_key("r", "x" * 100_000),
        wire_key("r", "\ud800"),
    ]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {16}
