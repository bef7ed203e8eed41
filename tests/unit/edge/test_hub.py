from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.fakes.clock import ManualClock
from tests.fakes.edge import (
    CountingMetrics,
    FakeBroker,
    FakeKeys,
    ManualTimer,
    RecordingTransport,
    at_once,
    rules,
    token,
)
from tests.fakes.tracing import RecordingTracer
from tests.support.protocol import protocol
from tidewire.edge import framing, hub
from tidewire.edge.channel import ChannelState
from tidewire.edge.connection import Connection
from tidewire.edge.deflate import deflate
from tidewire.edge.dispatcher import Dispatcher
from tidewire.edge.effects import Traits
from tidewire.edge.framing import WEBSOCKET_JSON, WEBSOCKET_PROTOBUF, Framing, deflated
from tidewire.edge.hub import Hub
from tidewire.edge.pacer import Pacer
from tidewire.edge.policies.filters import TagsFilter
from tidewire.edge.ports import Done, Publication, Sink
from tidewire.edge.session import Session
from tidewire.edge.subscription import COMPACT, PLAIN, SubscriptionState
from tidewire.edge.timers import Timers, Timing
from tidewire.edge.users import Users
from tidewire.edge.wire.commands import FilterNode
from tidewire.kernel import errors
from tidewire.kernel.errors import ReplyError
from tidewire.kernel.ids import ConnectionId
from tidewire.rpc.centrifuge.v2 import client_pb2 as pb

LINGER = 3


class Stage:
    """A hub on a fake broker, and members without a dispatcher."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.broker = FakeBroker()
        self.metrics = CountingMetrics()
        self.hub = Hub(self.broker, self.metrics, self.clock, LINGER, ManualTimer(self.clock))
        self.settled: list[tuple[Connection, str, int, int | ReplyError]] = []
        self.slow: list[Connection] = []
        self.hub.settled = lambda *result: self.settled.append(result)
        self.hub.slow = self.slow.append

    def member(self, framing: Framing = WEBSOCKET_JSON) -> Connection:
        """A connection of its own."""
        session = Session(ConnectionId("c"), rules(self.clock), Users(), json=framing is WEBSOCKET_JSON)
        return Connection(session, RecordingTransport(framing), 0.0)

    def joined(self, channel: str, *framings: Framing, binary: bool = False) -> list[Connection]:
        """Members of a channel that is live."""
        members = [self.member(framing) for framing in framings]
        for member in members:
            if not self.hub.join(member, channel, 1, binary=binary):
                self.broker.confirm(channel)
            self.hub.enter(member, channel, PLAIN)
        return members

    def publish(self, channel: str, *publications: Publication) -> None:
        """Publications of one read."""
        for publication in publications:
            self.broker.sink(channel).receive(publication)
        self.hub.flush()


@pytest.fixture
def stage() -> Stage:
    """An empty hub."""
    return Stage()


def frames(member: Connection) -> list[bytes]:
    """What was written to a member, without WebSocket headers."""
    assert isinstance(member.transport, RecordingTransport)
    written, member.transport.frames = member.transport.frames, []
    return [frame[{126: 4, 127: 10}.get(frame[1], 2) :] for frame in written]


# Joining and leaving.


def test_first_member_waits_for_the_broker_and_the_next_does_not(stage: Stage) -> None:
    """The broker is asked once for a channel."""
    first, second, third = (stage.member() for _ in range(3))
    assert not stage.hub.join(first, "chat:a", 7, binary=False)
    assert not stage.hub.join(second, "chat:a", 8, binary=False)
    assert (len(stage.hub), stage.hub.subscriptions, stage.settled) == (1, 0, [])
    stage.broker.confirm("chat:a")
    assert stage.settled == [(first, "chat:a", 7, 1), (second, "chat:a", 8, 1)]
    assert stage.hub.join(third, "chat:a", 1, binary=False) == 1
    assert (stage.hub.subscriptions, len(stage.broker.subscribed)) == (0, 1)
    for member in (first, second, third):
        stage.hub.enter(member, "chat:a", PLAIN)
    assert (stage.hub.subscriptions, len(stage.broker.subscribed)) == (3, 1)


def test_channel_lingers_for_who_comes_straight_back(stage: Stage) -> None:
    """The broker hears of it only after the linger; coming back starts it anew."""
    (member,) = stage.joined("chat:a", WEBSOCKET_JSON)
    stage.hub.leave(member, "chat:a", PLAIN)
    for _ in range(LINGER - 1):
        stage.hub.tick()
    assert stage.hub.join(member, "chat:a", 2, binary=False)
    stage.hub.enter(member, "chat:a", PLAIN)
    for _ in range(2 * LINGER):
        stage.hub.tick()
    assert stage.broker.unsubscribed == []
    stage.hub.leave(member, "chat:a", PLAIN)
    stage.hub.leave(member, "chat:a", PLAIN)
    for _ in range(LINGER):
        assert len(stage.hub) == 1
        stage.hub.tick()
    assert (len(stage.hub), stage.broker.unsubscribed) == (0, ["chat:a"])


def test_leaving_what_one_is_not_in_changes_nothing(stage: Stage) -> None:
    """Unknown channels and strangers."""
    (member,) = stage.joined("chat:a", WEBSOCKET_JSON)
    stage.hub.leave(stage.member(), "chat:a", PLAIN)
    stage.hub.leave(member, "chat:b", PLAIN)
    assert stage.hub.subscriptions == 1


def test_failed_subscription_is_told_to_all_who_wait_and_forgotten(stage: Stage) -> None:
    """It can be tried again."""
    member = stage.member()
    stage.hub.join(member, "chat:a", 1, binary=False)
    stage.broker.confirm("chat:a", errors.INTERNAL)
    assert stage.settled == [(member, "chat:a", 1, errors.INTERNAL)]
    assert (len(stage.hub), stage.broker.unsubscribed) == (0, ["chat:a"])
    stage.hub.join(member, "chat:a", 2, binary=False)
    stage.broker.confirm("chat:a")
    assert stage.settled[1:] == [(member, "chat:a", 2, 2)]


@pytest.mark.parametrize("late", [None, errors.INTERNAL])
def test_answer_for_a_channel_that_was_let_go_does_not_touch_its_successor(
    stage: Stage, late: ReplyError | None
) -> None:
    """It was left while the broker was still asked, and somebody came after the linger."""
    member = stage.member()
    stage.hub.join(member, "chat:a", 1, binary=False)
    old = stage.broker.subscribed[1][2]
    stage.hub.leave(member, "chat:a", PLAIN)
    for _ in range(LINGER):
        stage.hub.tick()
    stage.hub.join(member, "chat:a", 2, binary=False)
    old(late)
    assert (stage.settled, len(stage.hub), stage.broker.unsubscribed) == ([], 1, ["chat:a"])
    stage.broker.confirm("chat:a")
    assert stage.settled == [(member, "chat:a", 2, 2)]


# Fan-out.


@protocol("format.json", "format.protobuf", "publish.tags")
def test_same_bytes_go_to_all_members_of_a_format(stage: Stage) -> None:
    """Joined into one frame for each, in order, with sender and tags."""
    one, two, three = stage.joined("chat:a", WEBSOCKET_JSON, WEBSOCKET_JSON, WEBSOCKET_PROTOBUF)
    info = b'{"user":"bob","client":"c9"}'
    stage.publish("chat:a", Publication(b'{"n":\n1}', info, {"k": "v"}), Publication(b"2"))
    (text,) = frames(one)
    assert frames(two) == [text]
    pushes = [json.loads(line)["push"] for line in text.split(b"\n")]
    first = {"data": {"n": 1}, "info": {"user": "bob", "client": "c9"}, "tags": {"k": "v"}}
    assert pushes == [{"channel": "chat:a", "pub": first}, {"channel": "chat:a", "pub": {"data": 2}}]
    (binary,) = frames(three)
    size = binary[0]
    reply = pb.Reply.FromString(binary[1 : 1 + size])
    assert (reply.push.channel, reply.push.pub.data, dict(reply.push.pub.tags)) == (
        "chat:a",
        b'{"n":1}',
        {"k": "v"},
    )
    assert pb.Reply.FromString(binary[2 + size :]).push.pub.data == b"2"
    assert stage.metrics.of("fanned_out") == [(6, 2 * (len(text) + 4) + len(binary) + 2, 0.0)]
    assert len(stage.metrics.of("publication_received")) == 2


def test_data_that_is_not_json_is_dropped_and_counted_but_not_in_a_binary_namespace(stage: Stage) -> None:
    """One bad publication of a native publisher must not end a channel's connections."""
    (member,) = stage.joined("chat:a", WEBSOCKET_JSON)
    stage.publish("chat:a", Publication(b"\xff"), Publication(b"{"), Publication(b""), Publication(b"1"))
    assert [json.loads(frame)["push"]["pub"]["data"] for frame in frames(member)] == [1]
    assert stage.metrics.of("publication_dropped") == [("not_json",)] * 3
    (raw,) = stage.joined("raw:a", WEBSOCKET_PROTOBUF, binary=True)
    stage.publish("raw:a", Publication(b"\xff\n"))
    assert b"\xff\n" in frames(raw)[0]


def traits(compact: bool, key: str = "") -> Traits:
    """How a membership wants its publications: those with the tag `key`, if it is given."""
    return Traits(compact, TagsFilter(FilterNode(cmp="ex", key=key)) if key else None)


@protocol("subscribe.compaction", "subscribe.tags_filter")
def test_each_audience_gets_its_own_bytes(stage: Stage) -> None:
    """By name or by id, all or only what the filter passes; who wants nothing of a round is not written to."""
    wishes = [PLAIN, COMPACT, traits(False, "a"), traits(False, "a"), traits(True, "b"), traits(True, "c")]
    members = [stage.member() for _ in wishes]
    for member, wish in zip(members, wishes, strict=True):
        if stage.hub.join(member, "chat:a", 1, binary=False) is None:
            stage.broker.confirm("chat:a")
        stage.hub.enter(member, "chat:a", wish)
    stage.publish(
        "chat:a", Publication(b"1", tags={"a": ""}), Publication(b"2", tags={"b": ""}), Publication(b"3")
    )
    found = [
        [json.loads(line)["push"] for frame in frames(each) for line in frame.split(b"\n")]
        for each in members
    ]
    data = [[push["pub"]["data"] for push in pushes] for pushes in found]
    assert data == [[1, 2, 3], [1, 2, 3], [1], [1], [2], []]
    assert [{push.get("channel", push.get("id")) for push in pushes} for pushes in found] == [
        {"chat:a"},
        {1},
        {"chat:a"},
        {"chat:a"},
        {1},
        set(),
    ]
    assert stage.metrics.of("fanned_out")[0][0] == 9
    assert len(stage.hub.channels["chat:a"].members) == 5, "equal filters share an audience"


@protocol("subscribe.compaction")
def test_id_of_a_channel_is_never_another_channels(stage: Stage) -> None:
    """Also when the channel was let go and comes again: a client may hold on to the old one."""
    member, seen = stage.member(), set()
    for name in ("chat:a", "chat:b", "chat:a"):
        stage.hub.join(member, name, 1, binary=False)
        seen.add(stage.hub.channels[name].id)
        stage.hub.leave(member, name, PLAIN)
    assert seen == {1, 2, 3}


@protocol("channel.wildcard")
def test_wildcard_is_a_channel_of_its_own_and_says_the_real_one(stage: Stage) -> None:
    """Who has both gets a push for each."""
    member = stage.member()
    for name, pattern in (("chat:a.b", False), ("chat:a.*", True)):
        stage.hub.join(member, name, 1, binary=False, pattern=pattern)
        stage.broker.confirm(name)
        stage.hub.enter(member, name, PLAIN)
    assert stage.broker.patterns == ["chat:a.*"]
    stage.publish("chat:a.b", Publication(b"1"))
    stage.publish("chat:a.*", Publication(b"1", channel="chat:a.b"))
    assert [json.loads(frame)["push"] for frame in frames(member)] == [
        {"channel": "chat:a.b", "pub": {"data": 1}},
        {"channel": "chat:a.*", "pub": {"data": 1, "channel": "chat:a.b"}},
    ]


def test_nothing_is_delivered_between_joining_and_entering(stage: Stage) -> None:
    """The reply that begins the subscription comes first; the channel does not linger away meanwhile."""
    (_,) = stage.joined("chat:a", WEBSOCKET_JSON)
    member = stage.member()
    assert stage.hub.join(member, "chat:a", 1, binary=False)
    stage.publish("chat:a", Publication(b"1"))
    assert frames(member) == []
    stage.hub.leave(_, "chat:a", PLAIN)
    for _tick in range(LINGER + 1):
        stage.hub.tick()
    stage.hub.enter(member, "chat:a", PLAIN)
    stage.publish("chat:a", Publication(b"2"))
    assert len(frames(member)) == 1


def test_latency_is_from_the_publishers_stamp(stage: Stage) -> None:
    """Clocks may differ: it is never negative. Without a stamp there is none."""
    stage.joined("chat:a", WEBSOCKET_JSON)
    now = int(stage.clock.wall() * 1e6)
    stage.publish(
        "chat:a",
        Publication(b"1", sent_us=now - 250_000),
        Publication(b"2"),
        Publication(b"3", sent_us=now + 9),
    )
    assert [seconds for (seconds,) in stage.metrics.of("latency")] == [pytest.approx(0.25), 0.0]


def test_nothing_is_encoded_for_a_channel_without_members(stage: Stage) -> None:
    """While it joins or lingers; what came then is gone, not kept for whoever comes next."""
    member = stage.member()
    stage.hub.join(member, "chat:a", 1, binary=False)
    stage.publish("chat:a", Publication(b"1"))
    stage.broker.confirm("chat:a")
    stage.hub.flush()
    assert (frames(member), stage.metrics.of("fanned_out")) == ([], [])


def test_slow_members_are_told_after_the_round(stage: Stage) -> None:
    """So closing one cannot disturb the writing to the others."""
    members = stage.joined("chat:a", *[WEBSOCKET_JSON] * 4)
    for member in members[::2]:
        assert isinstance(member.transport, RecordingTransport)
        member.transport.full = True
    left: list[Callable[[], None]] = []

    def slow(connection: Connection) -> None:
        left.append(lambda: None)
        stage.hub.leave(connection, "chat:a", PLAIN)

    stage.hub.slow = slow
    stage.publish("chat:a", Publication(b"1"))
    assert [len(frames(member)) for member in members] == [0, 1, 0, 1]
    assert (len(left), stage.hub.subscriptions) == (2, 2)


# Any interleaving.


class LiveBroker(FakeBroker):
    """Knows which subscriptions are open, and which `done`s it still owes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: dict[int, tuple[str, Sink]] = {}
        self.owed: list[Done] = []
        self._handles = 0

    def subscribe(self, channel: str, sink: Sink, done: Done) -> int:
        self._handles += 1
        self.open[self._handles] = (channel, sink)
        self.owed.append(done)
        return self._handles

    def unsubscribe(self, handle: int) -> None:
        del self.open[handle]


CHANNELS = ["chat:a", "chat:b"]
channels = st.sampled_from(CHANNELS)
anyone = st.integers(0, 3)


class Interleavings(RuleBasedStateMachine):
    """Real sessions, dispatcher and hub against a model: what the wire said is what each client believes."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.broker = LiveBroker()
        self.metrics = CountingMetrics()
        self.hub = Hub(self.broker, self.metrics, self.clock, LINGER, ManualTimer(self.clock))
        timing = Timing(ping=1e6, pong=1e6, stale=1e6)
        self.dispatcher = Dispatcher(
            rules(self.clock),
            self.hub,
            self.broker,
            FakeKeys(),
            self.metrics,
            Timers(timing, lambda: 0.5),
            Pacer(self.clock, at_once),
        )
        self.seats: list[Connection | None] = [None] * 4
        self.asked: dict[tuple[Connection, int], tuple[str, str]] = {}
        self.believes: dict[Connection, set[str]] = {}
        self.pending: dict[int, list[int]] = defaultdict(list)
        """What was published and not sent yet, by the handle of the subscription that heard it."""
        self.number = 1

    def say(self, seat: int, command: dict[str, Any]) -> None:
        connection = self.seats[seat]
        if connection is not None:
            self.number += 1
            (method,) = command
            self.asked[connection, self.number] = (method, command[method]["channel"])
            self.dispatcher.received(connection, [json.dumps({"id": self.number, **command}).encode()])
            assert self.read() == {}

    def read(self) -> dict[tuple[Connection, str], list[int]]:
        """Follow what was written; return the publications by connection and channel."""
        found: dict[tuple[Connection, str], list[int]] = {}
        for connection, channels in self.believes.items():
            for frame in frames(connection):
                for line in frame.split(b"\n"):
                    message = json.loads(line)
                    if "push" in message:
                        channel = message["push"]["channel"]
                        assert channel in channels, "a push without a subscription"
                        found.setdefault((connection, channel), []).append(message["push"]["pub"]["data"])
                        continue
                    method, channel = self.asked.pop((connection, message["id"]))
                    if method == "subscribe" and "error" not in message:
                        channels.add(channel)
                    elif method == "unsubscribe":
                        channels.discard(channel)
        return found

    @rule(seat=anyone)
    def arrive(self, seat: int) -> None:
        if self.seats[seat] is None:
            connection = self.dispatcher.opened(ConnectionId(f"c{seat}"), RecordingTransport(), json=True)
            self.seats[seat] = connection
            self.believes[connection] = set()
            self.asked[connection, 1] = ("connect", "")
            self.dispatcher.received(
                connection, [json.dumps({"id": 1, "connect": {"token": TOKEN}}).encode()]
            )
            self.read()

    @rule(seat=anyone)
    def vanish(self, seat: int) -> None:
        connection = self.seats[seat]
        if connection is not None:
            self.seats[seat] = None
            del self.believes[connection]
            self.dispatcher.lost(connection)

    @rule(seat=anyone, channel=channels)
    def subscribe(self, seat: int, channel: str) -> None:
        self.say(seat, {"subscribe": {"channel": channel}})

    @rule(seat=anyone, channel=channels)
    def unsubscribe(self, seat: int, channel: str) -> None:
        self.say(seat, {"unsubscribe": {"channel": channel}})

    @precondition(lambda self: self.broker.owed)
    @rule(which=st.integers(0, 10), error=st.sampled_from([None, None, errors.INTERNAL]))
    def answer(self, which: int, error: ReplyError | None) -> None:
        self.broker.owed.pop(which % len(self.broker.owed))(error)
        assert self.read() == {}

    @rule(channel=channels)
    def publish(self, channel: str) -> None:
        self.number += 1
        for handle, (name, sink) in list(self.broker.open.items()):
            if name == channel:
                self.pending[handle].append(self.number)
                sink.receive(Publication(b"%d" % self.number))
        assert self.read() == {}

    @rule(slow=st.none() | anyone)
    def flush(self, slow: int | None) -> None:
        choked = self.seats[slow] if slow is not None else None
        if choked is not None:
            assert isinstance(choked.transport, RecordingTransport)
            choked.transport.full = True
        expected = {
            (connection, channel): self.pending[handle]
            for handle, (channel, _) in self.broker.open.items()
            for connection, believed in self.believes.items()
            if channel in believed and connection is not choked and self.pending[handle]
        }
        self.hub.flush()
        self.pending.clear()
        assert self.read() == expected
        if choked is not None and slow is not None:
            assert isinstance(choked.transport, RecordingTransport)
            choked.transport.full = False
            if choked.transport.closed is not None:
                self.seats[slow] = None
                del self.believes[choked]

    @rule()
    def tick(self) -> None:
        self.dispatcher.tick()

    @invariant()
    def all_agree(self) -> None:
        """Hub, sessions and what the clients were told."""
        members: dict[Connection, set[str]] = {connection: set() for connection in self.believes}
        waiting: dict[Connection, set[str]] = {connection: set() for connection in self.believes}
        for name, channel in self.hub.channels.items():
            for group in channel.members.values():
                assert group, "an empty group is kept"
                assert channel.state is ChannelState.LIVE
                for connection in group:
                    members[connection].add(name)
            for connection in channel.waiting:
                waiting[connection].add(name)
            assert bool(channel.linger_due) == channel.idle
        for connection, believed in self.believes.items():
            states = {name: sub.state for name, sub in connection.session.subscriptions.items()}
            live = {name for name, state in states.items() if state is SubscriptionState.LIVE}
            assert members[connection] == live == believed
            assert waiting[connection] == set(states) - live
        assert sorted(name for name, _ in self.broker.open.values()) == sorted(self.hub.channels)

    def teardown(self) -> None:
        """Everybody leaves: nothing may be left."""
        for seat in range(len(self.seats)):
            self.vanish(seat)
        self.hub.flush()
        for _ in range(LINGER):
            self.dispatcher.tick()
        for done in self.broker.owed:
            done(None)
        assert (len(self.hub), self.broker.open, self.hub._dirty) == (0, {}, {})
        assert len(self.hub._lingering) == 0
        assert self.dispatcher.connections == {}


TOKEN = token()
TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=60, stateful_step_count=40)


def test_channels_that_never_came_to_life_do_not_linger(stage: Stage) -> None:
    """Or pairs of subscribe and unsubscribe would leave more behind than a connection may have."""
    member = stage.member()
    for number in range(1000):
        stage.hub.join(member, f"chat:{number}", number, binary=False)
        stage.hub.leave(member, f"chat:{number}", PLAIN)
    assert len(stage.hub) == 0
    assert len(stage.broker.unsubscribed) == 1000


def test_lingering_channels_are_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a channel is let go at once."""
    monkeypatch.setattr(hub, "MAX_LINGERING", 10)
    for number in range(30):
        (member,) = stage.joined(f"chat:{number}", WEBSOCKET_JSON)
        stage.hub.leave(member, f"chat:{number}", PLAIN)
    assert len(stage.hub) == 10
    for _ in range(LINGER):
        stage.hub.tick()
    assert len(stage.hub) == 0


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True)])
def test_channel_of_a_namespace_that_came_back_in_another_format_carries_json(
    first: bool, second: bool
) -> None:
    """As long as anyone may be in it who was told so: one publication that is not JSON would break a frame of many."""
    stage = Stage()
    stage.joined("raw:a", WEBSOCKET_PROTOBUF, binary=first)
    members = stage.joined("raw:a", WEBSOCKET_PROTOBUF, binary=second)
    stage.publish("raw:a", Publication(b"\xff"))
    assert stage.metrics.of("publication_dropped") == [("not_json",)]
    assert cast("RecordingTransport", members[0].transport).frames == []


# Traces.


def test_a_delivery_span_ends_once_with_the_number_of_subscribers(stage: Stage) -> None:
    """Whatever their framings, also where the data were cleaned on the way, and where nobody is left no span ends."""
    tracer = RecordingTracer()
    members = stage.joined("chat:a", WEBSOCKET_JSON, WEBSOCKET_JSON, WEBSOCKET_PROTOBUF)
    traced = Publication(b"1", span=tracer.deliver("chat:a", b"traceparent"))
    spaced = Publication(b"\n2", span=tracer.deliver("chat:b", b"traceparent"))
    stage.publish("chat:a", Publication(b"0"), traced, spaced)
    assert tracer.ended == [("deliver chat:a subscribers=3", 0), ("deliver chat:b subscribers=3", 0)]
    for member in members:
        assert len(frames(member)) == 1
        stage.hub.leave(member, "chat:a", PLAIN)
    stage.publish("chat:a", traced)
    assert len(tracer.ended) == 2


@protocol("transport.deflate")
def test_publication_is_compressed_once_for_each_window_that_a_subscriber_has(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes object goes to all who share it, filters or not; what nobody can read is not compressed at all."""
    windows: list[int] = []

    def counted(payload: bytes, window_bits: int) -> bytes:
        windows.append(window_bits)
        return deflate(payload, window_bits)

    monkeypatch.setattr(framing, "deflate", counted)
    wide, narrow = (deflated(WEBSOCKET_JSON, bits, 101) for bits in (12, 9))
    plain = stage.joined("chat:a", WEBSOCKET_JSON)
    large, small = Publication(b'"%b"' % (b"x" * 500)), Publication(b"1")
    stage.publish("chat:a", large)
    assert windows == []
    members = stage.joined("chat:a", wide, wide, narrow)
    filtered = stage.member(wide)
    assert stage.hub.join(filtered, "chat:a", 1, binary=False)
    wanted = TagsFilter(FilterNode(key="kind", cmp="nex"))
    stage.hub.enter(filtered, "chat:a", Traits(wanted=wanted))
    stage.publish("chat:a", large)
    stage.publish("chat:a", small)
    assert sorted(windows) == [9, 12]
    one, two, three, four = (
        cast("RecordingTransport", member.transport).frames for member in [*members, filtered]
    )
    assert one[0] is two[0] is four[0]
    assert (one[0][0], three[0][0], [frame[0] for frame in (one[1], three[1])]) == (0xC1, 0xC1, [0x81, 0x81])
    assert [frame[0] for frame in cast("RecordingTransport", plain[0].transport).frames] == [0x81] * 3
