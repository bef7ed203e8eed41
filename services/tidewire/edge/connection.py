"""One socket's place in the edge: its session, its way out, and what its closing log line will say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.edge.timers import Timer

if TYPE_CHECKING:
    from tidewire.edge.ports import Transport
    from tidewire.edge.session import Session
    from tidewire.kernel.errors import Disconnect


class Connection:
    """What the dispatcher keeps for a connection. Slotted: there are very many."""

    __slots__ = ("announced", "commands", "disconnect", "due", "opened_at", "session", "transport")

    def __init__(self, session: Session, transport: Transport, opened_at: float) -> None:
        self.session = session
        self.transport = transport
        self.opened_at = opened_at
        self.announced = False
        """Whether the presence service was told of it."""
        self.commands = 0
        self.due = [0] * len(Timer)
        self.disconnect: Disconnect | None = None
        """Why the edge closed it; None while it is open and when the peer closed it."""
