from __future__ import annotations

from typing import Any, cast

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.edge import CountingMetrics
from tests.fakes.nats import FakeLink, Published
from tidewire.edge import pending
from tidewire.edge.adapters.stream_publisher import FILE_BATCH, StreamPublisher, terms_of
from tidewire.edge.lane import Lane, LaneLimits
from tidewire.edge.lanes import Lanes
from tidewire.edge.pending import Demands, Flight, Last, Pending, Terms, Verdict
from tidewire.edge.room import Share
from tidewire.edge.untraced import NO_SPAN
from tidewire.options.storage_options import StorageProfile
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import LinkAway, LinkFull, LinkState, PayloadTooLarge

PARTITIONS = 16
ACK = b'{"stream":"TW_default_9","seq":7}'


class Bench:
    """The adapter on a fake link; `heard` is what it tells the lanes."""

    def __init__(self) -> None:
        self.link = FakeLink()
        self.metrics: Any = CountingMetrics()
        self.heard: list[Any] = []
        self.publisher = StreamPublisher(
            cast("NatsLink", self.link),
            PARTITIONS,
            "_INBOX_edge",
            {"default": Terms(30.0)},
            ManualClock(1_800_000_000.25),
            self.metrics,
        )
        self.publisher.stored = lambda _flight: self.heard.append(Verdict.STORED)
        self.publisher.answered = lambda _flight, verdict: self.heard.append(verdict)
        self.publisher.found = lambda _flight, last: self.heard.append(last)
        self.place = self.publisher.place("kept:a", "default")

    def flight(self, *data: bytes, demands: Demands | None = None) -> Flight:
        """A flight that was not sent."""
        fields = self.publisher.fields(b'{"user":"u"}', "", b"", demands)
        publications = [
            Pending(n, 0.0, "publish", NO_SPAN, each, fields, demands) for n, each in enumerate(data)
        ]
        return Flight(Lane(1, "kept:a", self.place, Share()), publications)

    def sent(self, *data: bytes) -> tuple[Flight, list[Published]]:
        """A flight that was sent, and its messages."""
        flight = self.flight(*data)
        assert self.publisher.send(flight) is None
        return flight, self.link.published

    def answer(self, payload: bytes, header: bytes = b"") -> list[Any]:
        """Answer the newest message; return what the lanes heard."""
        self.link.deliver(self.link.published[-1].reply, payload, header)
        return self.heard

    @property
    def ignored(self) -> list[str]:
        """Why answers were not believed."""
        return [reason for (reason,) in self.metrics.of("ignored")]


@pytest.fixture
def bench() -> Bench:
    """Nothing sent yet."""
    return Bench()


def test_place_is_partition_stream_and_half_the_window_at_most(bench: Bench) -> None:
    """By the channel's subject."""
    stream = f"TW_default_{bench.place.subject.decode().split('.')[2]}"
    assert (bench.place.stream, bench.place.namespace) == (stream, "kept")
    assert bench.place.subject.endswith(b".kept.a")
    assert bench.place.retry_for < 15


def test_one_publication(bench: Bench) -> None:
    """JetStream's own headers stand before all others: it takes the first of a name."""
    flight, (message,) = bench.sent(b"1")
    assert message.subject == bench.place.subject
    assert message.header == (
        b'NATS/1.0\r\nNats-Msg-Id: %b\r\nTw-V: 1\r\nTw-Time: 1800000000250000\r\nTw-Info: {"user":"u"}\r\n\r\n'
        % flight.first.id
    )
    ack = b'{"stream":"%b","seq":7}' % bench.place.stream.encode()
    assert bench.answer(ack[:-1] + b', "duplicate": true}') == [Verdict.DUPLICATE]
    assert bench.answer(ack)[1:] == [Verdict.STORED]
    bench.answer(ack)
    assert (bench.heard[2:], bench.ignored) == ([], ["unexpected"]), "it counts once"


def test_several_that_come_together_go_out_together(bench: Bench) -> None:
    """Each as it would by itself, with an id and an inbox of its own."""
    flights = [bench.flight(data) for data in (b"1", b"2", b"3")]
    assert bench.publisher.send_all(flights)
    messages = bench.link.published[:]
    assert [message.payload for message in messages] == [b"1", b"2", b"3"]
    assert len({message.reply for message in messages}) == len({each.first.id for each in flights}) == 3
    for flight, message in zip(flights, messages, strict=True):
        bench.publisher.send(flight)
        assert bench.link.published[-1] == message, "a repetition is the same message"
    stream = bench.place.stream.encode()
    assert bench.answer(b'{"stream":"%b","seq":7}' % stream) == [Verdict.STORED]


@pytest.mark.parametrize("error", [LinkAway("away"), LinkFull("full"), PayloadTooLarge(2, 1)], ids=str)
def test_several_go_out_all_or_none(bench: Bench, error: Exception) -> None:
    """Then no answer is waited for, and each goes out by itself, or is told why not."""
    flights = [bench.flight(data) for data in (b"1", b"2")]
    bench.link.fails["publish_each"] = error
    assert not bench.publisher.send_all(flights)
    assert not bench.publisher._flights
    assert [bench.publisher.send(flight) for flight in flights] == [None, None]
    ack = b'{"stream":"%b","seq":7}' % bench.place.stream.encode()
    for message in bench.link.published:
        bench.link.deliver(message.reply, ack)
    assert bench.heard == [Verdict.STORED, Verdict.STORED]


def test_nothing_goes_out_together_where_the_node_does_not_map(bench: Bench) -> None:
    """It would be lost there."""
    bench.publisher.mapped = lambda: False
    assert not bench.publisher.send_all([bench.flight(b"1")])
    assert bench.link.published == []


def test_a_repeated_attempt_has_the_same_id_and_the_same_inbox(bench: Bench) -> None:
    """So that an answer to either counts; once forgotten, none does."""
    flight, messages = bench.sent(b"1")
    bench.publisher.send(flight)
    assert messages[0] == messages[1]
    bench.publisher.forget(flight)
    assert bench.answer(ACK) == []
    assert bench.ignored == ["unexpected"]


def test_each_flight_has_an_inbox_of_its_own_that_nobody_can_guess(bench: Bench) -> None:
    """And an id that has nothing to do with it."""
    flights = [bench.sent(b"1")[0] for _ in range(3)]
    replies = {message.reply for message in bench.link.published}
    assert len(replies) == 3
    assert not any(flight.first.id in reply for flight in flights for reply in replies)


def test_a_batch(bench: Bench) -> None:
    """Numbered, ended by its last message, which alone is answered."""
    flight, messages = bench.sent(b"1", b"2", b"3")
    assert [bool(message.reply) for message in messages] == [False, False, True]
    lines = [message.header.split(b"\r\n")[1:5] for message in messages]
    batch = b"Nats-Batch-Id: %b" % flight.first.id
    for number, (publication, each) in enumerate(zip(flight.publications, lines, strict=True), 1):
        identity = b"Nats-Msg-Id: %b" % publication.id
        assert each[:3] == [identity, batch, b"Nats-Batch-Sequence: %d" % number]
    assert [each[3] for each in lines] == [b"Tw-V: 1", b"Tw-V: 1", b"Nats-Batch-Commit: 1"]
    stream, name = bench.place.stream.encode(), flight.first.id
    bench.answer(b'{"stream":"%b","seq":7}' % stream)
    bench.answer(b'{"stream":"%b","seq":7,"batch":"%b","count":2}' % (stream, name))
    bench.answer(b'{"stream":"%b","seq":7,"batch":"x","count":3}' % stream)
    assert (bench.heard, bench.ignored) == ([], ["other_batch"] * 3)
    assert bench.answer(b'{"stream":"%b","seq":7,"batch":"%b","count":3}' % (stream, name)) == [
        Verdict.STORED
    ]


@pytest.mark.parametrize("data", [[b"1"], [b"1", b"2"]])
def test_what_cannot_go_out_leaves_nothing_behind(bench: Bench, data: list[bytes]) -> None:
    """As long as NATS is away, each publication would."""
    lanes = Lanes(bench.publisher, LaneLimits(batch=1), ManualClock().monotonic, bench.metrics)
    bench.link.fails["publish"] = LinkAway("x")
    publications = bench.flight(*data).publications
    settled = lanes.add(1, "kept:a", bench.place, publications)
    assert [(len(each), result) for _, each, result in settled] == [(1, pending.AWAY)] * len(data)
    assert not bench.publisher._flights
    assert (len(lanes), lanes.flying, lanes.room.publications, lanes.room.size) == (0, 0, 0, 0)


def test_a_batch_goes_out_whole_or_not_at_all(bench: Bench) -> None:
    """One that has begun and does not end would count as open at the stream, for all edges."""
    bench.link.fails["publish_each"] = LinkFull("x")
    assert bench.publisher.send(bench.flight(b"1", b"2")) is pending.AWAY
    bench.link.fails["publish_each"] = PayloadTooLarge(2, 1)
    assert bench.publisher.send(bench.flight(b"1", b"2")) is pending.TOO_LARGE
    assert bench.link.published == []


@pytest.mark.parametrize(
    ("payload", "header", "reason"),
    [
        (b'{"stream":"TW_other_1","seq":7}', b"", "other_stream"),
        (b'{"seq":7}', b"", "other_stream"),
        (b'{"stream":"STREAM"}', b"", "other_stream"),
        (b'{"stream":"STREAM","seq":0}', b"", "other_stream"),
        (b'{"stream":"STREAM","seq":"7"}', b"", "malformed"),
        (b"", b"", "malformed"),
        (b"\xff", b"", "malformed"),
        (b"[]", b"", "malformed"),
        (b'{"stream":"STREAM","seq":7}', b"NATS/1.0\r\nNats-Stream: x\r\n\r\n", "malformed"),
    ],
    ids=str,
)
def test_what_is_no_acknowledgement_is_not_believed(
    bench: Bench, payload: bytes, header: bytes, reason: str
) -> None:
    """It is counted, and the right one still counts after it."""
    bench.sent(b"1")
    stream = bench.place.stream.encode()
    assert bench.answer(payload.replace(b"STREAM", stream), header) == []
    assert bench.ignored == [reason]
    assert bench.answer(b'{"stream":"%b","seq":7}' % stream) == [Verdict.STORED]


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (10071, Verdict.OUTRUN),
        (10164, Verdict.OUTRUN),
        (10158, Verdict.IN_PROCESS),
        (10008, Verdict.NOBODY),
        (10009, Verdict.NOBODY),
        (10077, Verdict.REFUSED),
        (10201, Verdict.REFUSED),
        (0, Verdict.REFUSED),
    ],
)
def test_errors(bench: Bench, code: int, verdict: Verdict) -> None:
    """By JetStream's own code; no error is an acknowledgement."""
    bench.sent(b"1")
    assert bench.answer(
        b'{"error":{"code":400,"err_code":%d,"description":"why"},"stream":"%b","seq":0}'
        % (code, bench.place.stream.encode())
    ) == [verdict]


def test_nobody_answers(bench: Bench) -> None:
    """Says the server."""
    bench.sent(b"1")
    assert bench.answer(b"", b"NATS/1.0 503\r\nNats-Subject: x\r\n\r\n") == [Verdict.NOBODY]
    assert bench.metrics.of("refused") == [(Verdict.NOBODY, "no stream answers")]


def test_nothing_goes_out_while_nats_is_away_or_does_not_map_or_it_is_too_large(bench: Bench) -> None:
    """And it is told why."""
    bench.publisher.mapped = lambda: False
    assert bench.publisher.send(bench.flight(b"1")) is pending.AWAY
    bench.publisher.mapped = lambda: True
    bench.link.fails["publish"] = PayloadTooLarge(9, 8)
    assert bench.publisher.send(bench.flight(b"1")) is pending.TOO_LARGE
    bench.link.fails["publish"] = LinkAway("away")
    assert bench.publisher.ask(bench.flight(b"1")) is pending.AWAY
    bench.link.state = LinkState.AWAY
    assert bench.publisher.send(bench.flight(b"1", b"2")) is pending.AWAY
    assert bench.link.published == []


def test_demands_are_headers(bench: Bench) -> None:
    """The expected sequence is JetStream's business, and stands before what comes from the client."""
    flight = bench.flight(b"1", demands=Demands("key", 3, "e", 60))
    flight.first.id, flight.first.expected = b"keyed", 0
    bench.publisher.send(flight)
    assert bench.link.published[0].header == (
        b"NATS/1.0\r\nNats-Msg-Id: keyed\r\nNats-Expected-Last-Subject-Sequence: 0\r\nTw-V: 1\r\n"
        b'Tw-Time: 1800000000250000\r\nTw-Info: {"user":"u"}\r\nTw-Version: 3\r\nTw-Version-Epoch: e\r\nNats-TTL: 60\r\n\r\n'
    )
    assert bench.publisher.fields(b"{}", "k", b"traceparent: 1\r\n", None) == (
        b"Tw-V: 1\r\nTw-Time: 1800000000250000\r\nTw-Info: {}\r\nTw-Key: k\r\ntraceparent: 1\r\n"
    )


def held(bench: Bench, lines: bytes) -> bytes:
    """A header block of a direct get."""
    place = bench.place
    return b"NATS/1.0\r\n%bNats-Stream: %b\r\nNats-Subject: %b\r\nNats-Sequence: 12\r\n\r\n" % (
        lines,
        place.stream.encode(),
        place.subject,
    )


def asked(bench: Bench) -> Flight:
    """A flight that asks what is held."""
    flight = bench.flight(b"1", demands=Demands(version=3))
    flight.asks = True
    assert bench.publisher.ask(flight) is None
    return flight


@pytest.mark.parametrize(
    ("lines", "last"),
    [
        (b"", Last(12)),
        (b"Nats-Msg-Id: i\r\nTw-Version: 7\r\nTw-Version-Epoch: e\r\n", Last(12, b"i", 7, "e")),
        (b"Tw-Version: x\r\n", Last(12)),
        (b"Tw-Version: %b\r\n" % (b"9" * 30), Last(12)),
        (b"Nats-Sequence: 999\r\nNats-Stream: forged\r\nNats-Subject: forged\r\n", Last(12)),
    ],
    ids=str,
)
def test_what_is_held(bench: Bench, lines: bytes, last: Last) -> None:
    """The server's headers come last, and the last of a name counts."""
    asked(bench)
    subject = f"$JS.API.DIRECT.GET.{bench.place.stream}.".encode() + bench.place.subject
    assert bench.link.published[0].subject == subject
    assert bench.answer(b'{"stream":"TW_default_9","seq":7}', held(bench, lines)) == [last]


def test_nothing_is_held_or_nobody_knows(bench: Bench) -> None:
    """A stream that is away is no empty one."""
    asked(bench)
    assert bench.answer(b"", b"NATS/1.0 404 Message Not Found\r\n\r\n") == [Last()]
    for header in (b"NATS/1.0 503\r\n\r\n", b"", held(bench, b"").replace(b".kept.a", b".kept.b")):
        asked(bench)
        assert bench.answer(b"", header)[-1] is None
    assert bench.ignored == ["malformed"] * 2


def test_an_answer_to_the_question_is_none_to_the_publication(bench: Bench) -> None:
    """It would be data that somebody published: each has an inbox of its own."""
    flight = asked(bench)
    question = bench.link.published[-1].reply
    bench.answer(b"", b"NATS/1.0 404\r\n\r\n")
    flight.asks, flight.first.expected = False, 0
    bench.publisher.send(flight)
    assert bench.link.published[-1].reply != question
    bench.link.deliver(question, b'{"stream":"%b","seq":1}' % bench.place.stream.encode())
    assert bench.heard == [Last()]
    assert bench.ignored == ["unexpected"]


def test_a_batch_is_worth_its_files_only_where_many_wait() -> None:
    """nats-server makes files for it where one replica keeps the stream in files."""
    profiles = [StorageProfile(), StorageProfile(replicas=3), StorageProfile(storage="memory")]
    assert [terms_of(each).least_batch for each in profiles] == [FILE_BATCH, 2, 2]
