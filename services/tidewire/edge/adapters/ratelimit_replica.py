"""One replica of the rate-limit service, as this edge sees it: what it is to be asked, and whether it answers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence, Sized
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from tidewire.kernel.call_errors import INTERNAL, UNAVAILABLE, CallError
from tidewire.rpc.ratelimit.v1 import ratelimit_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidewire.edge.leases import Lease
    from tidewire.edge.places_held import Slot
    from tidewire.platform.rpc_call import Method
    from tidewire.platform.rpc_client import RpcClient

_SERVICE: Final = f"/{pb.DESCRIPTOR.services_by_name['RateLimit'].full_name}"
LEASE: Final = f"{_SERVICE}/Lease"
HOLD: Final = f"{_SERVICE}/Hold"
MOST: Final = 500
"""Keys that are asked for in one call, and as many that are given back."""
MOST_UNSPENT: Final = 10_000
"""Keys whose tokens wait to be given back; of others they are lost."""
PROBE: Final = 0.25
"""Seconds between two looks at whether a replica is connected, and whether one that did not answer does."""
LEARNING_PAUSE: Final = 0.2
"""Seconds after which a replica that could not judge yet is asked again."""
_MS: Final = 1000


class Replicas(Protocol):
    """All of them, and what they have in common."""

    edge: str
    """The name of this life of the edge."""
    now: Callable[[], float]

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside."""

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call something in so many seconds."""

    def slots_of(self, replica: Replica) -> Iterable[Slot]:
        """Return the slots that belong to a replica now, of which something is held or wanted."""

    def ask_elsewhere(self, leases: Iterable[Lease]) -> None:
        """Ask the next replicas for tokens."""

    def ask_places_elsewhere(self, slots: Iterable[Slot]) -> None:
        """Ask the next replicas for places."""

    def ask_again(self, slot: Slot) -> None:
        """Ask for a place, or give one up."""

    def replica_away(self, replica: Replica, error: CallError) -> None:
        """Let its keys move on."""

    def replica_back(self, replica: Replica) -> None:
        """Let its keys come back."""

    def unknown_rule(self, name: str) -> None:
        """A replica has another configuration."""


class Unspent(NamedTuple):
    """Tokens to give back, and when they were asked for."""

    rule: str
    key: bytes
    tokens: int
    asked_at: float


class Replica:
    """One replica, as this edge sees it: what it is to be asked, and whether it answers."""

    def __init__(self, service: Replicas, index: int, client: RpcClient) -> None:
        self.index = index
        self.client = client
        self.up = True
        self.asks: dict[Lease, None] = {}
        self.unspent: deque[Unspent] = deque(maxlen=MOST_UNSPENT)
        self.slots: dict[Slot, None] = {}
        self.anew = True
        """The next call about places says everything anew."""
        self._service = service
        self._life = ""
        self._sequence = 0
        self._watched: dict[Slot, None] = {}
        """Slots that may have places which nobody takes."""
        self.leasing = False
        """Whether a call about tokens is under way."""
        self._holding = False

    def bind(self) -> None:
        """Have the methods, once the client has started."""
        self._lease: Method[pb.LeaseRequest, pb.LeaseReply] = self.client.unary_unary(
            LEASE, pb.LeaseRequest.SerializeToString, pb.LeaseReply.FromString
        )
        self._hold: Method[pb.HoldRequest, pb.HoldReply] = self.client.unary_unary(
            HOLD, pb.HoldRequest.SerializeToString, pb.HoldReply.FromString
        )

    # Tokens.

    def ask(self, lease: Lease) -> None:
        """Ask for tokens with the next call."""
        self.asks[lease] = None
        self._begin_leasing()

    def give_back(self, unspent: Unspent) -> None:
        """Give tokens back with the next call."""
        self.unspent.append(unspent)
        self._begin_leasing()

    def _begin_leasing(self) -> None:
        if not self.leasing:
            self.leasing = True
            self._service.begin(self._lease_all())

    async def _lease_all(self) -> None:
        """Ask for all that is wanted, call by call. What is wanted in the same turn of the loop goes together."""
        try:
            while self.asks or self.unspent:
                batch = list(self.asks)[:MOST]
                for lease in batch:
                    del self.asks[lease]
                await self._lease_some(batch)
        finally:
            self.leasing = False

    async def _lease_some(self, batch: Sequence[Lease]) -> None:
        service, asked_at = self._service, self._service.now()
        late = asked_at + self.client.timeout
        """When it is there at the latest: what comes back is worth less by what was refilled until then."""
        unspent = [self.unspent.popleft() for _ in range(min(MOST, len(self.unspent)))]
        request = pb.LeaseRequest(
            asks=[pb.Ask(rule=each.leases.name, key=each.wire, tokens=each.wanted) for each in batch],
            unspent=[
                pb.Unspent(
                    rule=each.rule,
                    key=each.key,
                    tokens=each.tokens,
                    age_ms=round((late - each.asked_at) * _MS),
                )
                for each in unspent
            ],
        )
        try:
            reply = await self._lease(request)
            _expect(len(batch), reply.grants)
        except CallError as error:
            self.went_away(error)
            service.ask_elsewhere(batch)
            return
        except BaseException:  # a mistake of ours must not leave them asked for ever
            for lease in batch:
                lease.failed(service.now())
            raise
        now = service.now()
        for lease, grant in zip(batch, reply.grants, strict=True):
            if grant.unknown:
                service.unknown_rule(lease.leases.name)
                lease.failed(now)
            else:
                lease.answered(grant.tokens, grant.retry_after_ms / _MS, asked_at, now)

    # Places.

    def ask_place(self, slot: Slot) -> None:
        """Say what is held and wanted of a key with the next call."""
        self.slots[slot] = None
        self.begin_holding()

    def begin_holding(self) -> None:
        """Say what there is to say about places, and be it only that this edge is there."""
        if not self._holding and self.up:
            self._holding = True
            self._service.begin(self._hold_all())

    async def _hold_all(self) -> None:
        try:
            await self._hold_some()
            while self.up and (self.slots or self.anew):
                await self._hold_some()
        finally:
            self._holding = False

    async def _hold_some(self) -> None:
        service = self._service
        if self.anew:
            self.slots.update(dict.fromkeys(service.slots_of(self)))
        batch = list(self.slots)[:MOST]
        for slot in batch:
            del self.slots[slot]
        self._sequence += 1
        anew, self.anew = self.anew, False
        holds = [
            pb.Held(
                rule=slot.slots.name,
                key=slot.wire,
                held=slot.held,
                wanted=slot.say(),
                moved=slot.order[0] != self.index,
            )
            for slot in batch
        ]
        request = pb.HoldRequest(edge=service.edge, sequence=self._sequence, holds=holds, anew=anew)
        try:
            reply = await self._hold(request)
            _expect(len(batch), reply.places)
        except CallError as error:
            self.went_away(error)
            service.ask_places_elsewhere(batch)
            return
        except BaseException:  # as above
            for slot in batch:
                slot.failed()
            raise
        self.anew = self.anew or (bool(self._life) and reply.life != self._life and not anew)
        self._life = reply.life
        for slot, place, said in zip(batch, reply.places, holds, strict=True):
            self._take(slot, place, said.wanted)
            came = slot.held > slot.granted and not place.unknown
            if (came or slot.held < said.held) and not slot.asked:  # somebody came or left meanwhile
                service.ask_again(slot)

    def _take(self, slot: Slot, place: pb.Place, asked: int) -> None:
        if place.unknown:
            self._service.unknown_rule(slot.slots.name)
            slot.uncounted(self._service.now())
            self._watched[slot] = None
            return
        slot.answered(place.granted, asked, self._service.now(), learning=place.learning, over=place.over)
        if slot.waiters:
            self._service.later(LEARNING_PAUSE, partial(self._ask_again, slot))
        self._watched[slot] = None

    def _ask_again(self, slot: Slot) -> None:
        if slot.waiters and not slot.asked:
            self._service.ask_again(slot)

    def heartbeat(self) -> None:
        """Give up places that nobody takes, and say that this edge is there."""
        watched, self._watched = self._watched, {}
        for slot in watched:
            if slot.spare and not slot.asked:
                self._service.ask_again(slot)
            elif not slot.held:
                if self._service.now() < max(slot.full_until, slot.down_until):
                    self._watched[slot] = None
                else:
                    slot.slots.forget(slot)
        self.begin_holding()

    # Whether it answers.

    def notice(self) -> None:
        """Learn that its connection is gone, or that it drains, before somebody asks it."""
        if self.client.state == "transient_failure":
            self.went_away(CallError(UNAVAILABLE, "not connected, or not serving"))

    def went_away(self, error: CallError) -> None:
        """It did not answer: its keys go to others until it does."""
        if not self.up:
            return
        self.up = False
        self._service.replica_away(self, error)
        self._service.begin(self._look_for_it())

    async def _look_for_it(self) -> None:
        while not self.up:
            await asyncio.sleep(PROBE)
            try:
                await self._lease(pb.LeaseRequest())
            except CallError:
                continue
            self.up = True
            self._service.replica_back(self)


def _expect(count: int, answers: Sized) -> None:
    """Raise CallError unless each key has an answer."""
    if len(answers) != count:
        raise CallError(INTERNAL, f"{len(answers)} answers about {count} keys")
