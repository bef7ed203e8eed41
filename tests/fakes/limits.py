"""A rate-limit service that the test answers for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.fakes.clock import ManualClock
from tests.fakes.edge import rules
from tidewire.edge.connection_limits import ConnectionLimits
from tidewire.edge.leases import Lease, Leases
from tidewire.edge.limits import Limits
from tidewire.edge.party import Party
from tidewire.edge.places_held import Slot
from tidewire.edge.rules import Rules
from tidewire.edge.waiting import Key, Waiters
from tidewire.kernel.config import decode
from tidewire.kernel.ids import ConnectionId
from tidewire.options.rate_limit_options import RateLimitsConfig
from tidewire.options.rate_limit_rules import RateLimitRule

REPLICAS = ["ipv4:127.0.0.1:9"]


def rule_of(**changes: Any) -> RateLimitRule:
    """A rule on publications of a user: 100 a second in leases of 10."""
    base = {"name": "r", "command": "publish", "key": ["user"], "limit": 100}
    return decode(RateLimitRule, {**base, **changes})


class FakeService:
    """Collects what is asked; `grant` answers."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.reachable = True
        self.asked: list[Lease] = []
        self.slots: list[Slot] = []
        self.returned: list[tuple[str, Key, int]] = []

    def ask(self, lease: Lease) -> bool:
        if self.reachable:
            self.asked.append(lease)
        return self.reachable

    def ask_place(self, slot: Slot) -> bool:
        if self.reachable:
            self.slots.append(slot)
        return self.reachable

    def give_back(self, leases: Leases, key: Key, tokens: int, asked_at: float) -> None:
        assert asked_at <= self.clock.now
        self.returned.append((leases.name, key, tokens))

    def grant(self, tokens: int | None = None, wait: float = 0.0, asked_at: float | None = None) -> None:
        """Answer every question alike; None is what was wanted."""
        asked, self.asked = self.asked, []
        since = self.clock.now if asked_at is None else asked_at
        for lease in asked:
            lease.answered(lease.wanted if tokens is None else tokens, wait, since, self.clock.now)

    def fail(self) -> None:
        """Let no replica answer."""
        asked, self.asked = self.asked, []
        for lease in asked:
            lease.failed(self.clock.now)

    def place(
        self, granted: int, asked: int | None = None, *, learning: bool = False, over: bool = False
    ) -> None:
        """Answer every question about places alike."""
        slots, self.slots = self.slots, []
        for slot in slots:
            wanted = slot.say() if asked is None else asked
            slot.answered(granted, wanted, self.clock.now, learning=learning, over=over)


class Limited:
    """Limits of a configuration, with a service, and the parties that they judge."""

    def __init__(self, **config: Any) -> None:
        self.clock = ManualClock()
        self.service = FakeService(self.clock)
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.waiters = Waiters(
            self.clock.monotonic, lambda seconds, call: self.timers.append((seconds, call))
        )
        self.limits = Limits(self.service, self.waiters)
        self.places = ConnectionLimits(self.service.ask_place, self.waiters)
        self.configure(**config)

    def configure(self, **config: Any) -> None:
        """Follow a configuration."""
        settings = decode(RateLimitsConfig, {"replicas": REPLICAS, **config})
        self.limits.configure(settings, self.clock.now)
        self.places.configure(settings)

    def rules(self, **config: Any) -> Rules:
        """Rules of an edge that has these limits."""
        made = rules(self.clock, **config)
        made.limits, made.places = self.limits, self.places
        return made

    def party(self, user: str = "alice", address: str = "10.0.0.1") -> Party:
        """A client."""
        party = Party(ConnectionId(user), self.rules(), is_json=True)
        party.user, party.address, party.started = user, address, self.clock.now
        return party

    def passes(self, seconds: float, *parties: Party) -> None:
        """Let time pass; the next commands of these parties come then."""
        self.clock.now += seconds
        for party in parties:
            party.started = self.clock.now

    def run_timers(self) -> None:
        """Let all timers come that are set."""
        timers, self.timers = self.timers, []
        for _, call in timers:
            call()
