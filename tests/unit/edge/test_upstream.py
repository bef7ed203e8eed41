from __future__ import annotations

import pytest

from tests.fakes.core import Core
from tests.fakes.tracing import RecordingTracer
from tests.support.protocol import protocol
from tidewire.edge.ports import Publication
from tidewire.kernel import errors

RPC = {"enabled": True, "methods": [{"name": "*"}]}


@pytest.fixture
def core() -> Core:
    """With the fakes' configuration, rpc and send on."""
    return Core(rpc=RPC, send={"enabled": True})


@pytest.fixture
def tracer() -> RecordingTracer:
    """Everything is traced."""
    return RecordingTracer()


@pytest.fixture
def traced(tracer: RecordingTracer) -> Core:
    """A core with that tracer."""
    return Core(rpc=RPC, tracer=tracer)


@protocol("command.publish", "publish.own", "error.100")
def test_publish_is_answered_when_the_broker_has_it(core: Core) -> None:
    """The push to oneself, which the broker delivers first, stands before the reply."""
    client = core.client(info={"name": "A"}).subscribe("chat:a")
    client.say({"id": 3, "publish": {"channel": "chat:a", "data": {"t": 1}}})
    assert client.frames() == []
    ((channel, data, info, done),) = core.broker.published
    assert (channel, data) == ("chat:a", b'{"t": 1}')
    core.broker.sink("chat:a").receive(Publication(data, info))
    core.hub.flush()
    done(None)
    push, reply = client.heard()
    assert push["push"]["pub"]["data"] == {"t": 1}
    assert push["push"]["pub"]["info"]["conn_info"] == {"name": "A"}
    assert reply == {"id": 3, "publish": {}}
    client.say({"id": 4, "publish": {"channel": "chat:a", "data": 1}})
    core.broker.published[1][3](errors.INTERNAL)
    assert client.heard()[0]["error"] == {"code": 100, "message": "internal server error", "temporary": True}


@protocol("publish.order")
def test_publications_of_a_connection_reach_the_broker_in_order(core: Core) -> None:
    """Within a frame and over frames."""
    client = core.client()
    client.say(*({"id": n, "publish": {"channel": "chat:a", "data": n}} for n in (2, 3, 4)))
    client.say({"id": 5, "publish": {"channel": "chat:b", "data": 5}})
    assert [(channel, data) for channel, data, _, _ in core.broker.published] == [
        ("chat:a", b"2"),
        ("chat:a", b"3"),
        ("chat:a", b"4"),
        ("chat:b", b"5"),
    ]


@protocol("command.publish")
def test_publications_of_one_turn_are_answered_in_one_frame(core: Core) -> None:
    """Each connection's own, in their order, over the frames in which they came; those of the next turn wait for theirs."""
    one, other = core.client(), core.client("bob")
    core.broker.same_turn = 1
    one.say(*({"id": n, "publish": {"channel": "chat:a", "data": n}} for n in (2, 3)))
    other.say({"id": 9, "publish": {"channel": "chat:a", "data": 9}})
    one.say({"id": 4, "publish": {"channel": "chat:a", "data": 4}})
    core.broker.same_turn = 2
    one.say({"id": 5, "publish": {"channel": "chat:a", "data": 5}})
    done = [done for _, _, _, done in core.broker.published]
    done[1](None)
    assert one.frames() == ['{"id":2,"publish":{}}\n{"id":3,"publish":{}}\n{"id":4,"publish":{}}']
    assert other.frames() == ['{"id":9,"publish":{}}']
    done[4](errors.INTERNAL)
    assert [reply["id"] for reply in one.heard() if "error" in reply] == [5]


@protocol("command.publish")
def test_a_publication_behind_the_answer_of_its_turn_has_one_of_its_own(core: Core) -> None:
    """The broker may know at once that it will never know: then nothing more is added to what was answered."""
    client = core.client()
    core.broker.same_turn = 1
    client.say({"id": 2, "publish": {"channel": "chat:a", "data": 2}})
    core.broker.published[0][3](errors.INTERNAL)
    assert client.heard()[0]["error"]["code"] == 100
    client.say({"id": 3, "publish": {"channel": "chat:a", "data": 3}})
    assert client.heard() == []
    core.broker.published[1][3](None)
    assert client.heard() == [{"id": 3, "publish": {}}]


@protocol("command.publish", "error.107")
def test_one_of_those_published_together_that_the_broker_does_not_take_costs_no_other_anything() -> None:
    """Then each goes by itself."""
    core = Core()
    core.broker.too_large = b'"large"'
    client = core.client()
    core.broker.same_turn = 1
    client.say(
        *(
            {"id": n, "publish": {"channel": "chat:a", "data": data}}
            for n, data in ((2, 1), (3, "large"), (4, 3))
        )
    )
    assert [data for _, data, _, _ in core.broker.published] == [b"1", b"3"]
    assert [(reply["id"], reply["error"]["code"]) for reply in client.heard()] == [(3, 107)]
    core.broker.published[0][3](None)
    assert client.heard() == [{"id": 2, "publish": {}}, {"id": 4, "publish": {}}]
    assert client.connection.session.party.owed == 0


def test_what_goes_wrong_with_one_connection_costs_no_other_its_answer(core: Core) -> None:
    """And the error is not hidden."""
    core.broker.same_turn = 1
    clients = [core.client(f"user{number}") for number in range(4)]
    for client in clients:
        client.say({"id": 2, "publish": {"channel": "chat:a", "data": 1}})

    def broken(_frame: bytes) -> bool:
        raise RuntimeError("a defect")

    clients[0].transport.send = clients[2].transport.send = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="a defect"):
        core.broker.published[0][3](None)
    assert clients[1].heard() == clients[3].heard() == [{"id": 2, "publish": {}}]


def test_each_of_those_published_together_has_a_trace_of_its_own(
    traced: Core, tracer: RecordingTracer
) -> None:
    """Where anything is traced at all."""
    client = traced.client()
    traced.broker.same_turn = 1
    client.say(*({"id": n, "publish": {"channel": "chat:a", "data": n}} for n in (2, 3)))
    assert traced.broker.traces == [b"publish chat:a"] * 2
    traced.broker.published[0][3](None)
    assert tracer.ended == [("publish chat:a", 0)] * 2


@protocol("command.rpc", "command.send")
def test_calls_and_messages_go_to_the_broker(core: Core) -> None:
    """A message that cannot be handed on is counted, since nobody can be told."""
    client = core.client()
    client.say({"id": 2, "rpc": {"method": "m", "data": [1]}}, {"send": {"data": {"a": 1}}})
    ((method, user, data, done),) = core.broker.calls
    assert (method, user, data, core.broker.sent) == ("m", "alice", b"[1]", [b'{"a": 1}'])
    assert core.metrics.of("messages_unsent") == []
    done(b'{"ok":true}')
    assert client.heard() == [{"id": 2, "rpc": {"data": {"ok": True}}}]
    core.broker.refuses = errors.INTERNAL
    client.say({"id": 3, "rpc": {"method": "m", "data": 1}}, {"send": {"data": 1}})
    assert client.heard()[0]["error"]["code"] == 100
    assert core.metrics.of("messages_unsent") == [(1,)]


@pytest.mark.parametrize(("error", "code"), [(None, 0), (errors.INTERNAL, 100)])
def test_a_publication_carries_its_trace_until_the_broker_answers(
    traced: Core, tracer: RecordingTracer, error: errors.ReplyError | None, code: int
) -> None:
    """The span ends with the broker's answer, once."""
    client = traced.client()
    client.say({"id": 2, "publish": {"channel": "chat:a", "data": 1}})
    assert traced.broker.traces == [b"publish chat:a"]
    assert tracer.ended == []
    traced.broker.published[0][3](error)
    assert tracer.ended == [("publish chat:a", code)]


@pytest.mark.parametrize(("answer", "code"), [(b"1", 0), (b"", 0), (errors.METHOD_NOT_FOUND, 104)])
def test_a_call_carries_its_trace_until_the_responder_answers(
    traced: Core, tracer: RecordingTracer, answer: bytes | errors.ReplyError, code: int
) -> None:
    """The same for calls."""
    client = traced.client()
    client.say({"id": 2, "rpc": {"method": "sum", "data": 1}})
    assert traced.broker.traces == [b"rpc sum"]
    assert tracer.ended == []
    traced.broker.calls[0][3](answer)
    assert tracer.ended == [("rpc sum", code)]


def test_what_the_broker_does_not_take_ends_its_span_at_once(traced: Core, tracer: RecordingTracer) -> None:
    """With the code of the reply."""
    traced.broker.refuses = errors.INTERNAL
    traced.client().say(
        {"id": 2, "publish": {"channel": "chat:a", "data": 1}}, {"id": 3, "rpc": {"method": "sum", "data": 1}}
    )
    assert tracer.ended == [("publish chat:a", 100), ("rpc sum", 100)]


def test_an_answer_after_the_connection_is_gone_still_ends_the_span(
    traced: Core, tracer: RecordingTracer
) -> None:
    """What NATS did is worth knowing, whoever has left."""
    client = traced.client()
    client.say({"id": 2, "publish": {"channel": "chat:a", "data": 1}})
    traced.dispatcher.lost(client.connection)
    traced.broker.published[0][3](None)
    assert tracer.ended == [("publish chat:a", 0)]
