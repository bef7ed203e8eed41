"""Whether there is a place for another connection of a user or an address, over all edges together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from tidewire.edge.addresses import network
from tidewire.edge.limits import AWAY, Verdict
from tidewire.edge.places_held import FULL, Slot, Slots
from tidewire.edge.waiting import CROWDED, TokensWanted, gives_up, is_crowded_out, standing_of, waits_no_more
from tidewire.kernel import errors

if TYPE_CHECKING:
    from tidewire.edge.party import Party
    from tidewire.edge.waiting import Waiters
    from tidewire.kernel.errors import Disconnect, ReplyError
    from tidewire.options.rate_limit_options import RateLimitsConfig
    from tidewire.options.rate_limit_rules import ConnectionRule

    Seen = tuple[Slots, Slot, float]

ADDRESS: Final = "ip"


class ConnectionLimits:
    """The rules in force, and the places that are held."""

    def __init__(self, ask: Callable[[Slot], bool], waiters: Waiters) -> None:
        self._ask = ask
        self._waiters = waiters
        self._rules: dict[str, Slots] = {}
        self._known: dict[tuple[str, str], Slots] = {}
        """By name and key; also those of rules that are gone, while connections have places by them."""

    def configure(self, config: RateLimitsConfig) -> None:
        """Follow other rules. Those that count the same as before go on; a new one counts connections from now on."""
        self._rules = {rule.name: self._follow(rule) for rule in config.connections}
        in_force = list(self._rules.values())
        self._known = {name: slots for name, slots in self._known.items() if len(slots) or slots in in_force}

    def _follow(self, rule: ConnectionRule) -> Slots:
        slots = self._known.setdefault((rule.name, rule.key), Slots(rule, self._ask))
        slots.rule, slots.limit = rule, rule.limit
        return slots

    def rules(self) -> Iterable[Slots]:
        """Return every rule."""
        return self._rules.values()

    def slots(self) -> Iterable[Slot]:
        """Yield every slot of every rule."""
        for slots in self._rules.values():
            yield from slots.all()

    def address_is_full(self, address: str, now: float) -> bool:
        """Return whether it is known that an address has all the connections that it may have."""
        if not address:
            return False
        return any(
            slots.rule.key == ADDRESS and not slots.rule.dry_run and slots.is_full(network(address), now)
            for slots in self._rules.values()
        )

    def judge(self, party: Party) -> Verdict:
        """Judge whether a client that is about to connect may come in; `enter` takes its places."""
        now = party.started
        missing = [each for each in self._seen(party, now) if each[2] and not each[0].rule.dry_run]
        for slots, _, wait in missing:
            if wait > 0:
                standing_of(party).waits_since = 0.0
                slots.refused += 1
                return _too_many(slots)
        unknown = [slot for _, slot, wait in missing if wait < 0 and slot.asked]
        if unknown and is_crowded_out(party, self._waiters):
            return CROWDED
        if unknown and not gives_up(party, self._waiters, now):
            return TokensWanted(unknown)
        denying = [slots for slots, _, _ in missing if slots.rule.when_down == "deny"]
        for slots in denying:
            slots.denied += 1
        return AWAY if denying else None

    def enter(self, party: Party) -> None:
        """Take the places of a connection that was let in."""
        seen = list(self._seen(party, party.started))
        for slots, slot, wait in seen:
            slots.allowed += not wait
            slots.passed += bool(wait) and not slots.rule.dry_run
            slots.take(slot)
        waits_no_more(party)
        if seen:
            standing_of(party).slots = tuple(slot for _, slot, _ in seen)

    def _seen(self, party: Party, now: float) -> Iterable[Seen]:
        address = network(party.address) if party.address else ""
        for slots in self._rules.values():
            key = address if slots.rule.key == ADDRESS else party.user
            if key:
                yield slots, *slots.peek(key, now)


def leave(party: Party) -> None:
    """Give up the places of a connection that is gone."""
    if party.standing is None:
        return
    for slot in party.standing.slots:
        slot.slots.leave(slot)
    party.standing.slots = ()


def _too_many(slots: Slots) -> ReplyError | Disconnect:
    """Return that after which SDKs come back: one of the others may be gone, and its place not free yet."""
    if slots.rule.key == ADDRESS:
        return errors.TOO_MANY_REQUESTS_CLOSE.saying(
            f"too many requests: the address has {slots.limit} connections over all edges"
        )
    return errors.TOO_MANY_REQUESTS.saying(
        f"too many requests: the user has {slots.limit} connections over all edges; try again in {FULL} s"
    )
