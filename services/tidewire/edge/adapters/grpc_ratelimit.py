"""The rate-limit service on gRPC: which replica is asked for which key, in batches, one call at a time each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

from tidewire.edge.adapters.ratelimit_replica import PROBE, Replica, Unspent
from tidewire.edge.leases import Lease, Leases
from tidewire.edge.waiting import Awaited, Key, wire_key
from tidewire.kernel.rendezvous import ranking
from tidewire.kernel.seldom import Seldom
from tidewire.options.rate_limit_options import client_config
from tidewire.platform.rpc_client import RpcClient
from tidewire.platform.tasks import ended

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.edge.places_held import Slot
    from tidewire.kernel.call_errors import CallError
    from tidewire.kernel.clock import Clock
    from tidewire.options.rate_limit_options import RateLimitsConfig
    from tidewire.platform.rpc_telemetry import RpcClientMetrics
    from tidewire.platform.tracing import Tracer

SETTLE_LOOKS: Final = 20
SETTLE_PAUSE: Final = 0.05
RETRY_WITHIN: Final = 1.0
"""Seconds after which a replica that is away is tried again at the latest: as long as edges do not agree on whether it is there,
keys have two limits."""
HEARTBEAT: Final = 1.0
"""Seconds after which a replica hears at the latest that this edge is there."""


class GrpcRateLimit:
    """`limits.Service` on one client for each replica. A key belongs to the first replica of its order that answers."""

    def __init__(
        self,
        config: RateLimitsConfig,
        node: str,
        metrics: RpcClientMetrics,
        log: FilteringBoundLogger,
        clock: Clock,
        tracer: Tracer | None,
    ) -> None:
        """Connect to nothing yet."""
        self.edge = f"{node}-{token_hex(8)}"
        self.now = clock.monotonic
        self.holds_places = False
        """Whether there are rules about connections."""
        self.all_slots: Callable[[], Iterable[Slot]] = tuple
        self.changes = 0
        """Times that a replica went away or came back."""
        self._names = config.replicas
        self._log = log
        self._seldom = Seldom(clock.monotonic)
        self._tasks: set[asyncio.Task[None]] = set()
        self.replicas = [
            Replica(
                self,
                index,
                RpcClient(
                    client_config(target, config), (), metrics, log, clock, tracer, retry_within=RETRY_WITHIN
                ),
            )
            for index, target in enumerate(config.replicas)
        ]

    # limits.Service

    def ask(self, lease: Lease) -> bool:
        """See limits.Service."""
        home = self._home(lease, lease.leases.name, lease.key)
        if home is None:
            return False
        home.ask(lease)
        return True

    def give_back(self, leases: Leases, key: Key, tokens: int, asked_at: float) -> None:
        """See limits.Service."""
        lease = Lease(leases, key)
        home = self._home(lease, leases.name, key)
        if home is not None:
            home.give_back(Unspent(leases.name, lease.wire, tokens, asked_at))

    def ask_place(self, slot: Slot) -> bool:
        """Say what is held and wanted of a key; False: nobody can be told."""
        home = self._home(slot, slot.slots.name, slot.key)
        if home is None:
            return False
        home.ask_place(slot)
        return True

    def _home(self, awaited: Awaited, rule: str, key: Key) -> Replica | None:
        if not awaited.order:
            awaited.wire = wire_key(rule, key)
            awaited.order = ranking(awaited.wire, self._names)
        return next((self.replicas[index] for index in awaited.order if self.replicas[index].up), None)

    # Its life.

    async def start(self) -> None:
        """Begin to connect. Raises StartError: a certificate cannot be used."""
        for replica in self.replicas:
            await replica.client.start()
            replica.bind()
        self.begin(self._beat())

    def states(self) -> Mapping[str, bool]:
        """Return which replicas answer."""
        return {name: replica.up for name, replica in zip(self._names, self.replicas, strict=True)}

    def reload(self) -> None:
        """Read certificates again, soon."""
        for replica in self.replicas:
            self.begin(replica.client.reload())

    async def settle(self) -> None:
        """Wait until what was to be given back is, a little."""
        for _ in range(SETTLE_LOOKS):
            if not any(replica.leasing for replica in self.replicas):
                return
            await asyncio.sleep(SETTLE_PAUSE)

    async def close(self) -> None:
        """End the calls that are under way; nobody is told."""
        await ended(self._tasks)
        for replica in self.replicas:
            await replica.client.close()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call something in so many seconds."""
        asyncio.get_running_loop().call_later(seconds, callback)

    async def _beat(self) -> None:
        due = self.now()
        while True:
            await asyncio.sleep(PROBE)
            for replica in self.replicas:
                replica.notice()
            if self.holds_places and self.now() >= due:
                due = self.now() + HEARTBEAT
                for replica in self.replicas:
                    replica.heartbeat()

    # For replicas.

    def slots_of(self, replica: Replica) -> Iterable[Slot]:
        """Return the slots that belong to a replica now, of which something is held or wanted."""
        return [
            slot
            for slot in self.all_slots()
            if slot.wanted and self._home(slot, slot.slots.name, slot.key) is replica
        ]

    def ask_elsewhere(self, leases: Iterable[Lease]) -> None:
        """Ask the next replicas for tokens."""
        now = self.now()
        for lease in leases:
            if not self.ask(lease):
                lease.failed(now)

    def ask_places_elsewhere(self, slots: Iterable[Slot]) -> None:
        """Ask the next replicas for places."""
        for slot in slots:
            if not self.ask_place(slot):
                slot.failed()

    def ask_again(self, slot: Slot) -> None:
        """Ask for a place, or give one up."""
        slot.asked = self.ask_place(slot)
        if not slot.asked:
            slot.failed()

    def replica_away(self, replica: Replica, error: CallError) -> None:
        """Let its keys move on."""
        if self._seldom.allows(f"away {replica.index}"):
            self._log.warning("ratelimit.away", target=replica.client.target, problem=str(error))
        leases, slots = list(replica.asks), list(replica.slots)
        replica.asks.clear()
        replica.slots.clear()
        replica.unspent.clear()
        self.ask_elsewhere(leases)
        self.ask_places_elsewhere(slots)
        self._places_moved()

    def replica_back(self, replica: Replica) -> None:
        """Let its keys come back."""
        if self._seldom.allows(f"back {replica.index}"):
            self._log.info("ratelimit.back", target=replica.client.target)
        self._places_moved()

    def _places_moved(self) -> None:
        self.changes += 1
        if self.holds_places:
            for replica in self.replicas:
                replica.anew = True
                replica.begin_holding()

    def unknown_rule(self, name: str) -> None:
        """A replica has another configuration."""
        if self._seldom.allows("unknown"):
            self._log.warning("ratelimit.unknown_rule", rule=name)
