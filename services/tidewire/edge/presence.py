"""Presence on an edge put together: what is announced, what is told, and what is asked. Acts on effects of sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from tidewire.edge.presence_command import listed
from tidewire.edge.presence_ports import Members, Stats, UsersQuery
from tidewire.kernel import errors
from tidewire.kernel.errors import ReplyError
from tidewire.kernel.presence_wire import Event

if TYPE_CHECKING:
    from tidewire.edge.announcer import Announcer
    from tidewire.edge.connection import Connection
    from tidewire.edge.effects import AskOthers, AskPresence, Attend, Effect, Enter, Leave, Renew
    from tidewire.edge.lobby import Lobby
    from tidewire.edge.presence_ports import PresenceAnswer, PresenceMetrics, PresenceService, PresenceWire
    from tidewire.edge.users import Users
    from tidewire.edge.wire.replies import PresenceResult

    Perform = Callable[[Connection, Iterable[Effect]], None]

NO_SERVICE: Final = errors.INTERNAL.saying("temporarily not possible: there is no presence service")


class Presence:
    """What the dispatcher hands on. Without an announcer, and without a service, joins and leaves are told all the same."""

    def __init__(
        self,
        lobby: Lobby,
        announcer: Announcer | None,
        service: PresenceService | None,
        wire: PresenceWire,
        metrics: PresenceMetrics,
    ) -> None:
        self.lobby = lobby
        self.announcer = announcer
        self._service = service
        self._wire = wire
        self._metrics = metrics
        self.perform: Perform = _nobody
        """Takes what a session makes of a result that comes later."""
        self._last: tuple[Members | None, PresenceResult | ReplyError] = (None, NO_SERVICE)
        """The last list and what clients are told of it: as many as have asked for it get the same."""

    # Subscriptions and connections.

    def entered(self, connection: Connection, effect: Enter) -> None:
        """A subscription is live that has to do with presence."""
        attendance = effect.attendance
        if attendance.counted and self.announcer is not None:
            self.announcer.joined(connection, effect.channel, attendance, effect.info)
        if attendance.hears:
            self.lobby.hear(connection, effect.channel)
        if attendance.told:
            self.lobby.tell(effect.channel, _event("join", connection, effect.info))

    def attend(self, connection: Connection, effect: Attend) -> Iterable[Effect]:
        """Follow a membership that means something else now. Nobody has come or gone: no join or leave is told."""
        channel, before, after = effect.channel, effect.before, effect.after
        if self.announcer is not None:
            if before.counted:
                self.announcer.left(connection, channel, before)
            if after.counted:
                self.announcer.joined(connection, channel, after, effect.info)
        if after.hears and not before.hears:
            self.lobby.hear(connection, channel)
        elif before.hears and not after.hears:
            self.lobby.unhear(connection, channel)
        return ()

    def renew(self, connection: Connection, effect: Renew) -> Iterable[Effect]:
        """Announce a member's new info."""
        if self.announcer is not None:
            self.announcer.renewed(connection, effect.channel, effect.attendance, effect.info)
        return ()

    def left(self, connection: Connection, effect: Leave) -> None:
        """It is over."""
        attendance = effect.attendance
        if attendance.counted and self.announcer is not None:
            self.announcer.left(connection, effect.channel, attendance)
        if attendance.hears:
            self.lobby.unhear(connection, effect.channel)
        if attendance.told:
            self.lobby.tell(effect.channel, _event("leave", connection, effect.info))

    def opened(self, connection: Connection) -> None:
        """A client has its connect reply."""
        if self.announcer is not None and connection.session.party.user:
            connection.announced = True
            self.announcer.connected(connection)

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        if self.announcer is not None and connection.announced:
            connection.announced = False
            self.announcer.disconnected(connection)

    # Questions.

    def ask(self, connection: Connection, effect: AskPresence) -> Iterable[Effect]:
        """Ask the service for a client, once it has heard what this edge has to say."""
        service = self._service
        if service is None:
            return connection.session.presence_told(effect, NO_SERVICE)
        done = partial(self._told, connection, effect)
        self._after_announcing(lambda: service.ask(effect.query, done))
        return ()

    def _told(self, connection: Connection, effect: AskPresence, result: PresenceAnswer | ReplyError) -> None:
        told = self._listed(result) if isinstance(result, Members) else result
        self.perform(connection, connection.session.presence_told(effect, told))

    def _listed(self, found: Members) -> PresenceResult | ReplyError:
        if found is not self._last[0]:
            self._last = found, listed(found)
        return self._last[1]

    def ask_others(self, connection: Connection, _effect: AskOthers) -> Iterable[Effect]:
        """Ask whether the connection's user has others; where nobody can say, what this edge knows has to do."""
        service = self._service
        if service is None:
            return connection.session.vouched(elsewhere=False)
        user = connection.session.party.user
        service.ask(UsersQuery((user,)), partial(self._others_told, connection))
        return ()

    def _others_told(self, connection: Connection, result: PresenceAnswer | ReplyError) -> None:
        known = not isinstance(result, ReplyError)
        elsewhere = not isinstance(result, ReplyError | Members | Stats) and any(
            each.online for each in result
        )
        self._metrics.others_asked("elsewhere" if elsewhere else "alone" if known else "unknown")
        self.perform(connection, connection.session.vouched(elsewhere=elsewhere))

    def _after_announcing(self, then: Callable[[], None]) -> None:
        announcer = self.announcer
        if announcer is None or announcer.settled:
            then()
            return
        announcer.flush()
        self._wire.settle(then)

    # Time, and the end.

    def tick(self) -> None:
        """Let `timers.TICK` seconds pass."""
        self.lobby.tick()
        if self.announcer is not None:
            self.announcer.tick()

    def beat(self) -> None:
        """Say where this edge stands: it has started, or NATS is back."""
        self.lobby.forget()
        if self.announcer is not None:
            self.announcer.beat()

    def end(self) -> None:
        """Tell the last leaves, then say goodbye."""
        self.lobby.flush_own()
        if self.announcer is not None:
            self.announcer.end()


def is_here(users: Users, channel: str, user: str, client: str) -> bool:
    """Return whether a client of a user with an id is in a channel on this edge, and its join was told."""
    for connection in users.of(user):
        session = connection.session
        if session.party.client == client:
            subscription = session.subscriptions.find(channel)
            return subscription is not None and subscription.attended.told
    return False


def _event(change: Literal["join", "leave"], connection: Connection, info: bytes) -> Event:
    party = connection.session.party
    return Event(1, change, party.client, party.user, bytes(party.info.conn_info), info)


def _nobody(*_: object) -> None:
    """Stand in until the dispatcher listens."""
