"""What an edge and a replica agree on where somebody comes or goes while a call is under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from typing import Any, cast

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.edge import rules
from tests.fakes.log import RecordingLog
from tests.support.wait import PATIENCE, eventually
from tidewire.edge.adapters.grpc_ratelimit import GrpcRateLimit
from tidewire.edge.connection_limits import ConnectionLimits, leave
from tidewire.edge.limits import Verdict
from tidewire.edge.party import Party
from tidewire.edge.waiting import TokensWanted, Waiters
from tidewire.kernel.config import decode
from tidewire.kernel.ids import ConnectionId
from tidewire.options.rate_limit_options import RateLimitsConfig
from tidewire.platform.rpc_telemetry import RpcClientMetrics
from tidewire.ratelimit.places import Places
from tidewire.ratelimit.rulebook import Rulebook
from tidewire.ratelimit.servicer import RateLimitServicer

SETTINGS: dict[str, Any] = {
    "replicas": ["ipv4:127.0.0.1:9"],
    "connections": [{"name": "users", "key": "user", "limit": 3}],
}


class Mesh:
    """One replica's counts, and edges whose calls arrive when the test says so."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        config = decode(RateLimitsConfig, SETTINGS)
        names = map(str, count(1))
        self.places = Places({"users": 3}, 100, lambda: next(names), self.clock.now)
        self.servicer = RateLimitServicer(Rulebook(config, 100), self.places, self.clock.monotonic)
        self.edges: list[Edge] = []

    def edge(self) -> Edge:
        made = Edge(self)
        self.edges.append(made)
        return made


class Edge:
    """The part of an edge that asks for places."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        config = decode(RateLimitsConfig, SETTINGS)
        log = cast("Any", RecordingLog())
        self.service = GrpcRateLimit(config, "edge", RpcClientMetrics(), log, mesh.clock, None)
        (self.replica,) = self.service.replicas
        self.replica._hold = self._hold
        self.open = asyncio.Event()
        """Calls come back only while it is set."""
        self.open.set()
        self.under_way = self.calls = 0
        self.waiters = Waiters(mesh.clock.monotonic, lambda _seconds, _call: None)
        self.limits = ConnectionLimits(self.service.ask_place, self.waiters)
        self.limits.configure(config)
        self.waiters.most, self.waiters.patience = 100, 1.0
        self.service.all_slots = self.limits.slots

    async def _hold(self, request: Any) -> Any:
        self.calls += 1
        reply = await self.mesh.servicer.Hold(request, None)
        self.under_way += 1
        await self.open.wait()
        self.under_way -= 1
        return reply

    def party(self) -> Party:
        """A client of the user."""
        party = Party(ConnectionId("c"), rules(self.mesh.clock), is_json=True)
        party.user, party.started = "alice", self.mesh.clock.now
        return party

    async def connect(self) -> tuple[Party, Verdict]:
        """Let a client of the user in, or say why not."""
        party = self.party()
        while isinstance(verdict := self.limits.judge(party), TokensWanted):
            told = asyncio.Event()
            self.waiters.add(verdict, told.set)
            await asyncio.wait_for(told.wait(), PATIENCE)
        if verdict is None:
            self.limits.enter(party)
        return party, verdict

    @property
    def held(self) -> int:
        return sum(slot.held for slot in self.limits.slots())


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    """A replica that has learned."""
    made = Mesh()
    for _ in range(8):  # it learns for 7 s
        made.clock.now += 1.0
        made.places.look(made.clock.now)
    yield made
    for edge in made.edges:
        await edge.service.close()


async def test_who_comes_while_a_place_is_asked_for_is_not_refused(mesh: Mesh) -> None:
    """The answer is not for them: they are asked for with the next call."""
    edge = mesh.edge()
    edge.open.clear()
    first = asyncio.create_task(edge.connect())
    await eventually(lambda: edge.under_way == 1)
    second = asyncio.create_task(edge.connect())
    await asyncio.sleep(0)
    edge.open.set()
    assert [(await each)[1] for each in (first, second)] == [None, None]
    assert edge.held == 2


async def test_who_takes_a_place_that_is_being_given_up_is_counted(mesh: Mesh) -> None:
    """Clients that leave and come back at once are not free to come to other edges as well."""
    edge, other = mesh.edge(), mesh.edge()
    parties = [(await edge.connect())[0] for _ in range(3)]
    await eventually(lambda: not edge.replica._holding)
    edge.open.clear()
    for party in parties:
        leave(party)
    await eventually(lambda: edge.under_way == 1)
    again = [asyncio.create_task(edge.connect()) for _ in range(3)]
    await asyncio.sleep(0)
    there = [(await other.connect())[1] for _ in range(3)]
    edge.open.set()
    here = [(await each)[1] for each in again]
    assert [*here, *there].count(None) == 3
    assert edge.held + other.held == 3
    assert mesh.places.held() == {"users": 3}


async def test_who_was_let_in_while_a_call_was_under_way_is_counted(mesh: Mesh) -> None:
    """The second was not asked for with it, and nobody asks for it afterwards."""
    edge = mesh.edge()
    edge.open.clear()
    parties = [edge.party(), edge.party()]
    for party in parties:
        verdict = edge.limits.judge(party)
        assert isinstance(verdict, TokensWanted)
        edge.waiters.add(verdict, lambda: None)
        await eventually(lambda: edge.under_way == 1)
    mesh.clock.now += 1.5
    edge.waiters._expire()
    for party in parties:
        party.started = mesh.clock.now
        assert edge.limits.judge(party) is None, "it has waited long enough"
        edge.limits.enter(party)
    edge.open.set()
    await eventually(lambda: mesh.places.held() == {"users": 2})


async def test_a_replica_that_has_no_such_rule_is_not_asked_again_and_again(mesh: Mesh) -> None:
    """What the rule says while nobody can count is so at once."""
    edge = mesh.edge()
    mesh.places.configure({}, 100)
    for _ in range(3):
        party, verdict = await asyncio.wait_for(edge.connect(), PATIENCE)
        assert verdict is None
        leave(party)
    await eventually(lambda: not edge.replica._holding)
    assert edge.calls <= 9, "each comes, is let in and leaves"
    mesh.clock.now += 1.5
    edge.replica.heartbeat()
    assert list(edge.limits.slots()) == []
