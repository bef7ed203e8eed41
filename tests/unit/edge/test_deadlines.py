from __future__ import annotations

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.core import PING, Core, Turns
from tests.fakes.edge import believing, token
from tests.support.protocol import protocol
from tidewire.edge.pacer import SLICE
from tidewire.edge.policies.claims import ConnectionClaims, SubscriptionClaims
from tidewire.edge.timers import Timing
from tidewire.kernel import errors

NOW = int(ManualClock().wall())


@pytest.fixture
def turns() -> Turns:
    """Of a core, as its `later`."""
    return Turns()


@pytest.fixture
def core() -> Core:
    """With the fakes' configuration."""
    return Core()


@protocol("ping.schedule")
@pytest.mark.parametrize(("random", "first"), [(0.0, 12.5), (0.999, 25.0)])
def test_pings_on_schedule_also_on_busy_connections(random: float, first: float) -> None:
    """The first after half to one interval, then each interval; the Python SDK counts nothing else."""
    core = Core(random=random)
    client = core.client().subscribe("chat:a")

    def pings(seconds: float) -> int:
        found = 0
        for _ in range(round(seconds)):
            core.deliver("chat:a", "busy")
            core.run(1)
            for frame in client.frames():
                if frame == PING:
                    found += 1
                    client.say({})
        return found

    assert pings(first - 1) == 0
    assert pings(2) == 1
    assert pings(23) == 0
    assert pings(2) == 1
    assert pings(100) == 4
    assert client.closed == 0


@protocol("ping.pong", "disconnect.3012")
def test_missing_pong_closes_after_its_time(core: Core) -> None:
    """Data from the client is no pong."""
    client = core.client()
    core.run(12.5)
    assert client.frames() == [PING]
    core.run(7.9)
    client.say({"id": 9, "history": {"channel": "chat:a"}})
    assert client.closed == 0
    core.run(0.1)
    assert client.closed == 3012
    assert core.dispatcher.connections == {}


@protocol("connect.stale", "disconnect.3502")
def test_connection_that_does_not_authenticate_closes_after_its_time(core: Core) -> None:
    """An authenticated one does not."""
    stale, fine = core.client(None), core.client()
    core.run(9.9)
    assert stale.closed == 0
    core.run(0.1)
    assert (stale.closed, fine.closed) == (3502, 0)


@protocol("disconnect.3005", "token.refresh")
def test_expired_connection_closes_after_its_grace_unless_refreshed(core: Core) -> None:
    """The timer follows the refresh."""
    now = int(core.clock.wall())
    lazy, eager = core.client("lazy", exp=now + 5), core.client("eager", exp=now + 5)
    for client in (lazy, eager):
        client.transport.frames.clear()
    core.run(4)
    eager.say({"id": 2, "refresh": {"token": token("eager", exp=now + 60)}})
    for _ in range(30):
        core.run(1)
        for client in (lazy, eager):
            if client.closed == 0 and PING in client.frames():
                client.say({})
    assert (lazy.closed, eager.closed) == (3005, 0)


@protocol("token.subscription")
def test_subscription_ends_after_its_grace_unless_refreshed() -> None:
    """The timer follows the soonest of them, and a refresh puts it off."""
    core = Core(client={"expired_sub_close_delay": "2s"})
    believing(
        core.rules,
        t=ConnectionClaims("alice"),
        a=SubscriptionClaims("alice", "chat:a", expires_at=NOW + 3),
        b=SubscriptionClaims("alice", "chat:b", expires_at=NOW + 4),
        c=SubscriptionClaims("alice", "chat:a", expires_at=NOW + 8),
    )
    client = core.client(None)
    client.say({"id": 1, "connect": {"token": "t"}})
    for number, name in enumerate("ab", 2):
        channel = f"chat:{name}"
        client.say({"id": number, "subscribe": {"channel": channel, "token": name}})
        core.broker.confirm(channel)
    core.run(1)
    client.say({"id": 9, "sub_refresh": {"channel": "chat:a", "token": "c"}})
    client.frames()
    core.run(4.9)
    assert client.frames() == []
    core.run(0.2)
    ended = {"code": 2501, "reason": "subscription expired"}
    assert client.heard() == [{"push": {"channel": "chat:b", "unsubscribe": ended}}]
    core.run(3.8)
    assert client.frames() == []
    core.run(0.2)
    assert client.heard() == [{"push": {"channel": "chat:a", "unsubscribe": ended}}]
    assert (client.closed, core.hub.subscriptions) == (0, 0)


def test_deadlines_of_one_tick_are_met_in_slices(turns: Turns) -> None:
    """Thousands of connections may expire in one second. One that is gone before its turn is left alone."""
    core = Core(later=turns.later, client={"expired_close_delay": "0s"})
    expiry = int(core.clock.wall()) + 1
    clients = [core.client(exp=expiry) for _ in range(4)]
    core.run(1.1)
    core.clock.costs = SLICE / 2
    assert [client.closed for client in clients] == [0, 0, 0, 0]
    turns.turn()
    assert [client.closed for client in clients] == [3005, 0, 0, 0]
    core.dispatcher.lost(clients[1].connection)
    core.clock.costs = 0.0
    turns.turn()
    assert [client.closed for client in clients] == [3005, 0, 3005, 3005]


def test_deadline_of_a_connection_that_is_gone_before_its_turn_is_nobodys(turns: Turns) -> None:
    """It must not be set anew: nothing would ever take it away."""
    core = Core(later=turns.later)
    client = core.client()
    core.run(13)
    core.dispatcher.lost(client.connection)
    client.frames()
    turns.turn()
    assert client.frames() == []
    core.run(60)
    turns.turn()
    assert len(core.dispatcher.pacer) == 0
    assert sum(map(len, core.timers._wheels)) == 0


def test_reconfigured_times_count_for_who_comes() -> None:
    """A connection that is there keeps what it began with."""
    core = Core()
    early = core.client(None)
    core.dispatcher.reconfigured(Timing(ping=25.0, pong=8.0, stale=1.0))
    late = core.client(None)
    core.run(1.1)
    assert late.transport.closed is errors.STALE
    assert early.transport.closed is None
