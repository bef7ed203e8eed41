from __future__ import annotations

from tidewire.edge.backlog import MAX_BYTES, NODE_COST, Backlog
from tidewire.edge.wire.commands import Command, FilterNode, PingRequest, SubscribeRequest


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


def test_filters_count_with_what_they_take_in_memory() -> None:
    """A node takes three bytes in a frame. What is taken has the size of its frames, since it is counted anew."""
    backlog = Backlog(100)
    for nodes, fits in ((MAX_BYTES, False), (MAX_BYTES // NODE_COST, False), (20, True)):
        tf = FilterNode(op="or", nodes=(FilterNode(),) * nodes)
        command = Command(id=1, subscribe=SubscribeRequest(channel="a", tf=tf))
        assert backlog.add([command], 90) == ([] if fits else [command])
    assert backlog.add(commands(2), MAX_BYTES - 90 - 20 * NODE_COST) == commands(2)
    assert backlog.take()[1] == 90
