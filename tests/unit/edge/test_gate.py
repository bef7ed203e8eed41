from __future__ import annotations

import asyncio
from typing import cast

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.door import connect_frame, head
from tests.fakes.edge import CountingMetrics, FakeBroker, FakeKeys, ManualTimer, at_once, now, rules
from tests.fakes.tcp import FakeTcp
from tests.support.protocol import protocol
from tidewire.edge.connection import Connection
from tidewire.edge.dispatcher import Dispatcher
from tidewire.edge.gate import HTTP_LIFETIME, Gate, Limits
from tidewire.edge.handshake import Readiness
from tidewire.edge.hub import Hub
from tidewire.edge.pacer import Pacer
from tidewire.edge.policies.origins import OriginPolicy
from tidewire.edge.reception import Reception
from tidewire.edge.timers import TICK, Timers, Timing
from tidewire.platform.rotation import Rotation


class Yard:
    """A gate and what it stands on."""

    def __init__(self, connections: int = 10) -> None:
        self.sockets = 0
        self.broker = FakeBroker()
        self.metrics = CountingMetrics()
        clock = ManualClock()
        hub = Hub(self.broker, self.metrics, clock, 10, ManualTimer(clock))
        dispatcher = Dispatcher(
            rules(clock),
            hub,
            self.broker,
            FakeKeys(),
            self.metrics,
            Timers(Timing(25, 8, 10), lambda: 0.0),
            Pacer(clock, at_once),
        )
        self.gate = Gate(
            Limits(connections, 1000, 1000, 5.0, 5.0),
            OriginPolicy([]),
            "",
            dispatcher,
            self.metrics,
            lambda: self.broker.available,
            asyncio.Protocol,
        )
        self.gate.handshakes = Rotation(self.metrics.turn_over, now)

    def tcp(self, address: str = "") -> FakeTcp:
        """A new socket; of an address that no other socket has, unless one is given."""
        self.sockets += 1
        return FakeTcp(Reception(self.gate), address or f"10.0.{self.sockets >> 8}.{self.sockets & 255}")

    def guest(self) -> FakeTcp:
        """A socket that asks for plain HTTP."""
        tcp = self.tcp()
        tcp.receive(b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n")
        return tcp

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / TICK)):
            self.gate.tick()


@pytest.fixture
def yard() -> Yard:
    """Ten connections may be there."""
    return Yard()


@protocol("handshake.limit", "handshake.broker_away")
def test_readiness_counts_sessions_and_asks_the_broker(yard: Yard) -> None:
    """Sockets in their handshake are no connections yet."""
    yard.tcp()
    assert yard.gate.readiness() == Readiness(0, 10, broker=True)
    yard.broker.available = False
    assert yard.gate.readiness() == Readiness(0, 10, broker=False)


@pytest.mark.parametrize(("connections", "sockets"), [(10, 74), (640, 704), (2000, 2200)])
def test_sockets_are_bounded_a_little_over_the_connections(connections: int, sockets: int) -> None:
    """By a tenth, or by 64."""
    yard = Yard(connections)
    for _ in range(sockets):
        assert yard.gate.room > 0
        assert not yard.tcp().aborted
    assert yard.gate.room <= 0


def test_http_sockets_count_while_they_are_open_and_no_longer(yard: Yard) -> None:
    """Pages that many people load must not close the door to them."""
    guests = [yard.guest() for _ in range(74)]
    assert yard.gate.room <= 0
    assert yard.tcp().aborted
    for guest in guests[:5]:
        guest.close()
    yard.run(TICK)
    assert yard.gate.room > 0
    for _ in range(500):
        assert not yard.tcp().aborted
        yard.guest().close()
        list(yard.gate.transports)[-1].connection_lost(None)
        yard.run(TICK)


def test_http_socket_has_its_life(yard: Yard) -> None:
    """Requests are short here; who holds one open is not served longer."""
    guest, quick = yard.guest(), yard.guest()
    quick.close()
    yard.run(HTTP_LIFETIME - TICK)
    assert not guest.closing
    yard.run(TICK)
    assert (guest.aborted, quick.aborted) == (True, False)
    yard.run(TICK)
    assert len(yard.gate._guests) == 0


def test_http_socket_that_closes_but_is_not_read_counts_until_it_is_cut(yard: Yard) -> None:
    """Otherwise whoever reads no answer could hold as many sockets as there are files."""
    guest = yard.guest()
    guest.stall()
    guest.write(b"an answer")
    guest.close()
    yard.run(HTTP_LIFETIME - TICK)
    assert (yard.gate.sockets, guest.aborted) == (1, False)
    yard.run(2 * TICK)
    assert (yard.gate.sockets, guest.aborted) == (0, True)
    assert len(yard.gate.shedder.addresses) == 0


def test_newest_deadline_counts_and_a_disarmed_one_never_comes(yard: Yard) -> None:
    """Each transport has one."""
    late, never = yard.tcp(), yard.tcp()
    yard.gate.arm(cast("Reception", late.protocol), 8.0)
    yard.gate.disarm(cast("Reception", never.protocol))
    yard.run(7.9)
    assert not late.closing
    yard.run(0.1)
    assert late.aborted
    yard.run(60)
    assert not never.closing
    assert yard.metrics.of("handshake") == [("timeout",)]


def test_one_address_leaves_as_much_room_as_it_takes() -> None:
    """Sockets that never send a request fill half of it; the others find the rest, and may take as much of that."""
    yard = Yard(1000)
    slow = [yard.tcp("192.0.2.66") for _ in range(1100)]
    assert sum(not each.aborted for each in slow) == yard.gate.room == 550
    assert set(yard.metrics.of("handshake")) == {("address_sockets",)}
    second = [yard.tcp("2001:db8::1") for _ in range(550)]
    assert sum(not each.aborted for each in second) == yard.gate.room == 275
    assert not yard.tcp().aborted
    for each in slow:
        each.finish()
    assert len(yard.gate.shedder.addresses) == 2
    assert not yard.tcp("192.0.2.66").aborted


def test_connections_that_show_no_token_leave_room_too() -> None:
    """Otherwise anybody could fill the edge from one address, handshake by handshake; clients with a token may come."""
    yard = Yard(1000)
    mute = []
    for _ in range(1100):
        mute.append(yard.tcp("192.0.2.66"))
        if not mute[-1].aborted:
            mute[-1].receive(head())
    assert sum(not each.aborted for each in mute) == yard.gate.room == 550
    several = []
    for number in range(400):
        several.append(yard.tcp("192.0.2.67"))
        several[-1].receive(head())
        several[-1].receive(connect_frame(f"user {number}"))
    assert not any(each.aborted for each in several)
    for each in (*mute, *several):
        each.finish()
    assert (yard.gate.sockets, len(yard.gate.shedder.addresses)) == (0, 0)
    assert yard.gate.shedder.addresses.unfinished("192.0.2.67") == 0


def test_pages_count_as_sockets_without_a_connection_until_they_are_closed() -> None:
    """Otherwise requests for pages would be the cheaper way to fill the room."""
    yard = Yard(1000)
    guests = []
    for _ in range(1100):
        guests.append(yard.tcp("192.0.2.66"))
        guests[-1].receive(b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n")
    assert sum(not each.aborted for each in guests) == 550
    yard.run(HTTP_LIFETIME + TICK)
    assert (yard.gate.sockets, len(yard.gate.shedder.addresses)) == (0, 0)


@protocol("handshake.limit")
def test_lower_limit_still_has_an_answer_for_who_comes(yard: Yard) -> None:
    """Connections above it stay, and their sockets are not counted against those that are to be refused with 503."""
    yard = Yard(500)
    for _ in range(300):
        yard.tcp()
    yard.gate.dispatcher.connections = dict.fromkeys(cast("list[Connection]", range(300)))
    origins = OriginPolicy(["https://app.example"])
    yard.gate.configure(Limits(10, 1000, 1000, 5.0, 5.0), origins, "")
    assert yard.gate.readiness() == Readiness(300, 10, broker=True)
    assert yard.gate.origins is origins
    for _ in range(64):
        assert yard.gate.room > 0
        assert not yard.tcp().aborted
    assert yard.gate.room <= 0
