from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.limits import FakeService, Limited, rule_of
from tests.support.wait import eventually
from tidewire.edge.adapters.ratelimit_replica import HOLD, LEASE, Replica, Unspent
from tidewire.edge.leases import Lease, Leases
from tidewire.edge.places_held import Slot
from tidewire.edge.waiting import wire_key
from tidewire.kernel.call_errors import UNAVAILABLE, CallError
from tidewire.rpc.ratelimit.v1 import ratelimit_pb2 as pb

Answer = Callable[[Any], Any]


class FakeClient:
    """A client whose methods the test answers."""

    target = "fake"
    timeout = 0.5
    state = "ready"

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.answers: dict[str, Answer] = {
            LEASE: lambda request: pb.LeaseReply(
                grants=[pb.Grant(tokens=ask.tokens) for ask in request.asks]
            ),
            HOLD: lambda request: pb.HoldReply(
                places=[pb.Place(granted=each.wanted) for each in request.holds], life="1"
            ),
        }

    def unary_unary(self, method: str, *_codecs: object) -> Callable[[Any], Awaitable[Any]]:
        async def call(request: Any) -> Any:
            self.requests.append(request)
            return self.answers[method](request)

        return call


class Alone:
    """A replica that is the only one, and what it says to the others."""

    edge = "edge-1"

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.now = self.clock.monotonic
        self.client: Any = FakeClient()
        self.replica = Replica(self, 0, self.client)
        self.replica.bind()
        self.elsewhere: list[Lease] = []
        self.away: list[str] = []
        self.unknown: list[str] = []
        self.slots: list[Slot] = []
        self.tasks: list[asyncio.Task[None]] = []

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds / 100, callback)

    def slots_of(self, replica: Replica) -> Iterable[Slot]:
        assert replica is self.replica
        return self.slots

    def ask_elsewhere(self, leases: Iterable[Lease]) -> None:
        self.elsewhere += leases

    def ask_places_elsewhere(self, slots: Iterable[Slot]) -> None:
        for slot in slots:
            slot.failed()

    def ask_again(self, slot: Slot) -> None:
        slot.asked = True
        self.replica.ask_place(slot)

    def replica_away(self, replica: Replica, error: CallError) -> None:
        assert replica is self.replica
        self.away.append(str(error))

    def replica_back(self, replica: Replica) -> None:
        assert replica is self.replica

    def unknown_rule(self, name: str) -> None:
        self.unknown.append(name)

    def lease(self, key: str) -> Lease:
        """A lease that is to be asked for."""
        leases = Leases(rule_of(), 100, lambda _lease: True, FakeService(self.clock).give_back)
        made = leases.find(key, self.clock.now)
        made.wire, made.order, made.asked = wire_key("r", key), [0], True
        return made

    async def settle(self) -> None:
        """Wait for what was begun; what goes wrong in it is returned by the task."""
        await asyncio.wait(self.tasks, timeout=1)

    async def end(self) -> None:
        """End what still runs."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_what_is_wanted_in_one_turn_goes_in_one_call() -> None:
    """However many keys, up to what a call takes; what is given back goes along, older by the way that it has to go."""
    alone = Alone()
    leases = [alone.lease(f"key-{number}") for number in range(700)]
    for lease in leases:
        alone.replica.ask(lease)
    alone.replica.give_back(Unspent("r", b"k", 3, alone.clock.now - 1))
    await alone.settle()
    assert [len(request.asks) for request in alone.client.requests] == [500, 200]
    (unspent,) = alone.client.requests[0].unspent
    assert (unspent.tokens, unspent.age_ms) == (3, 1500)
    assert all(lease.left == 10 and not lease.asked for lease in leases)


async def test_an_answer_that_is_none_is_as_no_answer() -> None:
    """Its keys are asked for elsewhere, and it is left alone until it answers again."""
    alone = Alone()
    alone.client.answers[LEASE] = lambda _request: pb.LeaseReply()
    lease = alone.lease("a")
    alone.replica.ask(lease)
    await eventually(lambda: alone.elsewhere == [lease])
    assert alone.away == ["internal: 0 answers about 1 keys"]
    assert not alone.replica.up
    await alone.end()


async def test_one_that_is_away_is_looked_for() -> None:
    """And comes back with the first answer."""
    alone = Alone()
    alone.client.state = "transient_failure"
    alone.replica.notice()
    assert not alone.replica.up
    alone.client.state = "ready"
    await eventually(lambda: alone.replica.up)
    await alone.end()


async def test_a_mistake_leaves_nothing_asked_for_ever() -> None:
    """Whoever waits goes on."""
    alone = Alone()

    def mistaken(_request: Any) -> Any:
        raise ValueError("a mistake")

    alone.client.answers[LEASE] = alone.client.answers[HOLD] = mistaken
    lease = alone.lease("a")
    alone.replica.ask(lease)
    limited = Limited(connections=[{"name": "users", "key": "user", "limit": 2}])
    limited.places.judge(limited.party())
    (slot,) = limited.service.slots
    slot.wire, slot.order = b"k", [0]
    alone.replica.ask_place(slot)
    await alone.settle()
    assert (lease.asked, slot.asked) == (False, False)
    for task in alone.tasks:
        with pytest.raises(ValueError, match="a mistake"):
            task.result()


async def test_a_rule_that_it_does_not_know_is_told_and_judged_as_when_it_is_away() -> None:
    """But it is not away."""
    alone = Alone()
    alone.client.answers[LEASE] = lambda request: pb.LeaseReply(
        grants=[pb.Grant(unknown=True) for _ in request.asks]
    )
    lease = alone.lease("a")
    alone.replica.ask(lease)
    await alone.settle()
    assert (alone.unknown, alone.replica.up, lease.asked) == (["r"], True, False)


async def test_a_new_life_hears_everything_anew() -> None:
    """In the next call; the first call of all begins anew, too."""
    alone = Alone()
    lives = iter("1122")
    alone.client.answers[HOLD] = lambda request: pb.HoldReply(
        places=[pb.Place(granted=each.wanted) for each in request.holds], life=next(lives)
    )
    for _ in range(3):
        alone.replica.begin_holding()
        await alone.settle()
    assert [request.anew for request in alone.client.requests] == [True, False, False, True]
    assert [request.sequence for request in alone.client.requests] == [1, 2, 3, 4]


async def test_calls_fail_for_whoever_is_unavailable() -> None:
    """Places are asked for elsewhere, too."""
    alone = Alone()

    def refuse(_request: Any) -> Any:
        raise CallError(UNAVAILABLE, "no")

    alone.client.answers[HOLD] = alone.client.answers[LEASE] = refuse
    alone.replica.begin_holding()
    await eventually(lambda: alone.away == ["unavailable: no"])
    alone.replica.begin_holding()
    assert len([each for each in alone.client.requests if isinstance(each, pb.HoldRequest)]) == 1
    await alone.end()
