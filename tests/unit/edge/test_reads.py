from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tidewire.edge import reads
from tidewire.edge.ports import Query
from tidewire.edge.reads import CROWDED, Reads


class Line:
    """A line on a history service that answers when the test says so; reads are named by their channel and a number."""

    def __init__(self) -> None:
        history: Any = self
        self.reads = Reads(history)
        self.begun: list[str] = []
        self.ended: list[str] = []
        self._under_way: list[Callable[[Any], None]] = []

    def read(self, query: Query, done: Callable[[Any], None]) -> None:
        """See `ports.History`."""
        self.begun.append(f"{query.channel}{query.limit}")
        self._under_way.append(done)

    def ask(self, *names: str, urgent: bool = False) -> int:
        """Ask for these; return how many were refused."""
        refused = 0
        for name in names:
            query = Query(channel=name[0], limit=int(name[1:]))
            error = self.reads.ask(query, partial(self._end, name), urgent=urgent)
            assert error in {None, CROWDED}
            refused += error is CROWDED
        return refused

    def _end(self, name: str, _result: object) -> None:
        self.ended.append(name)

    def answer(self) -> None:
        """Answer all, one after the other."""
        while self._under_way:
            self._under_way.pop(0)(None)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One at once, and ten that wait."""
    monkeypatch.setattr(reads, "MAX_AT_ONCE", 1)
    monkeypatch.setattr(reads, "MAX_WAITING", 10)


def test_channels_take_turns() -> None:
    """Those of one in the order in which they came; what is urgent goes before."""
    line = Line()
    assert line.ask("a0", "a1", "a2", "a3", "b0", "b1", "c0") == line.ask("d0", "a4", urgent=True) == 0
    assert (line.reads.running, line.reads.waiting) == (1, 8)
    line.answer()
    assert line.begun == line.ended == ["a0", "d0", "a4", "a1", "b0", "c0", "a2", "b1", "a3"]
    assert (line.reads.running, line.reads.waiting) == (0, 0)


def test_one_channel_leaves_room_to_others() -> None:
    """Four parts of five are the most of one; what is urgent always has room."""
    line = Line()
    assert line.ask(*[f"a{number}" for number in range(12)]) == 3
    assert line.ask("b0", "b1", "b2", "c0") == 2
    assert line.ask("a12", urgent=True) == 0
    assert (line.reads.waiting, line.ask("d0")) == (11, 1)
    line.answer()
    assert (len(line.ended), line.reads.waiting, line.ask("d0")) == (12, 0, 0)
