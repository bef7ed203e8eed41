"""One subscription of a connection: how far it has come, by what right it is there, and what its member takes. Pure."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from tidewire.edge.attendance import NOBODY
from tidewire.edge.effects import Traits

if TYPE_CHECKING:
    from tidewire.edge.admission import Grant
    from tidewire.edge.attendance import Attendance
    from tidewire.edge.policies.filters import TagsFilter

_COMMON = {
    (compact, delta, positioned): Traits(compact, None, delta, positioned)
    for compact in (False, True)
    for delta in (False, True)
    for positioned in (False, True)
}
"""Those without a filter: nearly every subscription has one of them."""
PLAIN = _COMMON[False, False, False]
COMPACT = _COMMON[True, False, False]
DELTA = _COMMON[False, True, False]
COMPACT_DELTA = _COMMON[True, True, False]


class SubscriptionState(enum.Enum):
    """JOINING until the broker has confirmed the channel, READY until the client is told, then LIVE."""

    JOINING = "joining"
    READY = "ready"
    LIVE = "live"


class Subscription:
    """One channel of a connection. `command` is the id of the subscribe command that began it, 0 for the server's own."""

    __slots__ = ("attempt", "attendance", "command", "grant", "started", "state", "traits", "wishes")

    def __init__(
        self,
        command: int,
        attempt: int,
        started: float,
        grant: Grant,
        traits: Traits,
        attendance: Attendance,
        wishes: bool,
    ) -> None:
        """`wishes`: the client has asked for joins and leaves, and may."""
        self.command = command
        self.attempt = attempt
        self.started = started
        self.grant = grant
        self.traits = traits
        self.attendance = attendance
        self.wishes = wishes
        self.state = SubscriptionState.JOINING

    @property
    def attended(self) -> Attendance:
        """What presence knows of it."""
        return self.attendance if self.state is SubscriptionState.LIVE else NOBODY


def traits_of(compact: bool, wanted: TagsFilter | None, delta: bool, positioned: bool) -> Traits:
    """Return traits, which subscriptions without a filter share."""
    if wanted is not None:
        return Traits(compact, wanted, delta, positioned)
    return _COMMON[compact, delta, positioned]
