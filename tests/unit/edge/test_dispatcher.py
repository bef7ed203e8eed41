from __future__ import annotations

import json

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.core import Core, Turns
from tests.fakes.edge import RecordingTransport, believing, token
from tests.fakes.tracing import RecordingTracer
from tests.support.protocol import protocol
from tidewire.edge.framing import WEBSOCKET_PROTOBUF, Framing, deflated
from tidewire.edge.pacer import SLICE
from tidewire.edge.policies.claims import ConnectionClaims, ServerSubscription
from tidewire.edge.policies.tokens import KeyWanted
from tidewire.kernel import errors
from tidewire.kernel.ids import ConnectionId

RPC = {"enabled": True, "methods": [{"name": "*"}]}


@pytest.fixture
def turns() -> Turns:
    """Of a core, as its `later`."""
    return Turns()


@pytest.fixture
def core() -> Core:
    """With the fakes' configuration, rpc and send on."""
    return Core(rpc=RPC, send={"enabled": True})


# Commands and their results.


@protocol("format.malformed", "disconnect.3501")
@pytest.mark.parametrize("payload", [b"", b"nonsense", b"[]", b'{"id":1}\n\n{"id":2}', b'{"id":-1}', b"\xff"])
def test_malformed_frame_closes_with_a_reason(core: Core, payload: bytes) -> None:
    """The reason says what is wrong and never repeats what was sent."""
    client = core.client()
    client.raw(payload)
    assert client.closed == 3501
    assert client.transport.closed is not None
    assert client.transport.closed.reason.startswith("bad request: malformed frame: ")
    assert "nonsense" not in client.transport.closed.reason
    assert client.connection not in core.dispatcher.connections


@protocol("format.malformed")
def test_reason_fits_into_a_close_frame(core: Core) -> None:
    """The path to a wrong field may be of any length, a control frame's reason has 123 bytes."""
    client = core.client()
    deep = {"op": 1}
    for _ in range(40):
        deep = {"nodes": [deep]}  # type: ignore[dict-item]
    client.say({"id": 2, "subscribe": {"channel": "chat:a", "tf": deep}})
    assert client.transport.closed is not None
    assert 100 < len(client.transport.closed.reason.encode()) <= 123


@protocol("format.batches")
def test_replies_that_stand_together_leave_in_one_frame(core: Core) -> None:
    """Also those that the broker refused at once; in the order in which they became known."""
    client = core.client()
    core.broker.refuses = errors.INTERNAL
    client.say(
        {"id": 2, "unsubscribe": {"channel": "chat:a"}},
        {"id": 3, "publish": {"channel": "chat:a", "data": 1}},
        {"id": 4, "history": {"channel": "chat:a"}},
    )
    (frame,) = client.frames()
    assert sorted(json.loads(line)["id"] for line in frame.split("\n")) == [2, 3, 4]


@protocol("format.protobuf")
def test_protobuf_connection_is_answered_in_protobuf(core: Core) -> None:
    """The transport's framing decides both ways."""
    transport = RecordingTransport(WEBSOCKET_PROTOBUF)
    connection = core.dispatcher.opened(ConnectionId("p"), transport, json=False)
    core.dispatcher.received(connection, [b"\x02\x22\x00"])
    assert transport.closed is not None
    assert transport.closed.code == 3501
    assert core.metrics.of("connection_opened") == []


# The end.


def test_lost_connection_leaves_nothing_behind(core: Core) -> None:
    """Late results and ticks find nobody; losing it again changes nothing."""
    client = core.client().subscribe("chat:a")
    client.say(
        {"id": 3, "subscribe": {"channel": "chat:b"}},
        {"id": 4, "publish": {"channel": "chat:a", "data": 1}},
        {"id": 5, "rpc": {"method": "m", "data": 1}},
    )
    core.dispatcher.lost(client.connection)
    core.dispatcher.lost(client.connection)
    assert (core.dispatcher.connections, core.hub.subscriptions) == ({}, 0)
    assert all(len(wheel) == 0 for wheel in core.dispatcher._timers._wheels)
    core.broker.confirm("chat:b")
    core.broker.published[0][3](None)
    core.broker.calls[0][3](b"1")
    core.deliver("chat:a", "x")
    core.run(60)
    assert (len(core.hub), client.closed) == (0, 0)
    assert sorted(core.broker.unsubscribed) == ["chat:a", "chat:b"]


@protocol("close.owed")
def test_what_comes_after_the_close_is_dropped_and_counted(core: Core) -> None:
    """Never carried out: a publish that crosses the close is not stored."""
    client = core.client()
    core.dispatcher.retire(client.connection, errors.SHUTDOWN)
    assert client.closed == 3001
    client.say({"id": 3, "publish": {"channel": "chat:a", "data": 1}}, {"id": 4, "rpc": {"method": "m"}})
    assert (core.broker.published, core.broker.calls) == ([], [])
    assert core.metrics.of("commands_dropped") == [(2,)]
    assert client.heard() == []


@protocol("close.owed", "disconnect.3001")
def test_retired_connection_closes_behind_its_last_reply(core: Core) -> None:
    """What it sends meanwhile is dropped; what it is owed is written before the close."""
    client = core.client()
    client.say({"id": 2, "publish": {"channel": "chat:a", "data": 1}}, {"id": 3, "rpc": {"method": "m"}})
    core.dispatcher.retire(client.connection, errors.SHUTDOWN)
    core.broker.published[0][3](None)
    assert (client.closed, client.heard()) == (0, [{"id": 2, "publish": {}}])
    client.say({"id": 4, "publish": {"channel": "chat:a", "data": 2}})
    core.broker.calls[0][3](b"1")
    assert (client.closed, client.heard()) == (3001, [{"id": 3, "rpc": {"data": 1}}])
    assert len(core.broker.published) == 1
    assert client.connection.disconnect == errors.SHUTDOWN


@protocol("close.slow", "disconnect.3008")
def test_slow_connection_is_closed_once_and_counted_once(core: Core) -> None:
    """Whatever could not be written: a reply, a ping or a push; a neighbour gets its own."""
    by_reply, by_push, fine = (core.client(name).subscribe("chat:a") for name in ("a", "b", "c"))
    by_reply.transport.full = by_push.transport.full = True
    by_reply.say({"id": 3, "history": {"channel": "chat:a"}})
    assert (by_reply.closed, by_push.closed) == (3008, 0)
    core.deliver("chat:a", "x", "y" * 70_000, "z")
    assert (by_push.closed, fine.closed) == (3008, 0)
    assert len(fine.transport.frames) == 3
    assert core.metrics.of("slow_consumer") == [(), ()]
    assert core.hub.subscriptions == 1
    core.dispatcher.slow(by_push.connection)
    assert len(core.metrics.of("slow_consumer")) == 2
    fine.transport.full = True
    core.run(12.5)
    assert fine.closed == 3008


# What is counted.


def test_commands_are_counted_with_their_outcome_and_time(core: Core) -> None:
    """From arrival to reply, the broker's time included."""
    client = core.client()
    client.say(
        {"id": 2, "publish": {"channel": "chat:a", "data": 1}}, {"id": 3, "subscribe": {"channel": "no:a"}}
    )
    core.clock.advance(0.25)
    core.broker.published[0][3](None)
    assert core.metrics.of("command") == [
        ("connect", 0, 0.0),
        ("subscribe", 102, 0.0),
        ("publish", 0, 0.25, 1),
    ]
    assert client.connection.commands == 3
    assert core.metrics.of("connection_opened") == [("json", "none")]


@pytest.mark.parametrize(
    ("framing", "compression"),
    [(WEBSOCKET_PROTOBUF, "none"), (deflated(WEBSOCKET_PROTOBUF, 15, 512), "deflate")],
)
def test_format_of_an_opened_connection_is_counted(core: Core, framing: Framing, compression: str) -> None:
    """Once it is authenticated."""
    transport = RecordingTransport(framing)
    connection = core.dispatcher.opened(ConnectionId("p"), transport, json=False)
    text = token().encode()
    request = b"\x0a" + _varint(len(text)) + text
    command = b"\x08\x01\x22" + _varint(len(request)) + request
    core.dispatcher.received(connection, [_varint(len(command)) + command])
    assert core.metrics.of("connection_opened") == [("protobuf", compression)]
    assert transport.frames[0].startswith(b"\x82")


def _varint(number: int) -> bytes:
    return bytes((number,)) if number < 128 else bytes((number & 127 | 128, number >> 7))


# Users and keys.

NOW = int(ManualClock().wall())


def test_connection_is_found_by_its_user_until_it_ends_in_whatever_way() -> None:
    """Lost, mistaken, slow, retired, silent, expired; anonymous ones are never found."""
    core = Core(client={"expired_close_delay": "0s"})
    lost, mistaken, slow, retired, silent = map(core.client, ("a", "b", "c", "d", "e"))
    expired = core.client("f", exp=NOW + 1)
    core.client("")
    assert len(core.dispatcher.users) == 6
    core.dispatcher.lost(lost.connection)
    mistaken.raw(b"nonsense")
    core.dispatcher.slow(slow.connection)
    core.dispatcher.retire(retired.connection, errors.SHUTDOWN)
    assert [core.dispatcher.users.has(user) for user in "abcdef"] == [False] * 4 + [True] * 2
    core.run(1.1)
    assert (expired.closed, core.dispatcher.users.has("f")) == (3005, False)
    core.run(11.4 + 8)
    assert (silent.closed, len(core.dispatcher.users)) == (3012, 0)


@protocol("connect.subs")
@pytest.mark.parametrize("end", ["lost", "stale", "refused", "mistake"])
def test_connection_that_ends_while_its_connect_command_waits_leaves_nothing_behind(end: str) -> None:
    """It is found by its user from then on, and so are its subscriptions."""
    core = Core()
    believing(core.rules, t=ConnectionClaims("alice", subs={"chat:a": ServerSubscription()}))
    client = core.client(None)
    client.say({"id": 1, "connect": {"token": "t"}})
    assert (core.dispatcher.users.has("alice"), len(core.hub)) == (True, 1)
    if end == "lost":
        core.dispatcher.lost(client.connection)
    elif end == "mistake":
        client.say({})
    elif end == "stale":
        core.run(10)
    else:
        core.broker.confirm("chat:a", errors.INTERNAL)
        assert client.heard()[0]["error"]["code"] == 100
        core.run(10)
    assert client.closed == {"lost": 0, "mistake": 3501}.get(end, 3502)
    assert (len(core.dispatcher.users), len(core.hub), core.dispatcher.connections) == (0, 0, {})
    assert all(len(wheel) == 0 for wheel in core.dispatcher._timers._wheels)


def test_command_waits_for_keys_and_is_judged_again_when_the_fetch_is_over(core: Core) -> None:
    """The fetcher hears the source once; other connections go on."""
    tokens = believing(core.rules, w=KeyWanted("keys"), b=ConnectionClaims("bob"))
    client, bob = core.client(None), core.client(None)
    client.say({"id": 1, "connect": {"token": "w"}}, {"id": 2, "unsubscribe": {"channel": "chat:a"}})
    bob.say({"id": 1, "connect": {"token": "b"}})
    assert (client.frames(), len(bob.heard())) == ([], 1)
    ((source, done),) = core.keys.wanted
    assert source == "keys"
    tokens.verdicts["w"] = ConnectionClaims("alice")
    done()
    assert [reply["id"] for reply in client.heard()] == [1, 2]
    assert core.dispatcher.users.has("alice")
    assert len(core.keys.wanted) == 1


def test_keys_that_arrive_for_a_connection_that_is_gone_are_nobodys(core: Core) -> None:
    """Lost while they were fetched."""
    tokens = believing(core.rules, w=KeyWanted("keys"))
    client = core.client(None)
    client.say({"id": 1, "connect": {"token": "w"}})
    core.dispatcher.lost(client.connection)
    tokens.verdicts["w"] = ConnectionClaims("alice")
    core.keys.wanted[0][1]()
    assert (client.frames(), len(core.dispatcher.users)) == ([], 0)


def test_commands_that_waited_for_keys_go_on_in_slices(turns: Turns) -> None:
    """Each checks a signature, and thousands may have waited for the same keys."""
    core = Core(later=turns.later)
    tokens = believing(core.rules, t=KeyWanted("https://issuer"))
    clients = [core.client(None) for _ in range(3)]
    for client in clients:
        client.say({"id": 1, "connect": {"token": "t"}})
    tokens.verdicts["t"] = ConnectionClaims("alice")
    for _, done in core.keys.wanted:
        done()
    core.clock.costs = SLICE / 2
    assert [client.heard() for client in clients] == [[], [], []]
    turns.turn()
    assert [len(client.heard()) for client in clients] == [1, 0, 0]
    core.clock.costs = 0.0
    turns.turn()
    assert [len(client.heard()) for client in clients] == [0, 1, 1]


@protocol("disconnect.3504")
def test_who_could_not_be_connected_keeps_nobody_out() -> None:
    """Its socket may stay for seconds after the error; the user's next attempt must not be told that it is connected."""
    core = Core(client={"single_connection": "refuse"})
    failed = core.client(None)
    failed.say({"id": 1, "connect": {"token": token(channels=["chat:x"])}})
    core.broker.confirm("chat:x", errors.INTERNAL)
    assert failed.heard()[0]["error"]["code"] == 100
    assert failed.closed == 0
    core.client()
    third = core.client(None)
    third.say({"id": 1, "connect": {"token": token()}})
    assert third.closed == 3504


# Traces.


@pytest.fixture
def tracer() -> RecordingTracer:
    """Everything is traced."""
    return RecordingTracer()


@pytest.fixture
def traced(tracer: RecordingTracer) -> Core:
    """A core with that tracer."""
    return Core(rpc=RPC, tracer=tracer)


def test_answers_are_told_with_their_beginning(traced: Core, tracer: RecordingTracer) -> None:
    """From the command to the reply, the broker's part included; so are refusals."""
    client = traced.client()
    client.say({"id": 2, "subscribe": {"channel": "chat:a"}})
    traced.run(2)
    traced.broker.confirm("chat:a")
    client.say({"id": 3, "subscribe": {"channel": "closed:a"}})
    assert [(method, round(started), code) for method, started, code in tracer.answers] == [
        ("connect", 1000, 0),
        ("subscribe", 1000, 0),
        ("subscribe", 1002, 103),
    ]


def test_a_close_that_answers_connect_is_told_once(traced: Core, tracer: RecordingTracer) -> None:
    """A token that is no good closes; one that has expired is answered, and its later close answers nothing."""
    traced.client(None).say({"id": 1, "connect": {"token": token(key="x" * 64)}})
    assert tracer.answers == [("connect", 1000.0, 3500)]
    expired = traced.client(None)
    expired.say({"id": 1, "connect": {"token": token(exp=1)}})
    traced.run(11)
    assert expired.closed == 3502
    assert tracer.answers[1:] == [("connect", 1000.0, 109)]


def test_a_close_for_other_reasons_answers_no_connect(traced: Core, tracer: RecordingTracer) -> None:
    """Whoever says nothing has sent no command, and whoever is connected has had the answer."""
    silent, client = traced.client(None), traced.client()
    traced.run(11)
    client.say({"id": 2, "connect": {}})
    assert (silent.closed, client.closed) == (3502, 3501)
    assert [code for _, _, code in tracer.answers] == [0]
