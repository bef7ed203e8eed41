"""What becomes of connections when their deadlines have come."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from itertools import starmap
from typing import TYPE_CHECKING

from tidewire.edge.timers import Timer

if TYPE_CHECKING:
    from tidewire.edge.connection import Connection
    from tidewire.edge.effects import Effect, ExpireIn, SubscriptionsExpireIn
    from tidewire.edge.pacer import Pacer
    from tidewire.edge.timers import Timers


class Deadlines:
    """Acts on `ExpireIn` and `SubscriptionsExpireIn`; `perform` takes what a session makes of a deadline that has come."""

    __slots__ = ("_connections", "_pacer", "_perform", "_timers")

    def __init__(
        self,
        timers: Timers,
        pacer: Pacer,
        connections: Container[Connection],
        perform: Callable[[Connection, Iterable[Effect]], None],
    ) -> None:
        self._timers = timers
        self._pacer = pacer
        self._connections = connections
        self._perform = perform

    def expire(self, connection: Connection, effect: ExpireIn) -> Iterable[Effect]:
        """Set when to look at the connection's expiry."""
        self._timers.set(connection, Timer.EXPIRY, effect.seconds)
        return ()

    def expire_subscriptions(self, connection: Connection, effect: SubscriptionsExpireIn) -> Iterable[Effect]:
        """Set when to look at the subscriptions' expiries."""
        self._timers.set(connection, Timer.SUBSCRIPTIONS, effect.seconds)
        return ()

    def tick(self) -> None:
        """Turn the wheels by one tick (`timers.TICK` seconds), and see to what is due."""
        due = self._timers.advance()
        if due:
            self._pacer.add(starmap(self._overdue, due))

    def _overdue(self, timer: Timer, connection: Connection) -> None:
        """Do what a deadline asks for. It may come late, when the connection has moved on: sessions look again."""
        if connection in self._connections:
            self._perform(connection, self._due(timer, connection))

    def _due(self, timer: Timer, connection: Connection) -> list[Effect]:
        session = connection.session
        match timer:
            case Timer.PING:
                self._timers.ping_again(connection)
                return session.ping()
            case Timer.PONG:
                return session.check_pong()
            case Timer.STALE:
                return session.check_stale()
            case Timer.EXPIRY:
                return session.check_expiry()
            case Timer.SUBSCRIPTIONS:
                return session.check_subscriptions()
