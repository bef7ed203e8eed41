from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest

from tests.fakes.clock import ManualClock
from tests.support.protocol import protocol
from tidewire.edge.gate import Limits
from tidewire.edge.handshake import RETRY_AFTER
from tidewire.edge.load_shedding import RETRY_SPREAD, LoadShedder
from tidewire.edge.loop_lag import SAMPLES
from tidewire.kernel.token_bucket import Allowance

ADDRESS = "192.0.2.1"


class Desk:
    """A shedder on a clock of its own, whose random numbers go from 0 up and again."""

    def __init__(self, **limits: Any) -> None:
        self.clock = ManualClock()
        numbers: Iterator[float] = cycle([0.0, 0.5, 0.999])
        self.shedder = LoadShedder(self.clock.monotonic, lambda: next(numbers))
        self.limits = Limits(10, 1000, 1000, 5.0, 5.0, **limits)

    def outcome(self, address: str = ADDRESS) -> str:
        """What a handshake is refused for, "" for nothing."""
        refusal = self.shedder.refusal(address, self.limits)
        return refusal.outcome if refusal is not None else ""

    def connect(self, address: str) -> None:
        """A connection of this address more."""
        self.shedder.addresses.enter(address)
        self.shedder.addresses.upgrade(address)

    def late(self, seconds: float) -> None:
        """The loop is late for long."""
        for _ in range(SAMPLES):
            self.shedder.lag.note(seconds)


def test_nothing_is_refused_where_nothing_is_limited() -> None:
    """Limits are 0 and None unless somebody wants them."""
    desk = Desk()
    desk.late(60)
    for _ in range(1000):
        desk.connect(ADDRESS)
    assert desk.outcome() == ""


@protocol("handshake.rate")
def test_rate_lets_a_burst_in_and_then_so_many_a_second() -> None:
    """The refused take nothing from those that come later."""
    desk = Desk(connection_rate=Allowance(rate=10, burst=20))
    others = [f"203.0.113.{number}" for number in range(30)]
    assert [desk.outcome(other) for other in others] == [""] * 20 + ["connection_rate"] * 10
    desk.clock.advance(0.1)
    assert [desk.outcome(other) for other in others[20:22]] == ["", "connection_rate"]


@protocol("handshake.rate")
def test_one_address_leaves_some_of_the_burst() -> None:
    """Otherwise it could keep everybody out."""
    desk = Desk(connection_rate=Allowance(rate=10, burst=20))
    assert [desk.outcome() for _ in range(18)] == [""] * 16 + ["connection_rate"] * 2
    assert desk.outcome("203.0.113.7") == ""


@protocol("handshake.overload")
def test_overload_refuses_above_the_limit_only() -> None:
    """And takes no token of those that come when it is over."""
    desk = Desk(max_loop_lag=0.5, connection_rate=Allowance(1, 1))
    desk.late(0.5)
    assert desk.outcome() == ""
    desk.clock.advance(1)
    desk.late(0.51)
    assert [desk.outcome(), desk.outcome()] == ["overload"] * 2
    desk.late(0)
    assert desk.outcome() == ""


@protocol("handshake.address_limit")
@pytest.mark.parametrize(("address", "neighbour"), [(ADDRESS, ADDRESS), ("2001:db8::1", "2001:db8::2")])
def test_address_with_enough_takes_no_token_of_the_others(address: str, neighbour: str) -> None:
    """Otherwise one address could use up the rate of all. Of IPv6 a /64 is one address."""
    desk = Desk(address_connections=2, connection_rate=Allowance(1, 1))
    desk.connect(address)
    desk.connect(neighbour)
    assert [desk.outcome(address) for _ in range(5)] == ["address_limit"] * 5
    assert desk.outcome("203.0.113.7") == ""
    desk.clock.advance(1)
    desk.shedder.addresses.leave(neighbour, upgraded=True)
    assert desk.outcome(address) == ""


def test_refused_clients_are_told_to_come_back_at_different_times() -> None:
    """Not all at once again."""
    desk = Desk(max_loop_lag=0.1)
    desk.late(1)
    found = [desk.shedder.refusal(ADDRESS, desk.limits) for _ in range(3)]
    times = [each.retry_after for each in found if each is not None]
    assert times == [RETRY_AFTER, RETRY_AFTER + RETRY_SPREAD // 2, RETRY_AFTER + RETRY_SPREAD - 1]
