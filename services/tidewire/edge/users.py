"""Which connections of this edge a user has. Anonymous users are nobody in particular, and not in here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidewire.edge.connection import Connection


class Users:
    """An index over the edge's connections: as large as they are."""

    __slots__ = ("_connections",)

    def __init__(self) -> None:
        self._connections: dict[str, dict[Connection, None]] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def has(self, user: str) -> bool:
        """Return whether the user has a connection here."""
        return user in self._connections

    def of(self, user: str) -> Sequence[Connection]:
        """Return the user's connections here."""
        return tuple(self._connections.get(user, ()))

    def add(self, user: str, connection: Connection) -> None:
        """Note a connection of a user."""
        if user:
            self._connections.setdefault(user, {})[connection] = None

    def discard(self, user: str, connection: Connection) -> None:
        """Forget a connection; unknown ones are ignored."""
        connections = self._connections.get(user)
        if connections is not None:
            connections.pop(connection, None)
            if not connections:
                del self._connections[user]
