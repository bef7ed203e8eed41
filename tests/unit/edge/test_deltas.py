"""Deltas as members see them: hub, fan-out and real codecs on a fake broker; the SDK's own code applies them."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from centrifuge.fossil import apply_delta
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.fakes.clock import ManualClock
from tests.fakes.edge import CountingMetrics, FakeBroker, RecordingTransport, rules
from tests.support.protocol import protocol
from tidewire.edge import deltas
from tidewire.edge.conflation import Delivery
from tidewire.edge.connection import Connection
from tidewire.edge.deltas import Basis
from tidewire.edge.framing import MAX_JOINED, WEBSOCKET_JSON, WEBSOCKET_PROTOBUF, Framing
from tidewire.edge.hub import Hub
from tidewire.edge.ports import Publication
from tidewire.edge.session import Session
from tidewire.edge.subscription import COMPACT_DELTA, DELTA, PLAIN
from tidewire.edge.users import Users
from tidewire.kernel.ids import ConnectionId
from tidewire.rpc.centrifuge.v2 import client_pb2 as pb

CHANNEL = "edits:a"
CONFLATING = Delivery(0.0, 100, conflate=True, max_keys=100)


class Viewer:
    """A member that reads what it is sent as an SDK would, and keeps all data as bytes."""

    def __init__(self, framing: Framing = WEBSOCKET_JSON, traits: Any = DELTA) -> None:
        self.traits = traits
        self.transport = RecordingTransport(framing)
        session = Session(ConnectionId("c"), rules(ManualClock()), Users(), json=framing is WEBSOCKET_JSON)
        self.connection = Connection(session, self.transport, 0.0)
        self.data: list[bytes] = []
        self.forms: list[str] = []
        """Of each publication: whole or delta."""
        self._base = b""

    def read(self) -> list[bytes]:
        """Take in what was written since the last time, and return it."""
        frames, self.transport.frames = self.transport.frames, []
        start = len(self.data)
        for frame in frames:
            payload = frame[{126: 4, 127: 10}.get(frame[1], 2) :]
            for data, is_delta in _texts(payload) if self._is_json else _messages(payload):
                self._take(data, is_delta)
        return self.data[start:]

    @property
    def _is_json(self) -> bool:
        return self.transport.framing is WEBSOCKET_JSON

    def _take(self, data: Any, is_delta: bool) -> None:
        if not self.traits.delta:
            assert not is_delta
            self.data.append(json.dumps(data, ensure_ascii=False).encode() if self._is_json else data)
            return
        sent = data.encode() if self._is_json else data
        self._base = apply_delta(self._base, sent) if is_delta else sent
        self.data.append(self._base)
        self.forms.append("delta" if is_delta else "whole")


def _texts(payload: bytes) -> list[tuple[Any, bool]]:
    pubs = [json.loads(line)["push"]["pub"] for line in payload.split(b"\n")]
    return [(pub["data"], pub.get("delta", False)) for pub in pubs]


def _messages(payload: bytes) -> list[tuple[bytes, bool]]:
    found = []
    while payload:
        size, start = payload[0] & 0x7F, 1
        while payload[start - 1] > 127:
            size |= (payload[start] & 0x7F) << (7 * start)
            start += 1
        pub = pb.Reply.FromString(payload[start : start + size]).push.pub
        found.append((pub.data, pub.delta))
        payload = payload[start + size :]
    return found


class Stage:
    """A hub with one channel."""

    def __init__(
        self, *, always: bool = True, delivery: Delivery | None = None, binary: bool = False
    ) -> None:
        self.broker = FakeBroker()
        self.metrics = CountingMetrics()
        self.hub = Hub(self.broker, self.metrics, ManualClock(), 3, lambda *_: pytest.fail("no batches here"))
        self.hub.slow = lambda _: pytest.fail("nobody is slow here")
        self._options: dict[str, Any] = {"binary": binary, "deltas": always, "delivery": delivery}

    def join(self, *viewers: Viewer) -> None:
        """Let viewers become members."""
        for viewer in viewers:
            if not self.hub.join(viewer.connection, CHANNEL, 1, **self._options):
                self.broker.confirm(CHANNEL)
            self.hub.enter(viewer.connection, CHANNEL, viewer.traits)

    def leave(self, viewer: Viewer) -> None:
        """End a membership."""
        self.hub.leave(viewer.connection, CHANNEL, viewer.traits)

    def publish(self, *publications: Publication | bytes) -> None:
        """Publications of one read."""
        for each in publications:
            self.broker.sink(CHANNEL).receive(each if isinstance(each, Publication) else Publication(each))
        self.hub.flush()

    @property
    def made(self) -> int:
        """Deltas computed."""
        return len(self.metrics.of("delta_made"))

    def outcomes(self) -> dict[str, int]:
        """Deliveries by outcome."""
        found: dict[str, int] = {}
        for outcome, count, _ in self.metrics.of("delta_delivered"):
            found[outcome] = found.get(outcome, 0) + count
        return found


def document(number: int, text: str = "日本語 😀 ") -> bytes:
    """Documents that differ in one number."""
    return json.dumps({"text": text * 20, "number": number, "more": text * 10}, ensure_ascii=False).encode()


@protocol("subscribe.delta")
def test_first_is_whole_and_further_ones_are_deltas() -> None:
    """For whoever asked, in both formats, by name and by id; others get what they always did."""
    stage = Stage()
    asked = [
        Viewer(framing, traits)
        for framing in (WEBSOCKET_JSON, WEBSOCKET_PROTOBUF)
        for traits in (DELTA, COMPACT_DELTA)
    ]
    plain = [Viewer(WEBSOCKET_JSON, PLAIN), Viewer(WEBSOCKET_PROTOBUF, PLAIN)]
    stage.join(*asked, *plain)
    sent = [document(number) for number in range(5)]
    stage.publish(sent[0])
    stage.publish(*sent[1:3])
    stage.publish(*sent[3:])
    for viewer in asked:
        assert viewer.read() == sent
        assert viewer.forms == ["whole"] + ["delta"] * 4
    assert plain[1].read() == sent
    assert [json.loads(data) for data in plain[0].read()] == [json.loads(data) for data in sent]
    assert stage.outcomes() == {"first": 4, "delta": 16}
    assert sum(saved for *_, saved in stage.metrics.of("delta_delivered")) > 16 * 400


def test_delta_is_computed_once_for_all_subscribers() -> None:
    """Whatever their number and format; those of one format are sent the very same object."""
    stage = Stage()
    viewers = [Viewer(framing) for framing in (WEBSOCKET_JSON, WEBSOCKET_PROTOBUF) for _ in range(50)]
    stage.join(*viewers)
    for number in range(4):
        stage.publish(document(number))
    assert stage.made == 3
    for group in (viewers[:50], viewers[50:]):
        assert len({id(viewer.transport.frames[-1]) for viewer in group}) == 1
    stage.publish(*(document(number) for number in range(4, 9)))
    assert stage.made == 8


def test_newcomer_is_sent_a_whole_one_and_then_what_the_others_get() -> None:
    """Also within one read, where the others get deltas only."""
    stage = Stage()
    old, new = Viewer(), Viewer()
    stage.join(old)
    stage.publish(document(0))
    stage.join(new)
    stage.publish(document(1), document(2))
    stage.publish(document(3))
    assert (old.read(), new.read()) == ([document(n) for n in range(4)], [document(n) for n in range(1, 4)])
    assert old.forms == ["whole", "delta", "delta", "delta"]
    assert new.forms == ["whole", "delta", "delta"]
    assert stage.made == 3
    assert old.connection.transport.framing is WEBSOCKET_JSON
    assert len(stage.hub.channels[CHANNEL].members) == 1


def test_nothing_is_computed_or_kept_for_who_did_not_ask() -> None:
    """The channel has no chain; with the last member that wanted one it ends."""
    stage = Stage()
    plain, asked = Viewer(traits=PLAIN), Viewer()
    stage.join(plain)
    stage.publish(document(0), document(1))
    channel = stage.hub.channels[CHANNEL]
    assert (stage.made, channel.chain, stage.hub.deltas.kept) == (0, None, 0)
    stage.join(asked)
    stage.publish(document(2))
    assert stage.hub.deltas.kept == len(document(2))
    stage.leave(asked)
    assert (channel.chain, stage.hub.deltas.kept) == (None, 0)
    stage.publish(document(3))
    stage.join(asked)
    stage.publish(document(4))
    assert asked.read() == [document(2), document(4)]
    assert asked.forms == ["whole", "whole"]


def test_who_comes_back_at_once_has_no_basis() -> None:
    """The SDKs forget what they had with their subscription, while the channel goes on."""
    stage = Stage()
    staying, moving = Viewer(), Viewer()
    stage.join(staying, moving)
    stage.publish(document(0))
    stage.leave(moving)
    stage.join(moving)
    stage.publish(document(1))
    moving.read()
    assert moving.forms == ["whole", "whole"]


def test_nothing_is_computed_where_nobody_has_the_basis() -> None:
    """The last one who had it left, and somebody has joined meanwhile."""
    stage = Stage()
    old, new = Viewer(), Viewer()
    stage.join(old)
    stage.publish(document(0))
    stage.join(new)
    stage.leave(old)
    stage.publish(document(1))
    assert (stage.made, new.read()) == (0, [document(1)])


@protocol("option.delta_publish")
def test_publisher_asks_where_the_namespace_does_not() -> None:
    """What goes whole is the basis of what follows."""
    stage = Stage(always=False)
    viewer = Viewer()
    stage.join(viewer)
    for number, asked in enumerate((False, True, False, False, True)):
        stage.publish(Publication(document(number), delta=asked))
    assert viewer.read() == [document(number) for number in range(5)]
    assert viewer.forms == ["whole", "delta", "whole", "whole", "delta"]
    assert stage.outcomes() == {"first": 1, "delta": 2, "unasked": 2}


def test_whole_one_is_sent_where_the_delta_is_not_smaller() -> None:
    """Small values, something altogether different, and nothing at all."""
    stage = Stage(binary=True)
    viewer = Viewer(WEBSOCKET_PROTOBUF)
    stage.join(viewer)
    sent = [b"1", b"2", b"2", document(1), b"\xff" * 50, b"", b"", document(1), document(1)]
    for data in sent:
        stage.publish(data)
    assert viewer.read() == sent
    assert viewer.forms == ["whole"] * 8 + ["delta"]
    assert stage.outcomes() == {"first": 1, "no_gain": 7, "delta": 1}


def test_what_is_kept_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one publication and of all together; the next one goes whole then, and is counted as such."""
    stage = Stage()
    viewer = Viewer()
    stage.join(viewer)
    size = len(document(0))
    monkeypatch.setattr(deltas, "MAX_BASE", size)
    sent = [document(0), document(100), document(1), document(2)]
    for data in sent:
        stage.publish(data)
    assert viewer.read() == sent
    assert viewer.forms == ["whole", "whole", "whole", "delta"]
    assert stage.outcomes() == {"first": 1, "too_large": 2, "delta": 1}
    monkeypatch.setattr(deltas, "MAX_KEPT", size - 1)
    stage.publish(document(3))
    stage.publish(document(4))
    viewer.read()
    assert viewer.forms[4:] == ["delta", "whole"]
    assert stage.hub.deltas.kept == 0


def test_what_is_made_in_one_go_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of very many, or large ones: the rest goes whole, and the last is the basis of what follows."""
    stage = Stage()
    viewer = Viewer()
    stage.join(viewer)
    monkeypatch.setattr(deltas, "MAX_AT_ONCE", 3 * len(document(0)))
    stage.publish(*(document(number) for number in range(6)))
    stage.publish(document(6))
    assert viewer.read() == [document(number) for number in range(7)]
    assert viewer.forms == ["whole", "delta", "delta", "whole", "whole", "whole", "delta"]
    assert stage.outcomes() == {"first": 1, "delta": 3, "too_large": 3}
    assert stage.made == 3


def test_no_delta_is_made_that_nobody_can_be_sent() -> None:
    """In a conflating channel who has no basis is sent all of a batch whole."""
    stage = Stage(delivery=CONFLATING)
    viewer = Viewer()
    stage.join(viewer)
    stage.publish(document(0), document(1), document(2))
    assert (stage.made, stage.outcomes()) == (0, {"first": 3})
    viewer.read()
    assert viewer.forms == ["whole"] * 3


# With conflation.


def keyed(number: int, key: bytes = b"k", **tags: str) -> Publication:
    """A document with a key."""
    return Publication(document(number), key=key, tags=tags or None)


@protocol("close.conflated")
def test_slow_viewer_gets_the_latest_whole_and_then_deltas_again() -> None:
    """The others get deltas all the time; what it missed meanwhile is no base of anything."""
    stage = Stage(delivery=CONFLATING)
    fine, slow = Viewer(), Viewer()
    stage.join(fine, slow)
    stage.publish(keyed(0))
    stage.publish(keyed(1))
    slow.transport.congested = True
    for number in (2, 3, 4):
        stage.publish(keyed(number))
    slow.transport.congested = False
    stage.hub.catch_up(slow.connection)
    stage.publish(keyed(5))
    stage.publish(keyed(6))
    assert fine.read() == [document(number) for number in range(7)]
    assert fine.forms == ["whole"] + ["delta"] * 6
    assert slow.read() == [document(number) for number in (0, 1, 4, 5, 6)]
    assert slow.forms == ["whole", "delta", "whole", "whole", "delta"]
    assert stage.hub.stragglers.kept == 0
    assert stage.outcomes() == {"first": 3, "delta": 8}


def test_batch_in_which_nothing_waits_any_more_gives_nobody_a_basis() -> None:
    """Its channel batches no more, so that what waited went out before."""
    stage = Stage()
    old, new = Viewer(), Viewer()
    stage.join(old)
    stage.publish(document(0))
    stage.join(new)
    stage.hub._send(stage.hub.channels[CHANNEL])
    stage.publish(document(1))
    assert new.read() == [document(1)]


def test_chain_is_over_what_is_sent_of_a_conflating_channel() -> None:
    """Of one key only the latest, also where tags differ."""
    stage = Stage(delivery=CONFLATING)
    viewer = Viewer()
    stage.join(viewer)
    stage.publish(keyed(0), keyed(1, place="a"), keyed(2, b"other"), keyed(3, place="b"))
    stage.publish(keyed(4, place="a"), keyed(5, place="b"))
    assert viewer.read() == [document(2), document(3), document(5)]
    assert viewer.forms == ["whole", "whole", "delta"]
    assert stage.outcomes() == {"first": 2, "delta": 1}


def test_batch_of_several_frames_is_whole_in_a_conflating_channel() -> None:
    """The socket may fill between two of them, and what is kept then must stand by itself."""
    stage = Stage(delivery=CONFLATING, binary=True)
    viewer = Viewer(WEBSOCKET_PROTOBUF)
    stage.join(viewer)
    stage.publish(keyed(0))
    chance = random.Random(7)
    large = [chance.randbytes(MAX_JOINED // 2) for _ in range(3)]

    def fills(frame: bytes) -> bool:
        viewer.transport.congested = True
        viewer.transport.frames.append(frame)
        return True

    send, viewer.transport.send = viewer.transport.send, fills  # type: ignore[method-assign]
    stage.publish(*(Publication(data, key=data[:4]) for data in large))
    viewer.transport.send = send  # type: ignore[method-assign]
    assert len(stage.hub.stragglers) == 1
    viewer.transport.congested = False
    stage.hub.catch_up(viewer.connection)
    stage.publish(keyed(1))
    stage.publish(keyed(2))
    assert viewer.read() == [document(0), *large, document(1), document(2)]
    assert viewer.forms == ["whole"] * 5 + ["delta"]


# Any interleaving.

seats = st.integers(0, 3)
texts = st.sampled_from(["a", "é", "日本語 😀", "x" * 40])


class Chains(RuleBasedStateMachine):
    """Viewers that come, go, get stuck and read on, beside what was published while they were there."""

    @initialize(conflates=st.booleans(), always=st.booleans())
    def begin(self, conflates: bool, always: bool) -> None:
        self.conflates = conflates
        self.stage = Stage(always=always, delivery=CONFLATING if conflates else None)
        self.viewers: list[Viewer | None] = [None] * 4
        self.due: dict[Viewer, list[bytes]] = {}
        self.number = 0

    @rule(seat=seats, framing=st.sampled_from([WEBSOCKET_JSON, WEBSOCKET_PROTOBUF]))
    def come_or_go(self, seat: int, framing: Framing) -> None:
        viewer = self.viewers[seat]
        if viewer is None:
            self.viewers[seat] = viewer = Viewer(framing, COMPACT_DELTA if seat % 2 else DELTA)
            self.stage.join(viewer)
            self.due[viewer] = []
        else:
            self.stage.leave(viewer)
            self.check(viewer)
            self.viewers[seat] = None
            del self.due[viewer]

    @precondition(lambda self: self.stage.hub.channels)
    @rule(
        batch=st.lists(
            st.tuples(texts, st.booleans(), st.sampled_from([b"", b"k", b"l"])), min_size=1, max_size=4
        )
    )
    def publish_some(self, batch: list[tuple[str, bool, bytes]]) -> None:
        publications = []
        for text, asks, key in batch:
            self.number += 1
            publications.append(Publication(document(self.number, text), key=key, delta=asks))
        self.stage.publish(*publications)
        for due in self.due.values():
            due += [each.data for each in publications]

    @precondition(lambda self: self.conflates)
    @rule(seat=seats)
    def get_stuck_or_read_on(self, seat: int) -> None:
        viewer = self.viewers[seat]
        if viewer is None:
            return
        viewer.transport.congested = not viewer.transport.congested
        if not viewer.transport.congested:
            self.stage.hub.catch_up(viewer.connection)

    @invariant()
    def all_is_right(self) -> None:
        for viewer in self.due:
            self.check(viewer)
        channel = self.stage.hub.channels.get(CHANNEL)
        if channel is not None:
            assert (channel.chain is not None) == bool(self.due)
            assert all(isinstance(audience.basis, Basis) for audience in channel.members)
            assert sum(map(len, channel.members.values())) == len(self.due)
        if not self.due:
            assert self.stage.hub.deltas.kept == 0

    def check(self, viewer: Viewer) -> None:
        """All that was published, in order; in a conflating channel not all of it, and nothing else."""
        viewer.read()
        if not self.conflates:
            assert viewer.data == self.due[viewer]
        else:
            assert len(set(viewer.data)) == len(viewer.data)
            assert set(viewer.data) <= set(self.due[viewer])
            if self.due[viewer] and not viewer.transport.congested:
                assert self.due[viewer][-1] in viewer.data


TestChains = Chains.TestCase
TestChains.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
