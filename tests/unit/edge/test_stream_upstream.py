from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.fakes.core import Client, Core
from tests.fakes.edge import OPEN
from tests.fakes.streams import ModelPort
from tests.fakes.tracing import RecordingTracer
from tests.support.protocol import protocol
from tidewire.edge.connection import Connection
from tidewire.edge.effects import Effect
from tidewire.edge.lane import LaneLimits
from tidewire.edge.pending import Verdict
from tidewire.edge.ports import Tracer
from tidewire.edge.stream_upstream import CROWDED, HOLD, StreamUpstream
from tidewire.edge.untraced import OFF
from tidewire.kernel.publication_ids import keyed_id

SECRET = b"s" * 32
TELLS = 0.00004
"""Seconds that it takes to tell one client."""
HISTORY = {"history_size": 10, "history_ttl": "1m"}
CHANNELS = {"namespaces": [{"name": "kept", **OPEN, **HISTORY}, {"name": "live", **OPEN}]}


class Stage:
    """A core with streams behind it."""

    def __init__(self, tracer: Tracer = OFF, *, paced: bool = False) -> None:
        self.turns: list[tuple[float, Callable[[], None]]] = []
        self.told: list[float] = []
        self.held: list[tuple[float, Callable[[], None]]] = []
        """What is to be told later."""
        self.core = Core(channel=CHANNELS, tracer=tracer, **({"later": self._later} if paced else {}))
        self.port = ModelPort(self.core.clock)
        dispatcher, metrics = self.core.dispatcher, self.core.metrics
        limits = LaneLimits(answer_within=3.4)
        self.streams = StreamUpstream(
            self.port,
            limits,
            self.core.clock,
            metrics,
            tracer,
            dispatcher.pacer,
            lambda seconds, callback: self.held.append((seconds, callback)),
            self._perform,
        )
        self.streams.trust(SECRET)
        dispatcher.store_with(self.streams.publish)

    def _later(self, seconds: float, turn: Callable[[], None]) -> None:
        self.turns.append((self.core.clock.now + seconds, turn))

    def _perform(self, connection: Connection, effects: Iterable[Effect]) -> None:
        self.core.clock.advance(TELLS)
        self.told.append(self.core.clock.now)
        self.core.dispatcher.perform(connection, effects)

    def pass_until(self, moment: float) -> None:
        """Let the loop do what is due, and time pass."""
        clock = self.core.clock
        while self.turns and self.turns[0][0] <= moment:
            due, turn = self.turns.pop(0)
            clock.advance(max(0.0, due - clock.now))
            turn()
        clock.advance(max(0.0, moment - clock.now))

    def client(self, user: str = "alice") -> Client:
        """A connected client."""
        return self.core.client(user)

    def process(self) -> None:
        """Let JetStream answer the newest attempt."""
        attempt = self.port.attempts[-1]
        self.port.process(attempt)
        if attempt.asks:
            self.port.forget(attempt.flight)
            self.streams.found(attempt.flight, attempt.answer[0])
        else:
            self.streams.answered(attempt.flight, attempt.answer)
        self.streams.flush()

    def acknowledge(self, first: int, last: int) -> None:
        """Let JetStream acknowledge some attempts with one read."""
        for attempt in self.port.attempts[first:last]:
            self.port.forget(attempt.flight)
            self.streams.stored.append(attempt.flight)
        self.streams.flush()

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds * 10)):
            self.core.clock.advance(0.1)
            self.streams.tick()


@pytest.fixture
def stage() -> Stage:
    """Nobody connected."""
    return Stage()


def publish(number: int, data: Any = 1, channel: str = "kept:a") -> dict[str, Any]:
    """A publish command."""
    return {"id": number, "publish": {"channel": channel, "data": data}}


def tw_publish(number: int, **arguments: Any) -> dict[str, Any]:
    """A call of `tw.publish`."""
    data = {"channel": "kept:a", "data": 1, **arguments}
    return {"id": number, "rpc": {"method": "tw.publish", "data": data}}


@protocol("publish.stored")
def test_only_namespaces_with_history_go_to_streams(stage: Stage) -> None:
    """And their clients are answered when JetStream has answered."""
    client = stage.client()
    client.say(publish(2))
    client.say(publish(3, channel="live:a"))
    assert [copy.data for attempt in stage.port.attempts for copy in attempt.copies] == [b"1"]
    assert [channel for channel, *_ in stage.core.broker.published] == ["live:a"]
    assert client.frames() == []
    stage.process()
    assert client.heard() == [{"id": 2, "publish": {}}]
    assert client.connection.session.party.owed == 1


def test_one_read_may_hold_both(stage: Stage) -> None:
    """Each goes where it belongs, and each is answered."""
    client = stage.client()
    client.say(
        publish(2), publish(3, channel="live:a"), publish(4, channel="kept:b"), publish(5, channel="live:b")
    )
    assert [copy.data for attempt in stage.port.attempts for copy in attempt.copies] == [b"1", b"1"]
    assert [channel for channel, *_ in stage.core.broker.published] == ["live:a", "live:b"]


def test_acknowledgements_of_one_read_are_one_frame_and_wait_for_no_tick(stage: Stage) -> None:
    """A client whose time is over at that very tick has its answer before."""
    client = stage.client()
    client.say(publish(2), publish(3, channel="kept:b"))
    for attempt in stage.port.attempts:
        stage.port.forget(attempt.flight)
        stage.streams.stored.append(attempt.flight)
    stage.core.clock.advance(10)
    stage.streams.tick()
    assert client.frames() == ['{"id":2,"publish":{}}\n{"id":3,"publish":{}}']
    stage.streams.flush()
    assert client.frames() == []


def test_commands_that_came_at_two_times_are_answered_together_and_counted_apart(stage: Stage) -> None:
    """Each with the time that it took."""
    client = stage.client()
    client.say(publish(2))
    stage.core.clock.advance(1)
    client.say(publish(3, channel="kept:b"))
    stage.core.clock.advance(0.25)
    stage.core.metrics.events.clear()
    stage.acknowledge(0, 2)
    assert client.frames() == ['{"id":2,"publish":{}}\n{"id":3,"publish":{}}']
    assert [seconds for _, _, seconds, *_ in stage.core.metrics.of("command")] == [
        pytest.approx(1.25, abs=0.001),
        pytest.approx(0.25, abs=0.001),
    ]


def test_where_very_much_is_in_the_air_answers_wait_for_each_other(stage: Stage) -> None:
    """For two milliseconds: they are one frame, and the lanes go on meanwhile."""
    client = stage.client()
    client.say(*[publish(2 + number, channel=f"kept:{number}") for number in range(5)])
    for other in [stage.client(str(number)) for number in range(3)]:
        other.say(*[publish(2 + number, channel=f"kept:{number}") for number in range(CROWDED // 3)])
    stage.acknowledge(0, 2)
    assert (client.frames(), stage.streams.lanes.flying) == ([], CROWDED + 2)
    stage.acknowledge(2, 4)
    ((seconds, tell),) = stage.held
    assert (client.frames(), seconds) == ([], HOLD)
    tell()
    assert client.frames() == ["\n".join(f'{{"id":{2 + number},"publish":{{}}}}' for number in range(4))]
    stage.acknowledge(4, 5)
    assert client.frames() == ['{"id":6,"publish":{}}'], "there are fewer now: nobody waits"
    assert len(stage.held) == 1


def test_lines_of_a_header_block_are_made_once_for_what_comes_at_one_time_and_is_alike(stage: Stage) -> None:
    """Another moment, client, key or demand has lines of its own."""
    made: list[Any] = []

    def fields(*asked: Any) -> bytes:
        made.append((stage.core.clock.now, *asked))
        return b"%d\r\n" % len(made)

    stage.port.fields = fields  # type: ignore[method-assign]
    alice, bob = stage.client(), stage.client("bob")
    alice.say(publish(2), publish(3, channel="kept:b"))
    assert len(made) == 1
    bob.say(publish(2))
    alice.say(publish(4, channel="kept:c"))
    stage.core.clock.advance(0.01)
    alice.say(publish(5, channel="kept:d"))
    alice.say(tw_publish(6, channel="kept:e", key="k"))
    alice.say(tw_publish(7, channel="kept:f", idempotency_key="i"))
    alice.say(tw_publish(8, channel="kept:g", idempotency_key="j"))
    assert [demands.idempotency_key for *_, demands in made if demands] == ["i", "j"]
    flown = [copy.publication.fields for attempt in stage.port.attempts for copy in attempt.copies]
    assert flown == [b"%d\r\n" % number for number in (1, 1, 2, 3, 4, 5, 6, 7)]


def test_each_command_of_one_frame_of_answers_is_told_its_own(stage: Stage) -> None:
    """What came at another time or ended otherwise is not mixed up; all are counted as what their client was told."""
    client = stage.client()
    client.say(publish(2, channel="kept:a"), publish(3, channel="kept:b"), publish(4, channel="kept:c"))
    stage.core.clock.advance(0.01)
    client.say(publish(5, channel="kept:d"))
    answers = (Verdict.STORED, Verdict.STORED, Verdict.REFUSED, Verdict.STORED)
    for attempt, verdict in zip(list(stage.port.attempts), answers, strict=True):
        stage.streams.answered(attempt.flight, verdict)
    stage.streams.flush()
    assert [(each["id"], "error" in each) for each in client.heard()] == [
        (2, False),
        (3, False),
        (4, True),
        (5, False),
    ]
    assert stage.core.metrics.of("ended") == [("stored", 2), ("refused", 1), ("stored", 1)]


def test_publications_of_one_read_are_one_batch_and_one_frame(stage: Stage) -> None:
    """With the same header."""
    client = stage.client()
    client.say(publish(2), publish(3), publish(4))
    assert [len(attempt.copies) for attempt in stage.port.attempts] == [3]
    stage.process()
    assert client.frames() == ['{"id":2,"publish":{}}\n{"id":3,"publish":{}}\n{"id":4,"publish":{}}']
    assert client.connection.session.party.owed == 0


@protocol("rpc.tw_publish")
def test_results_of_tw_publish(stage: Stage) -> None:
    """`duplicate` for a key that was used, `dropped` for a version that is not newer."""
    client = stage.client()
    client.say(tw_publish(2, idempotency_key="k"))
    stage.process()
    assert stage.port.attempts[0].copies[0].id == keyed_id(SECRET, "kept:a", "alice", "k")
    client.say(tw_publish(3, idempotency_key="k"))
    stage.process()
    client.say(tw_publish(4, version=2))
    stage.process()
    stage.process()
    client.say(tw_publish(5, version=1))
    stage.process()
    assert [json.loads(json.dumps(reply["rpc"]["data"])) for reply in client.heard()] == [
        {},
        {"duplicate": True},
        {},
        {"dropped": True},
    ]


@protocol("publish.uncertain", "error.100")
def test_clients_are_told_in_time(stage: Stage) -> None:
    """By a temporary error that says what may be."""
    client = stage.client()
    client.say(publish(2))
    client.say(publish(3))
    stage.run(3.4)
    errors = [reply["error"] for reply in client.heard()]
    assert all(error["code"] == 100 and error["temporary"] for error in errors)
    assert ["may still be stored" in error["message"] for error in errors] == [True, False]
    assert client.connection.session.party.owed == 0


@pytest.mark.parametrize("count", [2_000, 15_000])
def test_thousands_are_told_within_four_seconds(count: int) -> None:
    """With a stream whose leader died: those who wait are told in slices, which begin sooner the more of them there are."""
    stage = Stage(paced=True)
    per_client = 100
    clients = [stage.client(str(number)) for number in range(count // per_client)]
    began = stage.core.clock.now
    for client in clients:
        client.say(*(publish(number, channel=f"kept:{number}") for number in range(2, 2 + per_client)))
    for tick in range(50):
        stage.pass_until(began + tick / 10)
        stage.streams.tick()
    assert len(stage.told) == count
    assert max(stage.told) < began + 4.0
    assert min(stage.told) > began + 1.5


def test_a_namespace_that_moves_takes_nothing(stage: Stage) -> None:
    """It is a temporary error, and others go on."""
    stage.streams.moving = frozenset({"kept"})
    client = stage.client()
    client.say(publish(2))
    assert "is being moved" in client.heard()[0]["error"]["message"]
    assert stage.port.attempts == []


def test_a_connection_that_goes_leaves_nothing_behind(stage: Stage) -> None:
    """What it sent is still stored."""
    client = stage.client()
    client.say(publish(2, 2))
    client.say(publish(3, 3))
    stage.core.dispatcher.lost(client.connection)
    stage.process()
    stage.process()
    assert [copy.data for copy in stage.port.stored["kept:a"]] == [b"2", b"3"]
    assert (len(stage.streams.lanes), stage.streams.lanes.room.size) == (0, 0)


def test_without_streams_nothing_is_taken() -> None:
    """An edge that does not know them says so."""
    core = Core(channel=CHANNELS)
    client = core.client()
    client.say(publish(2))
    assert client.heard()[0]["error"]["code"] == 100


def test_each_publication_has_a_trace_of_its_own() -> None:
    """Ended with how it ended."""
    tracer = RecordingTracer()
    stage = Stage(tracer)
    client = stage.client()
    client.say(publish(2), publish(3))
    stage.process()
    client.say(publish(4))
    stage.run(3.4)
    assert tracer.ended == [("publish kept:a", 0)] * 2 + [("publish kept:a", 100)]


def test_what_one_read_from_nats_settles_is_one_frame_for_each_client(stage: Stage) -> None:
    """However many channels it is of, and whatever was answered."""
    alice, bob = stage.client(), stage.client("bob")
    for number, channel in enumerate("abc", 2):
        alice.say(publish(number, channel=f"kept:{channel}"))
    bob.say(publish(2, channel="kept:a"))
    for attempt in stage.port.attempts:
        stage.port.process(attempt)
        stage.streams.answered(attempt.flight, attempt.answer)
    assert (alice.frames(), bob.frames()) == ([], [])
    stage.streams.flush()
    assert [len(frame.split("\n")) for frame in alice.frames()] == [3]
    assert [len(frame.split("\n")) for frame in bob.frames()] == [1]


def test_an_answer_that_cannot_be_told_costs_no_other_client_its_own(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is not hidden."""
    alice, bob = stage.client(), stage.client("bob")
    alice.say(publish(2))
    bob.say(publish(2))
    for attempt in stage.port.attempts:
        stage.port.process(attempt)
        stage.streams.answered(attempt.flight, attempt.answer)
    monkeypatch.setattr(alice.transport, "send", lambda _frame: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        stage.streams.flush()
    assert len(bob.frames()) == 1
