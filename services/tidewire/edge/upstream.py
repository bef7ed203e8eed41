"""What sessions ask of the broker: publications, calls and messages go up, and their results come back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidewire.edge.connection import Connection
    from tidewire.edge.effects import Call, Effect, Publish, Send
    from tidewire.edge.ports import Broker, Metrics, Span, Tracer
    from tidewire.kernel.errors import ReplyError


class Upstream:
    """Acts on `Publish`, `Call` and `Send`; `perform` takes what a session makes of a result that comes later."""

    __slots__ = ("_broker", "_metrics", "_perform", "_tracer")

    def __init__(
        self,
        broker: Broker,
        metrics: Metrics,
        tracer: Tracer,
        perform: Callable[[Connection, Iterable[Effect]], None],
    ) -> None:
        self._broker = broker
        self._metrics = metrics
        self._tracer = tracer
        self._perform = perform

    def publish(self, connection: Connection, effect: Publish) -> Iterable[Effect]:
        """Publish for a client; return what its session makes of a result that is known at once."""
        span = self._tracer.publish(effect.channel, effect.started)
        done = partial(self._published, connection, effect, span)
        error = self._broker.publish(effect.channel, effect.data, effect.info, done, span.header)
        if error is None:
            return ()
        span.end(error.code)
        return connection.session.published(effect.id, effect.started, error)

    def call(self, connection: Connection, effect: Call) -> Iterable[Effect]:
        """Call a method for a client; see `publish`."""
        session = connection.session
        party = session.party
        span = self._tracer.call(effect.method, effect.started)
        done = partial(self._called, connection, effect, span)
        error = self._broker.call(effect.method, party.user, party.client, effect.data, done, span.header)
        if error is None:
            return ()
        span.end(error.code)
        return session.called(effect.id, effect.started, error)

    def send(self, connection: Connection, effect: Send) -> Iterable[Effect]:
        """Pass a message on; one that cannot be handed on is counted."""
        party = connection.session.party
        if not self._broker.send(party.user, party.client, effect.data):
            self._metrics.messages_unsent(1)
        return ()

    def _published(
        self, connection: Connection, effect: Publish, span: Span, error: ReplyError | None
    ) -> None:
        span.end(error.code if error is not None else 0)
        self._perform(connection, connection.session.published(effect.id, effect.started, error))

    def _called(self, connection: Connection, effect: Call, span: Span, answer: bytes | ReplyError) -> None:
        span.end(0 if isinstance(answer, bytes) else answer.code)
        self._perform(connection, connection.session.called(effect.id, effect.started, answer))
