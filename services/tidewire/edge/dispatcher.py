"""Carries out what sessions decide, and feeds results, pings and deadlines back to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tidewire.edge.connection import Connection
from tidewire.edge.connection_limits import leave
from tidewire.edge.deadlines import Deadlines
from tidewire.edge.effects import (
    Answer,
    AskOthers,
    AskPresence,
    Attend,
    AwaitTokens,
    Call,
    Close,
    Dropped,
    Effect,
    Enter,
    ExpireIn,
    FetchKeys,
    Identified,
    Join,
    Leave,
    Opened,
    Ping,
    Publish,
    Published,
    Push,
    ReadHistory,
    Renew,
    Send,
    SubscriptionsExpireIn,
    Throttled,
    Yield,
)
from tidewire.edge.memberships import Memberships
from tidewire.edge.session import Session
from tidewire.edge.session_state import SessionState
from tidewire.edge.untraced import OFF
from tidewire.edge.upstream import Upstream
from tidewire.edge.users import Users
from tidewire.edge.wire.codec import MalformedFrame
from tidewire.kernel import errors

if TYPE_CHECKING:
    from tidewire.edge.hub import Hub
    from tidewire.edge.pacer import Pacer
    from tidewire.edge.ports import Broker, KeyFetcher, Metrics, Tracer, Transport
    from tidewire.edge.presence import Presence
    from tidewire.edge.rules import Rules
    from tidewire.edge.timers import Timers, Timing
    from tidewire.kernel.errors import Disconnect
    from tidewire.kernel.ids import ConnectionId


class Dispatcher:
    """The running sessions of an edge."""

    def __init__(
        self,
        rules: Rules,
        hub: Hub,
        broker: Broker,
        keys: KeyFetcher,
        metrics: Metrics,
        timers: Timers,
        pacer: Pacer,
        tracer: Tracer = OFF,
    ) -> None:
        self._rules = rules
        self._hub = hub
        self._keys = keys
        self._metrics = metrics
        self._tracer = tracer
        self._timers = timers
        self.pacer = pacer
        """Does what concerns many connections at once."""
        self.connections: dict[Connection, None] = {}
        self.users = Users()
        self.replacing: Callable[[Connection], None] = _nobody
        """Told of each connection that replaces the others of its user."""
        self.yielding: Callable[[Connection], None] = _nobody
        """Told of each connection that yields to the others of its user."""
        self._presence: Presence | None = None
        self._upstream = upstream = Upstream(broker, metrics, tracer, self.perform)
        self._memberships = memberships = Memberships(rules, hub, pacer, self.perform)
        self._deadlines = deadlines = Deadlines(timers, pacer, self.connections, self.perform)
        self._acts: dict[type[Effect], Callable[[Connection, Any], Iterable[Effect]]] = {
            Publish: upstream.publish,
            Join: memberships.join,
            Enter: memberships.enter,
            Leave: memberships.leave,
            ReadHistory: memberships.read,
            FetchKeys: self._fetch,
            AwaitTokens: self._await,
            Yield: self._yield,
            Identified: self._identify,
            Call: upstream.call,
            Send: upstream.send,
            Opened: self._begin,
            ExpireIn: deadlines.expire,
            SubscriptionsExpireIn: deadlines.expire_subscriptions,
            Ping: self._ping,
            Dropped: self._drop,
            Throttled: self._throttle,
        }
        hub.settled = memberships.joined
        hub.slow = self.slow
        hub.lost = memberships.lost

    def attend_with(self, presence: Presence) -> None:
        """Hand what concerns presence to it, from now on."""
        self._presence = self._memberships.presence = presence
        self._acts |= {
            Attend: presence.attend,
            AskPresence: presence.ask,
            AskOthers: presence.ask_others,
            Renew: presence.renew,
        }
        presence.perform = self.perform

    def store_with(self, publish: Callable[[Connection, Sequence[Publish]], list[Effect]]) -> None:
        """Hand publications to namespaces with history to `publish`."""
        self._upstream.stored = publish

    # From transports.

    def opened(
        self, client: ConnectionId, transport: Transport, *, json: bool, bearer: str = ""
    ) -> Connection:
        """Begin a session on a transport whose handshake is done; `bearer` is a token that came with it."""
        session = Session(client, self._rules, self.users, json=json, bearer=bearer)
        connection = Connection(session, transport, self._rules.clock.monotonic())
        self.connections[connection] = None
        self._timers.opened(connection)
        return connection

    def received(self, connection: Connection, messages: Sequence[bytes]) -> None:
        """Take messages of the client, which came together."""
        session = connection.session
        commands = connection.transport.framing.codec.burst(messages) if session.greeted else None
        publications = session.publish_all(commands) if commands is not None else None
        if commands is None or publications is None:
            for message in messages:
                self._received(connection, message)
            return
        connection.commands += len(commands)
        refused = self._upstream.publish_all(connection, publications)
        if refused:
            self.perform(connection, refused)

    def _received(self, connection: Connection, payload: bytes) -> None:
        session = connection.session
        try:
            commands = connection.transport.framing.codec.decode(payload)
        except MalformedFrame as error:
            self.perform(connection, session.close(errors.BAD_PROTOCOL.saying(f"bad request: {error}")))
            return
        connection.commands += len(commands)
        self.perform(connection, session.receive(commands, len(payload)))

    def lost(self, connection: Connection) -> None:
        """Forget a connection whose transport is gone or going."""
        if connection not in self.connections:
            return
        del self.connections[connection]
        session = connection.session
        session.close(errors.CONNECTION_CLOSED)
        self._timers.clear(connection)
        self.users.discard(session.party.user, connection)
        leave(session.party)
        for effect in session.subscriptions.abandon():
            self._memberships.leave(connection, effect)
        if connection.announced and self._presence is not None:
            self._presence.closed(connection)

    def writable(self, connection: Connection) -> None:
        """Write what a connection missed while its socket was full."""
        self._hub.catch_up(connection)

    def slow(self, connection: Connection) -> None:
        """Close a connection that left more bytes pending than it may."""
        if connection.session.state is not SessionState.CLOSED:
            self._metrics.slow_consumer()
            self.perform(connection, connection.session.close(errors.SLOW))

    # From the clock and the operator.

    def tick(self) -> None:
        """Turn the wheels by one tick (`timers.TICK` seconds)."""
        self._hub.tick()
        self._deadlines.tick()

    def retire(self, connection: Connection, disconnect: Disconnect) -> None:
        """Close a connection as soon as it is owed no reply."""
        self.perform(connection, connection.session.retire(disconnect))

    def reconfigured(self, timing: Timing) -> None:
        """Follow `timing`, and rules that were replaced.

        Connections go on, and pings that clients were told of do not change.
        """
        self._timers.timing = timing
        self._memberships.reconfigured()

    # Results.

    def _go_on_soon(self, connection: Connection) -> None:
        """Go on when it is this connection's turn; thousands may have waited for the same keys."""
        self.pacer.add(map(self._go_on, (connection,)))

    def _go_on(self, connection: Connection) -> None:
        self.perform(connection, connection.session.go_on())

    # Effects.

    def perform(self, connection: Connection, effects: Iterable[Effect]) -> None:
        """Carry out effects in order; replies that stand together leave in one frame, and are counted as of one moment."""
        now = self._rules.clock.monotonic()
        codec = connection.transport.framing.codec
        replies: list[bytes] = []
        queue = list(effects)
        for effect in queue:  # grows while results are known at once
            # Not isinstance, which for a Struct that is another one asks the metaclass, and takes four times as long.
            if type(effect) is Answer:
                self._count(effect, now)
                replies.append(codec.encode((effect.reply,)))
            elif type(effect) is Published:
                self._metrics.command("publish", 0, now - effect.started, len(effect.ids))
                replies.append(codec.published(effect.ids))
            elif type(effect) is Push:
                replies.append(codec.encode((effect.reply,)))
            elif type(effect) is Close:
                self._reply(connection, replies)
                replies = []
                self._close(connection, effect.disconnect)
            else:
                queue += self._acts[type(effect)](connection, effect)
        self._reply(connection, replies)

    def _fetch(self, connection: Connection, effect: FetchKeys) -> Iterable[Effect]:
        self._keys.fetch(effect.source, partial(self._go_on_soon, connection))
        return ()

    def _await(self, connection: Connection, effect: AwaitTokens) -> Iterable[Effect]:
        limits = self._rules.limits
        if limits is None:  # they are gone since the command was judged
            self._go_on_soon(connection)
        else:
            limits.waiters.add(effect.wanted, partial(self._go_on_soon, connection))
        return ()

    def _yield(self, connection: Connection, _effect: Yield) -> Iterable[Effect]:
        self._go_on_soon(connection)
        return ()

    def _identify(self, connection: Connection, effect: Identified) -> Iterable[Effect]:
        self.users.add(effect.user, connection)
        return ()

    def _begin(self, connection: Connection, effect: Opened) -> Iterable[Effect]:
        self._timers.authenticated(connection)
        connection.transport.authenticated()
        framing = connection.transport.framing
        self._metrics.connection_opened(framing.codec.name, framing.compression)
        if self._presence is not None:
            self._presence.opened(connection)
        if effect.replaces:
            self.replacing(connection)
        if effect.yields:
            self.yielding(connection)
        return ()

    def _ping(self, connection: Connection, _effect: Ping) -> Iterable[Effect]:
        self._timers.pinged(connection)
        self._write(connection, connection.transport.framing.ping)
        return ()

    def _drop(self, _connection: Connection, effect: Dropped) -> Iterable[Effect]:
        self._metrics.commands_dropped(effect.commands)
        return ()

    def _throttle(self, _connection: Connection, effect: Throttled) -> Iterable[Effect]:
        self._metrics.commands_throttled(effect.outcome, effect.commands)
        return ()

    def _reply(self, connection: Connection, replies: list[bytes]) -> None:
        if replies:
            self._write(connection, connection.transport.framing.together(replies))

    def _write(self, connection: Connection, frame: bytes) -> None:
        if not connection.transport.send(frame):
            self.slow(connection)

    def _close(self, connection: Connection, disconnect: Disconnect) -> None:
        connection.disconnect = disconnect
        if connection.session.refused_connect:
            self._tracer.answered("connect", connection.session.refused_connect, disconnect.code)
        connection.transport.close(disconnect)
        self.lost(connection)

    def _count(self, effect: Answer, now: float) -> None:
        code = effect.reply.error.code if effect.reply.error is not None else 0
        self._metrics.command(effect.method, code, now - effect.started)
        self._tracer.answered(effect.method, effect.started, code)


def _nobody(_connection: Connection) -> None:
    """Stand in until the edge's control listens."""
