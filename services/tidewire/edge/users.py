"""Which connections of this edge a user has. Anonymous users are nobody in particular, and not in here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidewire.edge.connection import Connection


class Users:
    """An index over the edge's connections: as large as they are.

    Nearly every user has one connection, which is kept as it is: a dict for each would cost more than all else of it here.
    """

    __slots__ = ("_several", "_single")

    def __init__(self) -> None:
        self._single: dict[str, Connection] = {}
        self._several: dict[str, dict[Connection, None]] = {}

    def __len__(self) -> int:
        return len(self._single) + len(self._several)

    def has(self, user: str) -> bool:
        """Return whether the user has a connection here."""
        return user in self._single or user in self._several

    def serves(self, user: str, connections: int = 1) -> bool:
        """Return whether the user has so many here that are authenticated, and neither refused nor on their way out."""
        all_of_them = self.of(user)
        if len(all_of_them) < connections:
            return False
        return sum(connection.session.connected for connection in all_of_them) >= connections

    def of(self, user: str) -> Sequence[Connection]:
        """Return the user's connections here."""
        single = self._single.get(user)
        return (single,) if single is not None else tuple(self._several.get(user, ()))

    def add(self, user: str, connection: Connection) -> None:
        """Note a new connection of a user."""
        if not user:
            return
        if user in self._several:
            self._several[user][connection] = None
        elif user in self._single:
            self._several[user] = {self._single.pop(user): None, connection: None}
        else:
            self._single[user] = connection

    def discard(self, user: str, connection: Connection) -> None:
        """Forget a connection; unknown ones are ignored."""
        if self._single.get(user) is connection:
            del self._single[user]
        several = self._several.get(user)
        if several is not None:
            several.pop(connection, None)
            if not several:
                del self._several[user]
