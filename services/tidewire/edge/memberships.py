"""What sessions ask of the hub: to hear a channel, to be a member of it, to leave it; and what a reload makes of that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import starmap
from typing import TYPE_CHECKING

from tidewire.edge.attendance import NOBODY
from tidewire.kernel import errors
from tidewire.kernel.channels import is_pattern
from tidewire.kernel.errors import ReplyError

if TYPE_CHECKING:
    from tidewire.edge.connection import Connection
    from tidewire.edge.effects import Effect, Enter, Join, Leave, ReadHistory
    from tidewire.edge.hub import Hub
    from tidewire.edge.pacer import Pacer
    from tidewire.edge.places import Place
    from tidewire.edge.ports import Page
    from tidewire.edge.presence import Presence
    from tidewire.edge.rules import Rules

NAMESPACE_GONE = errors.UNSUBSCRIBED_BY_SERVER.saying("the channel's namespace is gone")


class Memberships:
    """Acts on `Join`, `Enter`, `Leave` and `ReadHistory`; `perform` takes what a session makes of a result that comes later."""

    __slots__ = (
        "_attended",
        "_deliveries",
        "_hub",
        "_namespaces",
        "_pacer",
        "_perform",
        "_rules",
        "_stored",
        "presence",
    )

    def __init__(
        self,
        rules: Rules,
        hub: Hub,
        pacer: Pacer,
        perform: Callable[[Connection, Iterable[Effect]], None],
    ) -> None:
        self._rules = rules
        self._hub = hub
        self._pacer = pacer
        self._perform = perform
        self.presence: Presence | None = None
        """Who learns of memberships that have to do with presence."""
        self._namespaces = rules.namespaces.names
        self._deliveries = rules.namespaces.deliveries
        self._stored = rules.namespaces.stored
        self._attended = rules.namespaces.attended

    def join(self, connection: Connection, effect: Join) -> Iterable[Effect]:
        """Hear a channel; return what the session makes of a result that is known at once."""
        name, attempt = effect.channel, effect.attempt
        namespace = self._rules.namespaces.find(name)
        if isinstance(namespace, ReplyError):  # the configuration has changed since the command was judged
            return connection.session.joined(name, attempt, namespace)
        pattern = namespace.options.allow_wildcards and is_pattern(name)
        found = self._hub.join(
            connection,
            name,
            attempt,
            binary=namespace.binary,
            pattern=pattern,
            deltas=namespace.options.delta_publish,
            delivery=namespace.delivery,
            wish=effect.wish,
        )
        return () if found is None else connection.session.joined(name, attempt, found)

    def joined(
        self, connection: Connection, channel: str, attempt: int, outcome: int | Place | ReplyError
    ) -> None:
        """Take the hub's result of a `join` that was not known at once."""
        self._perform(connection, connection.session.joined(channel, attempt, outcome))

    def enter(self, connection: Connection, effect: Enter) -> Iterable[Effect]:
        """Deliver publications from now on."""
        self._hub.enter(connection, effect.channel, effect.traits, effect.base)
        if effect.attendance is not NOBODY and self.presence is not None:
            self.presence.entered(connection, effect)
        return ()

    def leave(self, connection: Connection, effect: Leave) -> Iterable[Effect]:
        """Deliver none any more."""
        self._hub.leave(connection, effect.channel, effect.traits)
        if effect.attendance is not NOBODY and self.presence is not None:
            self.presence.left(connection, effect)
        return ()

    def read(self, connection: Connection, effect: ReadHistory) -> Iterable[Effect]:
        """Read a channel's history; return what the session makes of a result that is known at once."""
        error = self._hub.read(effect.query, partial(self._read, connection, effect))
        return () if error is None else connection.session.history_read(effect, error)

    def _read(self, connection: Connection, effect: ReadHistory, result: Page | ReplyError) -> None:
        self._perform(connection, connection.session.history_read(effect, result))

    def lost(self, channel: str, connections: Sequence[Connection]) -> None:
        """End subscriptions whose memberships are over, since it cannot be proven that they miss nothing."""
        self._pacer.add(map(partial(self._lose, channel), connections))

    def _lose_moved(self, connection: Connection, channel: str) -> None:
        self._lose(channel, connection)

    def _lose(self, channel: str, connection: Connection) -> None:
        if not self._hub.has(connection, channel):  # it has not come again meanwhile
            self._perform(connection, connection.session.lose(channel))

    def reconfigured(self) -> None:
        """Follow rules that were replaced.

        The rights that a subscription began with are not asked for again. Only the subscriptions of namespaces that are gone
        end, and those of namespaces that have a history now, or none any more: their clients come back. What waits in channels
        whose namespace batches or conflates in another way follows that, and so does presence where its options have changed.
        """
        rules = self._rules.namespaces
        names = rules.names
        gone, self._namespaces = self._namespaces - names, names
        if gone:
            self._pacer.add(starmap(self._end, self._hub.memberships(gone)))
        stored = rules.stored
        moved, self._stored = (self._stored ^ stored) - gone, stored
        if moved:
            self._pacer.add(starmap(self._lose_moved, self._hub.retire(moved)))
        deliveries = rules.deliveries
        if deliveries != self._deliveries:
            self._deliveries = deliveries
            self._pacer.add(self._hub.follow(self._rules.delivery))

        before, self._attended = self._attended, rules.attended
        changed = {name for name, attended in self._attended.items() if attended != before.get(name)}
        if changed:
            self._pacer.add(starmap(self._attend, self._hub.memberships(changed)))

    def _attend(self, connection: Connection, channel: str) -> None:
        self._perform(connection, connection.session.attend(channel))

    def _end(self, connection: Connection, channel: str) -> None:
        """End a subscription, unless its namespace has come back meanwhile."""
        if self._rules.namespaces.find(channel) is errors.UNKNOWN_CHANNEL:
            self._perform(connection, connection.session.unsubscribe(channel, NAMESPACE_GONE))
