"""Carries out what sessions decide, and feeds results, pings and deadlines back to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import starmap
from typing import TYPE_CHECKING, Any

from tidewire.edge.connection import Connection
from tidewire.edge.effects import (
    Answer,
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
    Send,
    SubscriptionsExpireIn,
    Throttled,
    Yield,
)
from tidewire.edge.session import Session
from tidewire.edge.session_state import SessionState
from tidewire.edge.timers import Timer
from tidewire.edge.untraced import OFF
from tidewire.edge.upstream import Upstream
from tidewire.edge.users import Users
from tidewire.edge.wire.codec import MalformedFrame
from tidewire.kernel import errors
from tidewire.kernel.channels import is_pattern
from tidewire.kernel.errors import ReplyError

if TYPE_CHECKING:
    from tidewire.edge.hub import Hub
    from tidewire.edge.pacer import Pacer
    from tidewire.edge.ports import Broker, KeyFetcher, Metrics, Tracer, Transport
    from tidewire.edge.rules import Rules
    from tidewire.edge.timers import Timers, Timing
    from tidewire.kernel.errors import Disconnect
    from tidewire.kernel.ids import ConnectionId


NAMESPACE_GONE = errors.UNSUBSCRIBED_BY_SERVER.saying("the channel's namespace is gone")


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
        self._namespaces = rules.namespaces.names
        self._deliveries = rules.namespaces.deliveries
        self.pacer = pacer
        """Does what concerns many connections at once."""
        self.connections: dict[Connection, None] = {}
        self.users = Users()
        self.replacing: Callable[[Connection], None] = _nobody
        """Told of each connection that replaces the others of its user."""
        self._upstream = upstream = Upstream(broker, metrics, tracer, self.perform)
        self._acts: dict[type[Effect], Callable[[Connection, Any], Iterable[Effect]]] = {
            Publish: upstream.publish,
            Join: self._join,
            Enter: self._enter,
            Leave: self._leave,
            FetchKeys: self._fetch,
            Yield: self._yield,
            Identified: self._identify,
            Call: upstream.call,
            Send: upstream.send,
            Opened: self._begin,
            ExpireIn: self._expire,
            SubscriptionsExpireIn: self._expire_subscriptions,
            Ping: self._ping,
            Dropped: self._drop,
            Throttled: self._throttle,
        }
        hub.settled = self._joined
        hub.slow = self.slow

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
        refused: list[Effect] = []
        for run in publications:
            refused += self._upstream.publish(connection, run)
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
        for effect in session.subscriptions.abandon():
            self._leave(connection, effect)

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
        due = self._timers.advance()
        if due:
            self.pacer.add(starmap(self._overdue, due))

    def retire(self, connection: Connection, disconnect: Disconnect) -> None:
        """Close a connection as soon as it is owed no reply."""
        self.perform(connection, connection.session.retire(disconnect))

    def reconfigured(self, timing: Timing) -> None:
        """Follow `timing`, and rules that were replaced.

        Connections go on: pings that clients were told of do not change, and the rights that a subscription began
        with are not asked for again. Only the subscriptions of namespaces that are gone end. What waits in channels whose
        namespace batches or conflates in another way follows that.
        """
        self._timers.timing = timing
        names = self._rules.namespaces.names
        gone, self._namespaces = self._namespaces - names, names
        if gone:
            self.pacer.add(starmap(self._end, self._hub.memberships(gone)))
        deliveries = self._rules.namespaces.deliveries
        if deliveries != self._deliveries:
            self._deliveries = deliveries
            self.pacer.add(self._hub.follow(self._rules.delivery))

    def _end(self, connection: Connection, channel: str) -> None:
        """End a subscription, unless its namespace has come back meanwhile."""
        if self._rules.namespaces.find(channel) is errors.UNKNOWN_CHANNEL:
            self.perform(connection, connection.session.unsubscribe(channel, NAMESPACE_GONE))

    def _overdue(self, timer: Timer, connection: Connection) -> None:
        """Do what a deadline asks for. It may come late, when the connection has moved on: sessions look again."""
        if connection in self.connections:
            self.perform(connection, self._due(timer, connection))

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

    # Results.

    def _joined(self, connection: Connection, channel: str, attempt: int, outcome: int | ReplyError) -> None:
        self.perform(connection, connection.session.joined(channel, attempt, outcome))

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

    def _join(self, connection: Connection, effect: Join) -> Iterable[Effect]:
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
        )
        return () if found is None else connection.session.joined(name, attempt, found)

    def _enter(self, connection: Connection, effect: Enter) -> Iterable[Effect]:
        self._hub.enter(connection, effect.channel, effect.traits)
        return ()

    def _leave(self, connection: Connection, effect: Leave) -> Iterable[Effect]:
        self._hub.leave(connection, effect.channel, effect.traits)
        return ()

    def _fetch(self, connection: Connection, effect: FetchKeys) -> Iterable[Effect]:
        self._keys.fetch(effect.source, partial(self._go_on_soon, connection))
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
        if effect.replaces:
            self.replacing(connection)
        return ()

    def _expire(self, connection: Connection, effect: ExpireIn) -> Iterable[Effect]:
        self._timers.set(connection, Timer.EXPIRY, effect.seconds)
        return ()

    def _expire_subscriptions(
        self, connection: Connection, effect: SubscriptionsExpireIn
    ) -> Iterable[Effect]:
        self._timers.set(connection, Timer.SUBSCRIPTIONS, effect.seconds)
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
