from __future__ import annotations

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.edge import RecordingTransport, rules
from tidewire.edge.connection import Connection
from tidewire.edge.session import Session
from tidewire.edge.timers import TICK, Timer, Timers, Timing
from tidewire.edge.users import Users
from tidewire.kernel.ids import ConnectionId
from tidewire.kernel.wheel import Wheel

TIMING = Timing(ping=25.0, pong=8.0, stale=10.0)


def made() -> Connection:
    """Any connection: timers only keep it."""
    session = Session(ConnectionId("c1"), rules(ManualClock()), Users(), json=True)
    return Connection(session, RecordingTransport(), 0.0)


@pytest.fixture
def connection() -> Connection:
    """One of them."""
    return made()


def due(timers: Timers, ticks: int) -> list[tuple[int, Timer]]:
    """What becomes due in which of the next ticks, counted from 1."""
    return [(tick, timer) for tick in range(1, ticks + 1) for timer, _ in timers.advance()]


@pytest.mark.parametrize(
    ("seconds", "tick"),
    [(0.0, 1), (-5.0, 1), (TICK, 1), (TICK * 1.01, 2), (1.0, 10), (25.0, 250)],
)
def test_deadline_is_rounded_up_to_a_tick(connection: Connection, seconds: float, tick: int) -> None:
    """Never early; what is past is due at the next tick."""
    timers = Timers(TIMING, lambda: 0.0)
    timers.set(connection, Timer.PING, seconds)
    assert due(timers, tick + 5) == [(tick, Timer.PING)]


def test_one_deadline_of_a_kind_the_newest(connection: Connection) -> None:
    """Setting again replaces, sooner or later; other kinds are left alone."""
    timers = Timers(TIMING, lambda: 0.0)
    timers.set(connection, Timer.EXPIRY, 0.3)
    timers.set(connection, Timer.PONG, 0.2)
    timers.set(connection, Timer.EXPIRY, 0.5)
    assert due(timers, 9) == [(2, Timer.PONG), (5, Timer.EXPIRY)]
    timers.set(connection, Timer.EXPIRY, 0.5)
    timers.set(connection, Timer.EXPIRY, 0.1)
    assert due(timers, 9) == [(1, Timer.EXPIRY)]


def test_cleared_connection_is_never_due_again(connection: Connection) -> None:
    """And nothing is kept of it."""
    timers = Timers(TIMING, lambda: 0.0)
    for timer in Timer:
        timers.set(connection, timer, 0.1 + timer)
    timers.clear(connection)
    assert due(timers, 50) == []
    assert all(len(wheel) == 0 for wheel in timers._wheels)


@pytest.mark.parametrize("kept", list(Timer))
def test_clearing_touches_only_the_wheels_on_which_the_connection_is(
    connection: Connection, kept: Timer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nearly all connections end with one or two of five deadlines: it is not looked for on the others."""
    timers = Timers(TIMING, lambda: 0.0)
    timers.set(connection, kept, 1.0)
    asked: list[int] = []
    discard = Wheel.discard

    def recorded(wheel: Wheel[Connection], item: Connection, due: int) -> None:
        asked.append(due)
        discard(wheel, item, due)

    monkeypatch.setattr(Wheel, "discard", recorded)
    timers.clear(connection)
    assert asked == [10]
    assert all(len(wheel) == 0 for wheel in timers._wheels)


def test_clearing_one_connection_leaves_those_due_in_the_same_tick() -> None:
    """Also one that was never due."""
    one, other, never = (made() for _ in range(3))
    timers = Timers(TIMING, lambda: 0.0)
    timers.set(one, Timer.PING, 0.3)
    timers.set(other, Timer.PING, 0.3)
    timers.clear(one)
    timers.clear(never)
    assert [timers.advance() for _ in range(4)] == [[], [], [(Timer.PING, other)], []]


def test_all_kinds_may_be_due_in_one_tick(connection: Connection) -> None:
    """Each once."""
    timers = Timers(TIMING, lambda: 0.0)
    for timer in Timer:
        timers.set(connection, timer, 0.1)
    assert due(timers, 3) == [(1, timer) for timer in Timer]


def test_timer_that_a_due_one_sets_counts_from_this_tick(connection: Connection) -> None:
    """A pong is awaited for its whole time, on whichever wheel."""
    timers = Timers(TIMING, lambda: 0.0)
    timers.set(connection, Timer.PING, 0.1)
    for timer, found in timers.advance():
        assert timer is Timer.PING
        timers.set(found, Timer.PONG, 0.3)
    assert due(timers, 5) == [(3, Timer.PONG)]
