from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.fakes.clock import ManualClock
from tidewire.edge import pacer as pacer_module
from tidewire.edge.pacer import PAUSE, SLICE, Pacer


class Paced:
    """A pacer whose loop turns when the test says so; each step takes a part of the slice."""

    def __init__(self, part: float = 0.5) -> None:
        self.clock = ManualClock()
        self.turns: list[tuple[float, Callable[[], None]]] = []
        self.pacer = Pacer(self.clock, lambda *turn: self.turns.append(turn))
        self.done: list[str] = []
        self._seconds = SLICE * part

    def step(self, name: str) -> None:
        """Do something that takes its time."""
        self.clock.advance(self._seconds)
        self.done.append(name)

    def piece(self, names: str) -> Iterator[None]:
        """A step for each letter."""
        return map(self.step, names)

    def turn(self) -> str:
        """Let the loop turn once; return what was done."""
        self.done.clear()
        ((_, turn),) = self.turns
        self.turns.clear()
        turn()
        return "".join(self.done)


def test_nothing_is_done_in_the_turn_that_brings_the_work() -> None:
    """Ten thousand small pieces in one turn must not be ten thousand slices."""
    paced = Paced()
    paced.pacer.add(paced.piece("a"))
    paced.pacer.add(paced.piece("b"))
    assert paced.done == []
    assert [seconds for seconds, _ in paced.turns] == [0.0]


def test_a_turn_does_one_slice_and_the_next_goes_on_after_a_pause() -> None:
    """In the order in which the work came, over the borders of pieces."""
    paced = Paced()
    paced.pacer.add(paced.piece("abc"))
    paced.pacer.add(paced.piece("de"))
    assert paced.turn() == "ab"
    assert [seconds for seconds, _ in paced.turns] == [PAUSE]
    assert [paced.turn() for _ in range(2)] == ["cd", "e"]
    assert len(paced.pacer) == 0
    assert paced.turns == []


def test_work_that_comes_while_work_is_done_waits_for_its_turn() -> None:
    """And the loop is asked once."""
    paced = Paced(part=0.1)
    paced.pacer.add(paced.pacer.add(paced.piece(each)) for each in "ab")
    assert paced.turn() == "ab"
    assert paced.turns == []


def test_a_step_that_raises_ends_neither_its_piece_nor_the_others() -> None:
    """The loop hears of it."""
    paced = Paced()
    paced.pacer.add(map({"a": 1}.__getitem__, "xa"))
    paced.pacer.add(paced.piece("b"))
    with pytest.raises(KeyError):
        paced.turn()
    assert paced.turn() == "b"


def test_beyond_the_bound_the_oldest_piece_is_done_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost, nothing overtakes, and no more waits."""
    monkeypatch.setattr(pacer_module, "MAX_WAITING", 2)
    paced = Paced()
    for names in ("abc", "de", "f"):
        paced.pacer.add(paced.piece(names))
    assert "".join(paced.done) == "abc"
    assert len(paced.pacer) == 2
    assert [paced.turn() for _ in range(2)] == ["de", "f"]
