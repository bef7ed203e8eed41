"""Places over several edges, whatever comes in between: never more than the rule, and in the end exactly who is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from random import Random

import pytest

from tests.unit.edge.adapters.test_places_under_way import Edge, Mesh
from tidewire.edge.connection_limits import leave
from tidewire.edge.party import Party
from tidewire.ratelimit.places import EDGE_LEASE, LEARNING, Places

LIMIT = 3
EDGES = 3
STEPS = 250
ACTS = [*["come"] * 8, *["go"] * 5, *["hold"] * 2, *["release"] * 4, *["time"] * 8, "restart", "die"]


class World:
    """Edges with clients of one user, and one replica; time passes only in `time`, and no call is slower than that."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.mesh = Mesh()
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.let_in = self.most = 0
        self.there: dict[Edge, list[Party]] = {}
        self.coming: set[asyncio.Task[None]] = set()
        for _ in range(EDGES):
            self.begin_edge()

    def begin_edge(self) -> None:
        """Another one starts."""
        edge = self.mesh.edge()
        for slots in edge.limits.rules():
            slots.rule = type(slots.rule)(name="users", key="user", limit=LIMIT, when_down="deny")
        edge.service.later = lambda seconds, call: self.timers.append((self.mesh.clock.now + seconds, call))  # type: ignore[method-assign]
        self.there[edge] = []

    async def settle(self) -> None:
        """Let what is under way go on."""
        for _ in range(20):
            await asyncio.sleep(0)
        held = sum(edge.held for edge in self.there)
        assert held <= LIMIT, "more than the rule"
        assert held == sum(map(len, self.there.values()))
        self.most = max(self.most, held)

    async def _come(self, edge: Edge) -> None:
        party, verdict = await edge.connect()
        if verdict is not None:
            return
        self.let_in += 1
        if edge in self.there:
            self.there[edge].append(party)

    async def come(self) -> None:
        """A client connects; it waits for the answer of the replica."""
        task = asyncio.ensure_future(self._come(self.dice.choice(list(self.there))))
        self.coming.add(task)
        task.add_done_callback(self.coming.discard)

    async def go(self) -> None:
        """One leaves."""
        parties = self.there[self.dice.choice(list(self.there))]
        if parties:
            leave(parties.pop(self.dice.randrange(len(parties))))

    async def hold(self) -> None:
        """An edge's answers are late from now on."""
        self.dice.choice(list(self.there)).open.clear()

    async def release(self) -> None:
        """They come."""
        for edge in self.there:
            edge.open.set()

    async def time(self) -> None:
        """Half a second passes; calls end within that."""
        await self.release()
        await self.settle()
        self.mesh.clock.now += 0.5
        self.mesh.places.look(self.mesh.clock.now)
        now = self.mesh.clock.now
        due, self.timers = (
            [call for at, call in self.timers if at <= now],
            [timer for timer in self.timers if timer[0] > now],
        )
        for call in due:
            call()
        for edge in self.there:
            edge.waiters._expire()
            edge.replica.heartbeat()

    async def restart(self) -> None:
        """The replica begins anew."""
        names = (f"life-{number}-{self.dice.random()}" for number in count())
        mesh = self.mesh
        mesh.places = mesh.servicer._places = Places(
            {"users": LIMIT}, 100, lambda: next(names), mesh.clock.now
        )

    async def die(self) -> None:
        """An edge ends without a word, and another one begins."""
        edge = self.dice.choice(list(self.there))
        del self.there[edge]
        edge.open.set()
        await edge.service.close()
        self.begin_edge()


@pytest.mark.parametrize("seed", range(12))
async def test_never_more_than_the_rule_and_exact_in_the_end(seed: int) -> None:
    """Clients come and go, calls are late, the replica begins anew, edges die."""
    world = World(seed)
    for act in world.dice.choices(ACTS, k=STEPS):
        await getattr(world, act)()
        await world.settle()
    for _ in range(round(2 * (LEARNING + EDGE_LEASE) / 0.5)):
        await world.time()
        await world.settle()
    assert not world.coming
    held = sum(edge.held for edge in world.there)
    assert world.mesh.places.held().get("users", 0) == held
    for _ in range(LIMIT + 1):
        before = sum(edge.held for edge in world.there)
        await world.come()
        for _ in range(3):
            await world.settle()
            await world.time()
        assert sum(edge.held for edge in world.there) == min(LIMIT, before + 1), "a place that nobody has"
    assert world.let_in > 5
    assert world.most == LIMIT
    for edge in world.mesh.edges:
        await edge.service.close()
