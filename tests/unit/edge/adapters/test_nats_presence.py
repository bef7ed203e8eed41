from __future__ import annotations

from typing import Any, cast

import pytest

from tests.fakes.edge import CountingMetrics
from tests.fakes.nats import FakeLink
from tidewire.edge.adapters.nats_presence import MAX_BACKLOG, NatsPresence
from tidewire.kernel.presence_wire import (
    Ask,
    Bye,
    Chunk,
    Delta,
    Event,
    Heartbeat,
    Left,
    PartitionState,
    encode,
    reader,
)
from tidewire.kernel.subjects import presence_event_subject
from tidewire.platform.nats_types import LinkAway

EVENT = Event(1, "join", "c", "u")


class Bench:
    """The adapter on a fake link, with what replicas asked for."""

    def __init__(self) -> None:
        self.link = FakeLink()
        self.metrics = CountingMetrics()
        self.wire = NatsPresence(cast("Any", self.link), "host.one", 16, self.metrics)
        self.asked: list[tuple[Any, ...]] = []
        self.begun = 0
        self.wire.take_questions(cast("Any", self), cast("Any", self))

    def ask(self, *what: Any, returned: bool) -> None:
        """As Snapshots."""
        self.asked.append((*what, returned))

    def beat_soon(self) -> None:
        """As Announcer."""
        self.begun += 1


def test_each_message_has_its_subject_and_form() -> None:
    """The edge's name is one token, whatever it holds."""
    bench = Bench()
    state = PartitionState(3, 9, 1, 2, 3)
    chunk = Chunk(1, 5, "host%2Eone", 3, 9, 0, True, ())
    assert bench.wire.delta(3, 5, 7, [Left("a", "c")])
    assert bench.wire.heartbeat(5, [state])
    assert bench.wire.bye(5)
    assert bench.wire.chunk((b"tw.pres.c.r1.1", b"tw.pres.c.r2.1"), chunk)
    assert bench.wire.tell("chat:a", EVENT)
    published = [(each.subject, each.payload) for each in bench.link.published]
    assert published == [
        (b"tw.pres.d.3.host%2Eone", encode(Delta(1, 5, 7, (Left("a", "c"),)))),
        (b"tw.pres.h.host%2Eone", encode(Heartbeat(1, 5, (state,), 16))),
        (b"tw.pres.h.host%2Eone", encode(Bye(1, 5))),
        (b"tw.pres.c.r1.1", encode(chunk)),
        (b"tw.pres.c.r2.1", encode(chunk)),
        (presence_event_subject("chat:a", 16), encode(EVENT)),
    ]
    assert reader(Delta).decode(published[0][1]).first == 7


def test_what_nats_does_not_take_is_said_so() -> None:
    """Nothing is kept."""
    bench = Bench()
    bench.link.fails = {"publish": LinkAway("away"), "barrier": LinkAway("away")}
    assert not bench.wire.delta(3, 5, 7, [])
    assert not bench.wire.heartbeat(5, [])
    assert not bench.wire.tell("chat:a", EVENT)
    assert not bench.wire.chunk((b"tw.pres.c.r",), Chunk(1, 5, "e", 3, 9, 0, True, ()))
    done: list[int] = []
    bench.wire.settle(lambda: done.append(1))
    assert done == [1]


def test_events_are_heard_on_their_channels_subject_and_others_than_events_refused() -> None:
    """One message that cannot be read does no harm to the next."""
    bench = Bench()
    heard: list[Event] = []
    bench.wire.hear("chat:a", heard.append)
    subject = presence_event_subject("chat:a", 16)
    for payload in (
        b"",
        b"{}",
        encode(EVENT)[:-1],
        encode(Event(1, cast("Any", "shout"), "c", "u")),
        encode(Event(cast("Any", 2), "join", "c", "u")),
        encode(Event(1, "join", "c" * 256, "u")),
        encode(Event(1, "join", "c", "u" * 1025)),
        encode(EVENT),
    ):
        bench.link.deliver(subject, payload)
    assert heard == [EVENT]
    assert bench.metrics.of("presence_unread") == [("malformed",)] * 7


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"tw.ctl.all",
        b"tw.in.3.chat.a",
        b"_INBOX_x.1",
        b"tw.pres.d.3.other",
        b"tw.pres.j.3.chat.a",
        b"tw.pres.c",
    ],
)
def test_snapshots_go_nowhere_but_where_replicas_hear_them(reply: bytes) -> None:
    """Whoever may ask could else have an edge publish with its own rights."""
    bench = Bench()
    bench.link.deliver(b"tw.pres.s.host%2Eone", encode(Ask(1, "r1", (3,))), reply=reply)
    assert bench.asked == []
    assert bench.metrics.of("presence_unread") == [("reply",)]


def test_questions_of_replicas() -> None:
    """To this edge for snapshots, to all for signs of life."""
    bench = Bench()
    bench.link.deliver(b"tw.pres.s.host%2Eone", encode(Ask(1, "r1", (3,))), reply=b"tw.pres.c.r1.7")
    bench.link.deliver(b"tw.pres.s.host%2Eone", encode(Ask(1, "r2", (4,), True)), reply=b"tw.pres.c.r2.1")
    assert bench.asked == [("r1", b"tw.pres.c.r1.7", (3,), False), ("r2", b"tw.pres.c.r2.1", (4,), True)]
    bench.link.deliver(b"tw.pres.s.all", encode(Ask(1, "r1")), reply=b"")
    assert bench.begun == 1
    bench.link.deliver(b"tw.pres.s.host%2Eone", b"nonsense", reply=b"tw.pres.c.r1.7")
    assert bench.metrics.of("presence_unread") == [("malformed",)]


def test_backlog_of_the_link_makes_snapshots_wait() -> None:
    """Publications go first."""
    bench = Bench()
    assert not bench.wire.congested
    bench.link.pending_bytes = MAX_BACKLOG + 1
    assert bench.wire.congested
