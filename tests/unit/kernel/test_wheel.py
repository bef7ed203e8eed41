from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tidewire.kernel.wheel import Wheel


def test_item_is_due_after_its_ticks() -> None:
    """Not a tick earlier, and only once."""
    wheel: Wheel[str] = Wheel()
    assert wheel.add("a", 3) == 3
    assert [wheel.advance() for _ in range(5)] == [[], [], ["a"], [], []]
    assert wheel.now == 5


def test_items_of_one_tick_come_in_the_order_in_which_they_were_added() -> None:
    """So that nobody waits behind those who came later."""
    wheel: Wheel[str] = Wheel()
    for item in "cab":
        wheel.add(item, 1)
    assert wheel.advance() == ["c", "a", "b"]


def test_nothing_is_due_at_once() -> None:
    """Zero or negative ticks are one, since the present tick was dealt with already."""
    wheel: Wheel[str] = Wheel()
    assert (wheel.add("a", 0), wheel.add("b", -5)) == (1, 1)
    assert wheel.advance() == ["a", "b"]


def test_item_that_was_discarded_never_comes() -> None:
    """Only at the tick that is given; what is not there is ignored."""
    wheel: Wheel[str] = Wheel()
    due = wheel.add("a", 2)
    wheel.add("b", 2)
    wheel.discard("a", due + 1)
    wheel.discard("x", due)
    assert len(wheel) == 2
    wheel.discard("a", due)
    wheel.discard("a", due)
    assert [wheel.advance(), wheel.advance()] == [[], ["b"]]


def test_item_may_stand_at_several_ticks() -> None:
    """Each place is its own; twice on one tick is once."""
    wheel: Wheel[str] = Wheel()
    for ticks in (1, 1, 3):
        wheel.add("a", ticks)
    assert [wheel.advance() for _ in range(3)] == [["a"], [], ["a"]]


def test_what_comes_due_may_be_added_again() -> None:
    """This is how pings repeat."""
    wheel: Wheel[str] = Wheel()
    wheel.add("a", 2)
    seen = []
    for _ in range(6):
        for item in wheel.advance():
            seen.append(wheel.now)
            wheel.add(item, 2)
    assert seen == [2, 4, 6]


def test_nothing_is_kept_of_what_is_over() -> None:
    """The wheel's memory follows what is on it, not what was."""
    wheel: Wheel[int] = Wheel()
    for item in range(1000):
        wheel.discard(item, wheel.add(item, item))
    wheel.add(1, 1)
    wheel.advance()
    assert (len(wheel), wheel._slots) == (0, {})


class Turning(RuleBasedStateMachine):
    """The wheel against a plain list of deadlines."""

    def __init__(self) -> None:
        super().__init__()
        self.wheel: Wheel[int] = Wheel()
        self.expected: list[tuple[int, int]] = []

    @rule(item=st.integers(0, 5), ticks=st.integers(-1, 6))
    def add(self, item: int, ticks: int) -> None:
        """Put an item on."""
        due = self.wheel.add(item, ticks)
        assert due == self.wheel.now + max(1, ticks)
        if (due, item) not in self.expected:
            self.expected.append((due, item))

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        """Take one off."""
        due, item = data.draw(st.sampled_from(self.expected))
        self.wheel.discard(item, due)
        self.expected.remove((due, item))

    @rule()
    def advance(self) -> None:
        """Turn."""
        came = self.wheel.advance()
        assert came == [item for due, item in self.expected if due == self.wheel.now]
        self.expected = [pair for pair in self.expected if pair[0] != self.wheel.now]

    @invariant()
    def length(self) -> None:
        """Its length is the number of deadlines to come."""
        assert len(self.wheel) == len(self.expected)


TestTurning = Turning.TestCase
TestTurning.settings = settings(max_examples=60, stateful_step_count=40)
