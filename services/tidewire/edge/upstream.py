"""What sessions ask of the broker: publications, calls and messages go up, and their results come back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from tidewire.edge import pending
from tidewire.edge.untraced import NO_SPAN, OFF

if TYPE_CHECKING:
    from tidewire.edge.connection import Connection
    from tidewire.edge.effects import Call, Effect, Publish, Send
    from tidewire.edge.ports import Broker, Metrics, Span, Tracer
    from tidewire.kernel.errors import ReplyError

    Batch = list[tuple[Sequence[int], float, str, Span]]
    """Publications that wait for the same acknowledgement: their commands' ids, when they came, their method, their trace.

    Not what was published: that went to NATS and need not wait for the answer.
    """


class Upstream:
    """Acts on `Publish`, `Call` and `Send`; `perform` takes what a session makes of a result that comes later."""

    __slots__ = ("_batches", "_broker", "_metrics", "_perform", "_tracer", "_traces", "_turn", "stored")

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
        self.stored: Callable[[Connection, Sequence[Publish]], list[Effect]] = _no_streams
        """Who publishes where there is history."""
        self._turn = 0
        self._batches: dict[Connection, Batch] = {}
        """What was published in that turn of the broker, and is not answered yet. Answered all at once."""
        self._traces = tracer is not OFF

    def publish_all(self, connection: Connection, effects: Sequence[Publish]) -> list[Effect]:
        """Publish for a client what came together; return what its session makes of results that are known at once."""
        stored = [effect for effect in effects if effect.profile]
        results = self.stored(connection, stored) if stored else []
        if len(stored) < len(effects):
            for effect in effects:
                if not effect.profile:
                    results += self.publish(connection, effect)
        return results

    def publish(self, connection: Connection, effect: Publish) -> Iterable[Effect]:
        """As `publish_all`, for what is all on one channel."""
        if effect.profile:
            return self.stored(connection, [effect])
        several = len(effect.ids) > 1
        if several and self._traces:  # each may have a trace of its own
            return self._one_by_one(connection, effect)
        span = self._tracer.publish(effect.channel, effect.started)
        error = self._broker.publish(effect.channel, effect.data, effect.info, span.header, effect.key)
        if error is None:
            self._await(connection, effect, span)
            return ()
        span.end(error.code)
        if several:  # it may be for one of them, or not for the first ones
            return self._one_by_one(connection, effect)
        return connection.session.published(effect.ids, effect.started, error, effect.method)

    def _one_by_one(self, connection: Connection, effect: Publish) -> list[Effect]:
        return [result for each in effect.one_by_one() for result in self.publish(connection, each)]

    def _await(self, connection: Connection, effect: Publish, span: Span) -> None:
        """Wait for the answer together with all that is published in this turn; a connection's is one frame."""
        if self._turn != self._broker.turn:
            self._turn = self._broker.turn
            self._batches = {}
        if not self._batches:
            self._broker.acknowledge(partial(self._answer, self._batches))
        waiting = effect.ids, effect.started, effect.method, span
        batch = self._batches.get(connection)
        if batch is None:
            self._batches[connection] = [waiting]
        else:
            batch.append(waiting)

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

    def _answer(self, batches: dict[Connection, Batch], error: ReplyError | None) -> None:
        if self._batches is batches:  # what is published from now on must not be added to it
            self._batches = {}
        self._answer_each(iter(batches.items()), error)

    def _answer_each(self, waiting: Iterator[tuple[Connection, Batch]], error: ReplyError | None) -> None:
        try:
            for connection, batch in waiting:
                self._published(connection, batch, error)
        except BaseException:
            self._answer_each(waiting, error)  # what goes wrong for one costs no other the answer
            raise

    def _published(self, connection: Connection, batch: Batch, error: ReplyError | None) -> None:
        code = error.code if error is not None else 0
        effects: list[Effect] = []
        for ids, started, method, span in batch:
            if span is not NO_SPAN:
                span.end(code)
            effects += connection.session.published(ids, started, error, method)
        self._perform(connection, effects)

    def _called(self, connection: Connection, effect: Call, span: Span, answer: bytes | ReplyError) -> None:
        span.end(0 if isinstance(answer, bytes) else answer.code)
        self._perform(connection, connection.session.called(effect.id, effect.started, answer))


def _no_streams(connection: Connection, effects: Sequence[Publish]) -> list[Effect]:
    """Stand in until the edge knows its streams."""
    published, error = connection.session.published, pending.AWAY.error
    return [result for each in effects for result in published(each.ids, each.started, error, each.method)]
