from __future__ import annotations

import asyncio

import pytest

from tests.support.wait import eventually
from tidewire.platform import rotation
from tidewire.platform.rotation import Rotation


class Work:
    """So many pieces; `done` names whoever did one."""

    def __init__(self, name: str, pieces: int, done: list[str]) -> None:
        self._name = name
        self._pieces = pieces
        self._done = done

    def __call__(self) -> bool:
        self._pieces -= 1
        self._done.append(self._name)
        if self._pieces < 0:
            raise ValueError(self._name)
        return self._pieces > 0


@pytest.fixture
def over() -> list[str]:
    """One entry for each turn that was too short."""
    return []


@pytest.fixture
def line(over: list[str]) -> Rotation:
    """An empty one."""
    return Rotation(lambda: over.append("over"))


async def test_each_does_one_piece_and_then_the_next(
    line: Rotation, over: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much each has."""
    monkeypatch.setattr(rotation, "TURN", 0.0)
    done: list[str] = []
    for name, pieces in (("a", 3), ("b", 1), ("c", 2)):
        line.add(Work(name, pieces, done))
    assert done == []
    for turns in range(1, 7):
        await asyncio.sleep(0)
        assert len(done) == turns
    assert (done, len(line), len(over)) == (["a", "b", "c", "a", "c", "a"], 0, 5)


async def test_a_turn_is_as_long_as_its_time(
    line: Rotation, over: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces are done in it as long as it lasts."""
    monkeypatch.setattr(rotation, "TURN", 60.0)
    done: list[str] = []
    line.add(Work("a", 100, done))
    await asyncio.sleep(0)
    assert (len(done), over) == (100, [])


async def test_work_that_fails_costs_the_others_nothing(
    line: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop reports it."""
    monkeypatch.setattr(rotation, "TURN", 0.0)
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    done: list[str] = []
    line.add(Work("broken", 0, done))
    line.add(Work("a", 2, done))
    await eventually(lambda: done == ["broken", "a", "a"])
    assert (len(line), [type(each) for each in reported]) == (0, [ValueError])
