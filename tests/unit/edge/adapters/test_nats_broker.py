from __future__ import annotations

from typing import Any, cast
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import ManualClock
from tests.fakes.edge import CountingMetrics
from tests.fakes.nats import FakeLink
from tests.fakes.tracing import RecordingTracer
from tests.support.protocol import protocol
from tidewire.edge.adapters.nats_broker import AWAY, TOO_LARGE, UNANSWERED, UNCERTAIN, NatsBroker
from tidewire.edge.adapters.stored_messages import StoredMessages
from tidewire.edge.ports import Done, Publication
from tidewire.kernel import errors
from tidewire.kernel.errors import ReplyError
from tidewire.kernel.streams import stream_name
from tidewire.kernel.subjects import in_subject
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import LinkAway, LinkFull, LinkState, PayloadTooLarge

PARTITIONS = 16
INFO = b'{"user":"alice","client":"c1"}'
SUBJECT = in_subject("chat:a", PARTITIONS)


class Bench:
    """The adapter on a fake link. What `soon` is given runs when the test says so."""

    def __init__(self) -> None:
        self.link = FakeLink()
        self.metrics = CountingMetrics()
        self.tracer = RecordingTracer()
        self.later: list[tuple[Done, ReplyError]] = []
        self.results: list[Any] = []
        self.broker = NatsBroker(
            cast("NatsLink", self.link),
            PARTITIONS,
            3.5,
            2.5,
            ManualClock(1_800_000_000.25),
            self.metrics,
            lambda done, error: self.later.append((done, error)),
            self.tracer,
        )

    def publish(self, data: bytes = b"{}", channel: str = "chat:a") -> ReplyError | None:
        """Publish; results are collected."""
        error = self.broker.publish(channel, [data], INFO)
        if error is None:
            self.broker.acknowledge(self.results.append)
        return error

    def soon(self) -> list[Any]:
        """Run what was put off; return all results."""
        later, self.later = self.later, []
        for done, error in later:
            done(error)
        return self.results

    def receive(self, publication: Publication) -> None:
        """The sink's."""
        self.results.append(publication)

    def heard(self, header: bytes, payload: bytes = b"{}") -> list[Any]:
        """What a subscriber hears of one message."""
        self.broker.subscribe("chat:a", self, lambda _error: None)
        self.link.deliver(SUBJECT, payload, header)
        return self.results

    def answered(self, header: bytes | None, payload: bytes = b"") -> Any:
        """What a caller gets for a responder's answer."""
        assert self.broker.call("m", "alice", "c1", b"1", self.results.append) is None
        self.link.requests[-1][2](header, payload)
        return self.results[-1]


@pytest.fixture
def bench() -> Bench:
    """NATS is there."""
    return Bench()


def block(*fields: bytes) -> bytes:
    """A header block."""
    return b"".join(line + b"\r\n" for line in (b"NATS/1.0", *fields, b""))


def away(bench: Bench, how: str) -> None:
    """Take NATS away in one of the ways in which it can be."""
    if how == "mapping":
        bench.broker.mapped = False
    else:
        bench.link.state = {"away": LinkState.AWAY, "start": LinkState.CONNECTING, "end": LinkState.CLOSED}[
            how
        ]


# Publish.


@protocol("command.publish", "publish.info")
def test_publication_goes_to_its_partition_with_version_time_and_sender(bench: Bench) -> None:
    """The data untouched, as payload; time in microseconds."""
    assert bench.publish(b'{"a":\n1}') is None
    (message,) = bench.link.published
    assert (message.subject, message.payload, message.reply) == (SUBJECT, b'{"a":\n1}', b"")
    assert message.header == block(b"Tw-V: 1", b"Tw-Time: 1800000000250000", b"Tw-Info: " + INFO)


@protocol("rpc.tw_publish")
def test_key_goes_with_the_publication(bench: Bench) -> None:
    """In a header of its own, in UTF-8; another edge reads it back."""
    """In a header of its own, in UTF-8; another edge reads it back."""
    bench.broker.publish("chat:a", (b"{}",), INFO, b"traceparent: t\r\n", "größe 1")
    (message,) = bench.link.published
    assert message.header == block(
        b"Tw-V: 1",
        b"Tw-Time: 1800000000250000",
        b"Tw-Info: " + INFO,
        b"Tw-Key: " + "größe 1".encode(),
        b"traceparent: t",
    )
    (publication,) = bench.heard(message.header)
    assert publication.key == "größe 1".encode()


@protocol("option.conflate")
@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b" host-1", b"host-1"),
        (b"host-1 \t", b"host-1"),
        (b"", b""),
        (b" ", b""),
        (b" \xff", b""),
        (b" " + b"x" * 256, b"x" * 256),
        (b" " + b"x" * 257, b""),
        (b" a\x00b", b""),
    ],
)
def test_key_of_a_native_publisher(bench: Bench, value: bytes, key: bytes) -> None:
    """One that is none is counted, and the publication is delivered as one without."""
    (publication,) = bench.heard(block(b"Tw-Key:" + value), b"1")
    assert (publication.data, publication.key) == (b"1", key)
    assert len(bench.metrics.of("key_ignored")) == (not key)


@protocol("command.publish", "error.100")
@pytest.mark.parametrize(("confirmed", "result"), [(True, None), (False, UNCERTAIN)])
def test_publication_is_answered_by_the_servers_confirmation(
    bench: Bench, confirmed: bool, result: ReplyError | None
) -> None:
    """Never before; one that is not confirmed may have been delivered all the same, and the error says so."""
    bench.publish()
    ((callback, timeout),) = bench.link.barriers
    assert (bench.results, timeout) == ([], 3.5)
    callback(confirmed)
    assert bench.results == [result]
    assert bench.later == []


@protocol("error.100")
@pytest.mark.parametrize("how", ["away", "start", "end", "mapping"])
def test_nothing_is_sent_while_nats_is_away(bench: Bench, how: str) -> None:
    """A node without the mapping counts as away. Nobody is told twice."""
    assert bench.broker.available
    away(bench, how)
    assert not bench.broker.available
    assert bench.publish() is AWAY
    assert bench.broker.call("m", "alice", "c1", b"1", bench.results.append) is AWAY
    assert bench.broker.send("alice", "c1", b"1") is False
    assert (bench.link.published, bench.link.requests, bench.soon()) == ([], [], [])


@protocol("error.100", "error.107")
@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (LinkAway("gone"), AWAY),
        (LinkFull("full"), AWAY),
        (PayloadTooLarge(2, 1), TOO_LARGE),
    ],
)
def test_publication_that_the_link_does_not_take_is_refused_at_once(
    bench: Bench, error: Exception, answer: ReplyError
) -> None:
    """Away and full are temporary, too large is for good; `done` is never called."""
    bench.link.fails = {"publish": cast("LinkAway", error)}
    assert bench.publish() is answer
    assert answer.temporary is (answer is AWAY)
    assert (bench.link.barriers, bench.soon()) == ([], [])


@protocol("error.100")
@pytest.mark.parametrize("error", [LinkAway("gone"), LinkFull("full")])
def test_written_publication_without_a_barrier_is_uncertain_and_never_refused(
    bench: Bench, error: LinkAway
) -> None:
    """It is on the wire: the answer comes by `done`, later, once."""
    bench.link.fails = {"barrier": error}
    assert bench.publish() is None
    assert len(bench.link.published) == 1
    assert bench.results == []
    assert bench.soon() == [UNCERTAIN]


# Subscribe.


def test_subscription_is_confirmed_by_a_barrier_and_ends_by_its_handle(bench: Bench) -> None:
    """On the channel's own subject, without a queue."""
    handle = bench.broker.subscribe("chat:a", bench, bench.results.append)
    assert [(subject, queue) for subject, _, queue in bench.link.subscribed.values()] == [(SUBJECT, b"")]
    bench.link.barriers[0][0](True)
    assert bench.results == [None]
    bench.broker.unsubscribe(handle)
    assert bench.link.subscribed == {}


@protocol("error.100")
@pytest.mark.parametrize("how", ["away", "mapping", "full"])
def test_subscription_that_cannot_be_confirmed_fails_later_and_keeps_its_handle(
    bench: Bench, how: str
) -> None:
    """So that whoever asked can let go of it."""
    if how == "full":
        bench.link.fails = {"barrier": LinkFull("full")}
    else:
        away(bench, how)
    handle = bench.broker.subscribe("chat:a", bench, bench.results.append)
    assert bench.results == []
    assert bench.soon() == [AWAY]
    bench.broker.unsubscribe(handle)


@protocol("publish.tags")
@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"", Publication(b"{}")),
        (block(), Publication(b"{}")),
        (block(b"Tw-V: 1", b"Tw-Time: 5", b"Tw-Info: " + INFO), Publication(b"{}", INFO, None, 5)),
        (block(b"Tw-Info:" + INFO), Publication(b"{}", INFO)),
        (block(b'Tw-Tags: {"k":"v"}'), Publication(b"{}", tags={"k": "v"})),
        (block(b"Tw-Delta: 1"), Publication(b"{}", delta=True)),
        (block(b"Tw-Delta: 0"), Publication(b"{}")),
        (block(b"Tw-Delta: true"), Publication(b"{}")),
        (block(b"Other: 1", b"XTw-V: 2", b"Nats-Msg-Id: 7"), Publication(b"{}")),
        (block(b"Tw-Time: soon"), Publication(b"{}")),
        (block(b"Tw-Time: -5"), Publication(b"{}")),
        (block(b"Tw-Time: " + b"9" * 20), Publication(b"{}")),
        (block(b"Tw-Time: " + b"9" * 19), Publication(b"{}", sent_us=int("9" * 19))),
    ],
)
def test_publications_with_and_without_headers(bench: Bench, header: bytes, expected: Publication) -> None:
    """A native publisher needs none; a time that is none is left out."""
    assert bench.heard(header) == [expected]
    assert bench.metrics.events == []


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (block(b"Tw-V: 2"), "version"),
        (block(b"Tw-V: "), "version"),
        (block(b"Tw-V: 1.0"), "version"),
        (block(b"Tw-Tags: {"), "malformed"),
        (block(b"Tw-Tags: [1]"), "malformed"),
        (block(b'Tw-Tags: {"k":1}'), "malformed"),
        (block(b"Tw-Tags: \xff"), "malformed"),
        (block(b"Tw-V: 2", b"Tw-Tags: {"), "version"),
    ],
)
def test_what_this_version_does_not_understand_is_dropped_and_counted(
    bench: Bench, header: bytes, reason: str
) -> None:
    """Rather than delivered wrong."""
    assert bench.heard(header) == []
    assert bench.metrics.of("publication_dropped") == [(reason,)]


@given(st.binary())
def test_no_header_raises(junk: bytes) -> None:
    """Backends write them, and a callback that raises would be an error of the link."""
    bench = Bench()
    bench.heard(b"NATS/1.0\r\n" + junk + b"\r\n\r\n")
    assert len(bench.results) + len(bench.metrics.of("publication_dropped")) == 1


# Calls and messages.


@protocol("command.rpc", "command.send")
def test_calls_and_messages_say_who_asks(bench: Bench) -> None:
    """The method is one token; a message has a subject of its own."""
    bench.broker.call("a.b*c", "alice", "c1", b'{"x":1}', bench.results.append)
    ((message, timeout, _),) = bench.link.requests
    assert (message.subject, message.payload, timeout) == (b"tw.rpc.a%2Eb%2Ac", b'{"x":1}', 2.5)
    caller = block(b"Tw-V: 1", b"Tw-User: alice", b"Tw-Client: c1")
    assert message.header == caller
    assert bench.broker.send("alice", "c1", b"[1]")
    (sent,) = bench.link.published
    assert (sent.subject, sent.payload, sent.header) == (b"tw.ev.message", b"[1]", caller)


@pytest.mark.parametrize(
    ("user", "written"),
    [
        ("alice", b"alice"),
        ("", b""),
        ("a@b.c/d+e=f", b"a@b.c/d+e=f"),
        ("x\r\nTw-User: admin", b"x%0D%0ATw-User:%20admin"),
        ("100%", b"100%25"),
        ("%0D%0A", b"%250D%250A"),
        ("zoë", b"zo%C3%AB"),
        (" alice", b"%20alice"),
        ("alice\t", b"alice%09"),
        ("\x00\x7f", b"%00%7F"),
    ],
)
def test_user_names_cannot_end_a_header_nor_look_like_another(
    bench: Bench, user: str, written: bytes
) -> None:
    """Parsers strip spaces around a value: a name made of another and a space must not pass for it."""
    bench.broker.call("m", user, "c1", b"1", bench.results.append)
    assert bench.link.requests[0][0].header == block(b"Tw-V: 1", b"Tw-User: " + written, b"Tw-Client: c1")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_user_name_is_written_on_one_line_and_comes_back(user: str) -> None:
    """Percent-decoding is all that a responder needs."""
    bench = Bench()
    bench.broker.send(user, "c1", b"1")
    lines = bench.link.published[0].header.split(b"\r\n")
    assert [line.partition(b":")[0] for line in lines] == [
        b"NATS/1.0",
        b"Tw-V",
        b"Tw-User",
        b"Tw-Client",
        b"",
        b"",
    ]
    value = lines[2].partition(b": ")[2]
    assert value.strip() == value
    assert value.isascii()
    assert unquote(value.decode()) == user


@protocol("command.rpc", "error.100", "error.104")
def test_answers_of_responders(bench: Bench) -> None:
    """The payload, or what its absence means."""
    assert bench.answered(b"", b'{"ok":1}') == b'{"ok":1}'
    assert bench.answered(block(b"Other: 1"), b"") == b""
    assert bench.answered(None) is UNANSWERED
    assert bench.answered(b"NATS/1.0 503\r\n\r\n") is errors.METHOD_NOT_FOUND
    assert bench.answered(b"NATS/1.0 503\r\n\r\n", b"x") == b"x"


@protocol("rpc.errors")
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([b"Nats-Service-Error-Code: 450", b"Nats-Service-Error: no seats"], ReplyError(450, "no seats")),
        ([b"Nats-Service-Error: first", b"Nats-Service-Error-Code: 400"], ReplyError(400, "first")),
        ([b"Nats-Service-Error-Code: 1999"], ReplyError(1999, "application error")),
        ([b"Nats-Service-Error-Code:450 ", b"Nats-Service-Error:  "], ReplyError(450, "application error")),
        ([b"Nats-Service-Error-Code: 450", b"Nats-Service-Error: \xff"], ReplyError(450, "\ufffd")),
        (
            [b"Nats-Service-Error-Code: 450", b"Nats-Service-Error: " + b"x" * 999],
            ReplyError(450, "x" * 256),
        ),
        ([b"Nats-Service-Error-Code: 399"], errors.INTERNAL),
        ([b"Nats-Service-Error-Code: 2000"], errors.INTERNAL),
        ([b"Nats-Service-Error-Code: 0"], errors.INTERNAL),
        ([b"Nats-Service-Error-Code: -450"], errors.INTERNAL),
        ([b"Nats-Service-Error-Code: wrong"], errors.INTERNAL),
        ([b"Nats-Service-Error-Code: " + b"4" * 5_000], errors.INTERNAL),
    ],
)
def test_service_errors(bench: Bench, fields: list[bytes], expected: ReplyError) -> None:
    """Codes from 400 to 1999 are the application's, with its message; other errors are internal, and never a result."""
    assert bench.answered(block(*fields), b"ignored") == expected


@protocol("error.100")
@pytest.mark.parametrize("error", [LinkAway("gone"), LinkFull("full"), PayloadTooLarge(2, 1)])
def test_call_and_message_that_the_link_does_not_take(bench: Bench, error: LinkAway) -> None:
    """Refused at once; `done` is never called."""
    bench.link.fails = {"publish": error, "request": error}
    assert bench.broker.call("m", "alice", "c1", b"1", bench.results.append) is not None
    assert bench.broker.send("alice", "c1", b"1") is False
    assert bench.soon() == []


def test_tags_that_are_not_utf8_are_malformed() -> None:
    """Counted, not raised."""
    bench = Bench()
    bench.heard(block(b'Tw-Tags: {"a":"\xff"}'))
    assert bench.metrics.of("publication_dropped") == [("malformed",)]


# Patterns and orders.


class Ear:
    """A sink that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Publication] = []

    def receive(self, publication: Publication) -> None:
        self.heard.append(publication)


@protocol("channel.wildcard")
def test_pattern_is_heard_in_every_partition_and_says_the_channel(bench: Bench) -> None:
    """Confirmed by a barrier, ended by its handle, with headers or without."""
    ear = Ear()
    handle = bench.broker.subscribe_pattern("stocks:nasdaq.*", ear, bench.results.append)
    assert [subject for subject, _, _ in bench.link.subscribed.values()] == [b"tw.in.*.stocks.nasdaq.*"]
    bench.link.barriers[0][0](True)
    assert bench.results == [None]
    for name in ("AAPL", "MSFT", "A.B"):
        bench.link.deliver(in_subject(f"stocks:nasdaq.{name}", PARTITIONS), b"1", block(b"Tw-Info: " + INFO))
    bench.link.deliver(in_subject("stocks:nasdaq.é", PARTITIONS), b"2")
    assert ear.heard == [
        Publication(b"1", INFO, channel="stocks:nasdaq.AAPL"),
        Publication(b"1", INFO, channel="stocks:nasdaq.MSFT"),
        Publication(b"2", channel="stocks:nasdaq.é"),
    ]
    assert bench.metrics.events == []
    bench.broker.unsubscribe(handle)
    assert bench.link.subscribed == {}


@protocol("channel.wildcard")
@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        (in_subject("$stocks:a", PARTITIONS), "restricted"),
        (in_subject("stocks:a.b#alice", PARTITIONS), "restricted"),
        (in_subject("stocks:#.alice", PARTITIONS), "restricted"),
        (b"tw.in.99.stocks.a.b", "forged_subject"),
        (b"tw.in.x.stocks.a.b", "forged_subject"),
        (
            b"tw.in.%d.stocks.a.b" % (int(in_subject("stocks:a.b", PARTITIONS).split(b".")[2]) ^ 1),
            "forged_subject",
        ),
        (b"tw.in.0.stocks.a.%62", "forged_subject"),
        (b"tw.in.0.stocks.a.\xff", "forged_subject"),
        (b"tw.in.0.stocks.a.%", "forged_subject"),
    ],
)
def test_pattern_hears_no_restricted_channel_and_no_forged_subject(
    bench: Bench, subject: bytes, reason: str
) -> None:
    """NATS delivers both; they are dropped, and counted by what they were."""
    ear = Ear()
    bench.broker.subscribe_pattern("stocks:*.*", ear, bench.results.append)
    bench.link.deliver(subject, b"1")
    assert ear.heard == []
    assert bench.metrics.of("publication_dropped") == [(reason,)]


def test_headers_of_what_a_pattern_hears_are_judged_too(bench: Bench) -> None:
    """Of a later version, or malformed."""
    ear = Ear()
    bench.broker.subscribe_pattern("stocks:*", ear, bench.results.append)
    bench.link.deliver(in_subject("stocks:a", PARTITIONS), b"1", block(b"Tw-V: 2"))
    assert ear.heard == []
    assert bench.metrics.of("publication_dropped") == [("version",)]


@protocol("error.100")
def test_pattern_that_cannot_be_confirmed_fails_later(bench: Bench) -> None:
    """As a channel does."""
    away(bench, "away")
    handle = bench.broker.subscribe_pattern("stocks:*", Ear(), bench.results.append)
    assert bench.soon() == [AWAY]
    bench.broker.unsubscribe(handle)


def test_orders_are_for_one_edge_or_for_all(bench: Bench) -> None:
    """Given on its subject, or on that of all; both are heard by each edge."""
    taken: list[bytes] = []
    bench.broker.take_orders("edge-1", taken.append)
    assert [subject for subject, _, _ in bench.link.subscribed.values()] == [b"tw.ctl.all", b"tw.ctl.edge-1"]
    for node in ("", "edge-1", "edge-2"):
        assert bench.broker.order(node, node.encode() or b"all")
    subjects = [message.subject for message in bench.link.published]
    assert subjects == [b"tw.ctl.all", b"tw.ctl.edge-1", b"tw.ctl.edge-2"]
    assert [message.header for message in bench.link.published] == [b"", b"", b""]
    for message in bench.link.published:
        bench.link.deliver(message.subject, message.payload)
    assert taken == [b"all", b"edge-1"]


@pytest.mark.parametrize("how", ["away", "start", "end", "mapping", "full"])
def test_order_that_cannot_be_handed_on(bench: Bench, how: str) -> None:
    """Whoever gives it is told."""
    if how == "full":
        bench.link.fails = {"publish": LinkFull("full")}
    else:
        away(bench, how)
    assert bench.broker.order("", b"{}") is False
    assert bench.link.published == []


# Traces.

TRACEPARENT = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_trace_is_one_more_line_of_the_header(bench: Bench) -> None:
    """Of publications and of calls; messages have none."""
    line = TRACEPARENT + b"\r\n"
    bench.broker.publish("chat:a", [b"{}"], INFO, line)
    bench.broker.call("m", "alice", "c1", b"1", bench.results.append, line)
    assert bench.link.published[0].header == block(
        b"Tw-V: 1", b"Tw-Time: 1800000000250000", b"Tw-Info: " + INFO, TRACEPARENT
    )
    assert bench.link.requests[0][0].header == block(
        b"Tw-V: 1", b"Tw-User: alice", b"Tw-Client: c1", TRACEPARENT
    )


def test_a_message_of_a_trace_begins_a_span_for_the_hub_to_end(bench: Bench) -> None:
    """Only where the message is delivered: what is dropped leaves no span."""
    bench.heard(block(b"Tw-V: 2", TRACEPARENT))
    (publication,) = bench.heard(block(b"Tw-V: 1", TRACEPARENT))[:1]
    assert publication.span is not None
    publication.span.end(subscribers=2)
    assert bench.tracer.ended == [("deliver chat:a subscribers=2", 0)]
    assert bench.metrics.of("publication_dropped") == [("version",)]


# Channels with history.


STORED = StoredMessages(PARTITIONS, {"chat": "default"})
STREAM = stream_name("default", int(SUBJECT.split(b".")[2])).encode()
REPUBLISHED = [
    b"Nats-Stream: " + STREAM,
    b"Nats-Subject: " + SUBJECT,
    b"Nats-Sequence: 7",
    b"Nats-Time-Stamp: 1970-01-01T00:00:01Z",
    b"Nats-Last-Sequence: 5",
]


def test_stored_channel_is_heard_where_its_stream_publishes_again(bench: Bench) -> None:
    """With the place in the channel; what anybody else puts there is dropped and counted."""
    bench.broker.stored = STORED
    bench.heard(block(*REPUBLISHED))
    out = SUBJECT.replace(b"tw.in", b"tw.out")
    assert [subject for subject, _, _ in bench.link.subscribed.values()] == [out]
    bench.link.deliver(out, b"1", block(b'Tw-Tags: {"a":"b"}', *REPUBLISHED))
    bench.link.deliver(out, b"2", block(*REPUBLISHED[1:]))
    bench.link.deliver(out, b"3")
    assert bench.results == [Publication(b"1", tags={"a": "b"}, offset=7, previous=5, time_ns=1_000_000_000)]
    assert bench.metrics.of("publication_dropped") == [("forged",)] * 2


def test_pattern_of_stored_channels_is_believed_no_more(bench: Bench) -> None:
    """And says no offset: a wildcard has no position."""
    bench.broker.stored = STORED
    bench.broker.subscribe_pattern("chat:*", bench, lambda _error: None)
    out = SUBJECT.replace(b"tw.in", b"tw.out")
    bench.link.deliver(out, b"1", block(*REPUBLISHED))
    bench.link.deliver(out, b"2", block(*REPUBLISHED[:1]))
    assert [(each.data, each.channel, each.offset) for each in bench.results] == [(b"1", "chat:a", 0)]
    assert bench.metrics.of("publication_dropped") == [("forged",)]


def test_what_history_has_kept_begins_no_span(bench: Bench) -> None:
    """Its trace is over."""
    found = bench.broker.parse_kept("chat:a", block(b"Tw-Info: {}", TRACEPARENT), b"1", 7, 5)
    assert found == Publication(b"1", info=b"{}", offset=7, time_ns=5)
    assert bench.broker.parse_kept("chat:a", block(b"Tw-V: 2"), b"1", 7, 5) is None
    assert bench.tracer.ended == []
