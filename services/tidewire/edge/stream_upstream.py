"""Publications of clients to namespaces with history: from the session's effect to the lanes, and their ends back."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, cast

from tidewire.edge import pending
from tidewire.edge.lanes import Lanes
from tidewire.edge.pending import Pending
from tidewire.edge.untraced import NO_SPAN, OFF
from tidewire.kernel.publication_ids import keyed_id

if TYPE_CHECKING:
    from tidewire.edge.connection import Connection
    from tidewire.edge.effects import Effect, Publish
    from tidewire.edge.lane import LaneLimits, Run, Settled
    from tidewire.edge.pacer import Later, Pacer
    from tidewire.edge.pending import Demands, Flight, Last, Result, Verdict
    from tidewire.edge.ports import Span, StreamMetrics, StreamPort, Tracer
    from tidewire.kernel.clock import Clock


CROWDED: Final = 256
"""With so many flights in the air answers come in small pieces, and wait for each other before they are told."""
HOLD: Final = 0.002
"""Seconds for which they do: a client has its answers in fewer frames, and at that load has waited longer for JetStream."""


class StreamUpstream:
    """Acts on `Publish` where there is history; `perform` takes what sessions make of what is settled later."""

    __slots__ = (
        "_asked",
        "_fields",
        "_holding",
        "_later",
        "_metrics",
        "_pacer",
        "_perform",
        "_port",
        "_secret",
        "_settled",
        "_tracer",
        "_traces",
        "lanes",
        "moving",
        "stored",
    )

    def __init__(
        self,
        port: StreamPort,
        limits: LaneLimits,
        clock: Clock,
        metrics: StreamMetrics,
        tracer: Tracer,
        pacer: Pacer,
        later: Later,
        perform: Callable[[Connection, Iterable[Effect]], None],
    ) -> None:
        """`later` calls back from the loop after so many seconds."""
        self._port = port
        self._metrics = metrics
        self._tracer = tracer
        self._traces = tracer is not OFF
        self._pacer = pacer
        self._later = later
        self._holding = False
        self._perform = perform
        self.lanes = Lanes(port, limits, clock.monotonic, metrics)
        self.moving: frozenset[str] = frozenset()
        """Subject tokens of the namespaces that move between profiles: nothing is published there."""
        self._secret = b""
        self._asked: tuple[float, bytes, str, bytes, Demands | None] | None = None
        """When the lines of a header block were made last, and of what; those are `_fields`."""
        self._fields = b""
        self.stored: list[Flight] = []
        """Flights that were acknowledged since the last `flush`; JetStream's answers are put here."""
        self._settled: list[Settled] = []
        """What the answers of one read from NATS have settled."""

    def trust(self, secret: bytes) -> None:
        """Make the ids of applications' keys with the deployment's secret from now on."""
        self._secret = secret

    def publish(self, connection: Connection, effects: Sequence[Publish]) -> list[Effect]:
        """Publish for a client what came together; return what its session makes of results that are known at once."""
        place_of, moving = self._port.place, self.moving
        runs: list[Run] = []
        settled: list[Settled] = []
        for effect in effects:
            place = place_of(effect.channel, effect.profile)
            publications = self._publications(connection, effect)
            if place.namespace in moving:
                settled.append((connection, publications, pending.MOVING))
            else:
                runs.append((effect.channel, place, publications))
        settled += self.lanes.add_all(connection, runs)
        return self._effects(connection, settled) if settled else []

    def _publications(self, connection: Connection, effect: Publish) -> list[Pending]:
        span, fields = self._traced(effect)
        found: list[Pending] = []
        demands = effect.demands
        for index, data in enumerate(effect.data):
            if index and self._traces:  # each may have a trace of its own
                span, fields = self._traced(effect)
            number = effect.ids[index]
            found.append(Pending(number, effect.started, effect.method, span, data, fields, demands))
        if demands is not None and demands.idempotency_key:
            user = connection.session.party.user
            found[0].id = keyed_id(self._secret, effect.channel, user, demands.idempotency_key)
        return found

    def _traced(self, effect: Publish) -> tuple[Span, bytes]:
        """Return the span of a publication and the lines of its header block, which are the same for what came at one time."""
        span = self._tracer.publish(effect.channel, effect.started) if self._traces else NO_SPAN
        asked = effect.started, effect.info, effect.key, span.header, effect.demands
        if asked != self._asked:
            self._fields = self._port.fields(*asked[1:])
            self._asked = asked
        return span, self._fields

    def answered(self, flight: Flight, verdict: Verdict) -> None:
        """Take JetStream's answer to a publication; `flush` tells."""
        self._settled += self.lanes.answered(flight, verdict)

    def found(self, flight: Flight, last: Last | None) -> None:
        """Take JetStream's answer to the question what a channel holds; `flush` tells."""
        self._settled += self.lanes.found(flight, last)

    def flush(self) -> None:
        """Take what the answers of one read have settled, and tell clients so, or soon where very much is in the air."""
        self._take_stored()
        if not self._settled or self._holding:
            return
        if self.lanes.flying < CROWDED:
            self._tell_all()
        else:
            self._holding = True
            self._later(HOLD, self._tell_held)

    def _take_stored(self) -> None:
        if self.stored:
            stored, self.stored[:] = self.stored[:], ()
            self._settled += self.lanes.stored(stored)

    def _tell_held(self) -> None:
        self._holding = False
        self._tell_all()

    def _tell_all(self) -> None:
        """Tell each client all that is settled in one frame."""
        told: dict[Hashable, list[Settled]] = {}
        for each in self._settled:
            theirs = told.get(each[0])
            if theirs is None:
                told[each[0]] = [each]
            else:
                theirs.append(each)
        self._settled = []
        self._tell_each(iter(told.values()))

    def _tell_each(self, told: Iterator[Sequence[Settled]]) -> None:
        try:
            for settled in told:
                self._tell(settled)
        except BaseException:
            self._tell_each(told)  # what goes wrong for one costs no other the answer
            raise

    def _tell(self, settled: Sequence[Settled]) -> None:
        """Tell one client."""
        connection = cast("Connection", settled[0][0])
        self._perform(connection, self._effects(connection, settled))

    def tick(self) -> None:
        """Let time pass. With a stream that does not answer, thousands are to be told so at once."""
        self._take_stored()  # which is not to be looked after
        settled, self._settled = self._settled + self.lanes.tick(), []
        if settled:
            self._pacer.add(map(self._tell, ([each] for each in settled)))

    def _effects(self, connection: Connection, settled: Iterable[Settled]) -> list[Effect]:
        """Return what the session makes of it: commands that came at one time, and ended alike, are answered together."""
        runs: list[tuple[list[int], float, str, Result]] = []
        numbers: list[int] = []
        started, method, ending = -1.0, "", None
        for _, publications, result in settled:
            for each in publications:
                if each.span is not NO_SPAN:
                    each.span.end(result.error.code if result.error is not None else 0)
                if each.started != started or each.method != method or result is not ending:
                    started, method, ending, numbers = each.started, each.method, result, []
                    runs.append((numbers, started, method, result))
                numbers.append(each.command)
        effects: list[Effect] = []
        for numbers, started, method, result in runs:
            self._metrics.ended(result.outcome, len(numbers))
            effects += connection.session.published(numbers, started, result.error, method, result.outcome)
        return effects
