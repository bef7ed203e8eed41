from __future__ import annotations

from tidewire.edge.backlog import MAX_BYTES, Backlog
from tidewire.edge.wire.commands import Command, PingRequest


def commands(*numbers: int) -> list[Command]:
    """Commands that can be told apart."""
    return [Command(id=number, ping=PingRequest()) for number in numbers]


def test_commands_wait_in_order_with_their_size() -> None:
    """Over frames; what was taken is gone."""
    backlog = Backlog(8)
    assert backlog.add(commands(1, 2), 10) == []
    assert backlog.add(commands(3), 5) == []
    assert backlog.take() == (commands(1, 2, 3), 15)
    assert backlog.take()[0] == []


def test_no_more_commands_wait_than_may() -> None:
    """The first ones do."""
    backlog = Backlog(3)
    assert backlog.add(commands(1, 2), 0) == []
    assert backlog.add(commands(3, 4, 5), 0) == commands(4, 5)
    assert backlog.add(commands(6), 0) == commands(6)
    assert backlog.take()[0] == commands(1, 2, 3)


def test_frame_that_does_not_fit_waits_with_none_of_its_commands() -> None:
    """Its bytes cannot be told apart by command; a smaller one still fits."""
    backlog = Backlog(100)
    assert backlog.add(commands(1), MAX_BYTES - 10) == []
    assert backlog.add(commands(2, 3, 4), 11) == commands(2, 3, 4)
    assert backlog.add(commands(5), 10) == []
    assert backlog.add(commands(6), 1) == commands(6)
    assert backlog.take() == (commands(1, 5), MAX_BYTES)
