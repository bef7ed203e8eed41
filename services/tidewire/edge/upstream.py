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

    Batch = list[tuple[int, float, str, Span]]
    """Publications that wait for the same acknowledgement: the command's id, when it came, its method, what is traced of it."""


class Upstream:
    """Acts on `Publish`, `Call` and `Send`; `perform` takes what a session makes of a result that comes later."""

    __slots__ = ("_batches", "_broker", "_metrics", "_perform", "_tracer", "_turn")

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
        self._turn = 0
        self._batches: dict[Connection, Batch] = {}
        """What was published in that turn of the broker, and is not answered yet."""

    def publish(self, connection: Connection, effect: Publish) -> Iterable[Effect]:
        """Publish for a client; return what its session makes of a result that is known at once."""
        span = self._tracer.publish(effect.channel, effect.started)
        error = self._broker.publish(effect.channel, effect.data, effect.info, span.header, effect.key)
        if error is not None:
            span.end(error.code)
            return connection.session.published(effect.id, effect.started, error, effect.method)
        # Not the effect: its data went to NATS and need not wait for the answer.
        self._batch(connection).append((effect.id, effect.started, effect.method, span))
        return ()

    def _batch(self, connection: Connection) -> Batch:
        """Return what the connection publishes in this turn, all of which is answered in one frame."""
        if self._turn != self._broker.turn:
            self._turn = self._broker.turn
            self._batches = {}
        batch = self._batches.get(connection)
        if batch is None:
            batch = self._batches[connection] = []
            self._broker.acknowledge(partial(self._published, connection, batch))
        return batch

    def call(self, connection: Connection, effect: Call) -> Iterable[Effect]:
        """Call a method for a client; return what its session makes of a result that is known at once."""
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

    def _published(self, connection: Connection, batch: Batch, error: ReplyError | None) -> None:
        if self._batches.get(connection) is batch:  # what is published from now on must not be added to it
            del self._batches[connection]
        code = error.code if error is not None else 0
        effects: list[Effect] = []
        for number, started, method, span in batch:
            span.end(code)
            effects += connection.session.published(number, started, error, method)
        self._perform(connection, effects)

    def _called(self, connection: Connection, effect: Call, span: Span, answer: bytes | ReplyError) -> None:
        span.end(0 if isinstance(answer, bytes) else answer.code)
        self._perform(connection, connection.session.called(effect.id, effect.started, answer))
