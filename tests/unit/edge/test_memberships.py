from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.core import Core, Turns
from tests.fakes.edge import NAMESPACES, OPEN, believing, edge_config
from tests.support.protocol import protocol
from tidewire.edge.pacer import SLICE
from tidewire.edge.policies.claims import ConnectionClaims, ServerSubscription
from tidewire.edge.ports import Publication
from tidewire.edge.timers import Timing
from tidewire.edge.wire.json_codec import JSON
from tidewire.kernel import errors


@pytest.fixture
def turns() -> Turns:
    """Of a core, as its `later`."""
    return Turns()


@pytest.fixture
def core() -> Core:
    """With the fakes' configuration."""
    return Core()


@protocol("subscribe.order")
def test_no_publication_stands_before_the_subscribe_reply(core: Core) -> None:
    """Neither on a channel that the edge does not hear yet, nor on one that it does."""
    first = core.client()
    first.say({"id": 2, "subscribe": {"channel": "chat:a"}})
    core.deliver("chat:a", "early")
    assert first.frames() == []
    core.broker.sink("chat:a").receive(Publication(b'"same read"'))
    core.broker.confirm("chat:a")
    core.hub.flush()
    assert [list(message) for message in first.heard()] == [["id", "subscribe"], ["push"]]
    second = core.client("bob")
    core.broker.sink("chat:a").receive(Publication(b'"pending"'))
    second.say({"id": 2, "subscribe": {"channel": "chat:a"}}, {"id": 3, "history": {"channel": "chat:a"}})
    core.hub.flush()
    assert [message.get("id") for message in second.heard()] == [3, 2, None]


@protocol("subscribe.pairs")
@pytest.mark.parametrize("last", ["subscribe", "unsubscribe"])
@pytest.mark.parametrize("live", [False, True])
def test_pairs_sent_without_waiting_end_in_the_last_state(core: Core, last: str, live: bool) -> None:
    """Each command is answered once, whether or not the channel is heard already."""
    if live:
        core.client("bob").subscribe("chat:a")
    client = core.client()
    steps = ["subscribe", "unsubscribe"] * 10 + (["subscribe"] if last == "subscribe" else [])
    client.say(*({"id": number, step: {"channel": "chat:a"}} for number, step in enumerate(steps, 2)))
    if not live:
        core.broker.confirm("chat:a")
    replies = client.heard()
    assert sorted(reply["id"] for reply in replies) == list(range(2, 2 + len(steps)))
    assert not any("error" in reply for reply in replies)
    core.deliver("chat:a", "x")
    assert len(client.heard()) == (1 if last == "subscribe" else 0)
    assert core.hub.subscriptions == int(live) + int(last == "subscribe")


@protocol("error.100")
def test_subscribe_that_fails_is_an_error_and_can_be_tried_again(core: Core) -> None:
    """For everybody who waits on the channel."""
    clients = [core.client("a"), core.client("b")]
    for client in clients:
        client.say({"id": 2, "subscribe": {"channel": "chat:a"}})
    core.broker.confirm("chat:a", errors.INTERNAL)
    assert [client.heard()[0]["error"]["code"] for client in clients] == [100, 100]
    assert len(core.hub) == 0
    clients[0].subscribe("chat:a", 3)
    assert core.hub.subscriptions == 1


@protocol("connect.subs", "subscribe.order")
@pytest.mark.parametrize("live", [False, True])
def test_no_publication_stands_before_the_connect_reply(live: bool) -> None:
    """Whether or not the edge hears the channel already; what stood behind the command comes after the reply."""
    core = Core()
    believing(
        core.rules,
        t=ConnectionClaims("alice", subs={"chat:a": ServerSubscription()}),
        b=ConnectionClaims("bob"),
    )
    if live:
        bob = core.client(None)
        bob.say({"id": 1, "connect": {"token": "b"}})
        bob.heard()
        bob.subscribe("chat:a")
    client = core.client(None)
    client.say({"id": 1, "connect": {"token": "t"}}, {"id": 2, "unsubscribe": {"channel": "chat:b"}})
    if not live:
        core.deliver("chat:a", "early")
        assert client.frames() == []
        core.broker.confirm("chat:a")
    core.deliver("chat:a", "late")
    connected, unsubscribed, push = client.heard()
    assert connected["connect"]["subs"] == {"chat:a": {}}
    assert (unsubscribed["id"], push["push"]["pub"]["data"]) == (2, "late")


@protocol("disconnect.3501")
@pytest.mark.parametrize("command", [{"id": 9, "connect": {}}, {"publish": {"channel": "chat:a", "data": 1}}])
def test_mistake_behind_a_subscribe_in_one_frame_closes_and_leaves_nothing_behind(
    core: Core, command: dict[str, Any]
) -> None:
    """The edge hears the channel already, so the result of the join is known at once, and comes too late."""
    core.client("bob").subscribe("chat:a")
    client = core.client()
    client.say({"id": 2, "subscribe": {"channel": "chat:a"}}, command)
    assert (client.closed, client.frames(), core.hub.subscriptions) == (3501, [], 1)
    core.deliver("chat:a", "x")
    assert client.frames() == []


@protocol("channel.wildcard")
def test_pattern_is_heard_as_one_where_the_namespace_has_wildcards(core: Core) -> None:
    """Elsewhere the star is a letter."""
    core.client().subscribe("stocks:*").subscribe("chat:*", 3).subscribe("stocks:a", 4)
    assert core.broker.patterns == ["stocks:*"]
    assert [channel for channel, _, _ in core.broker.subscribed.values()] == [
        "stocks:*",
        "chat:*",
        "stocks:a",
    ]


@protocol("unsubscribe.2000")
def test_subscriptions_of_a_namespace_that_is_gone_end_in_slices(turns: Turns) -> None:
    """The others stay, and so do those of a namespace that is back before its turn."""
    core = Core(later=turns.later)
    clients = [core.client() for _ in range(4)]
    for client in clients:
        client.subscribe("chat:a").subscribe("public:a", 3)
        client.heard()
    timing = Timing(ping=25.0, pong=8.0, stale=10.0)
    without = [each for each in NAMESPACES if each["name"] != "chat"]
    core.rules.configure(edge_config(channel={"namespaces": without, "without_namespace": OPEN}))
    core.dispatcher.reconfigured(timing)
    core.clock.costs = SLICE / 2
    turns.turn()
    gone = {"channel": "chat:a", "unsubscribe": {"code": 2000, "reason": "the channel's namespace is gone"}}
    heard = [client.heard() for client in clients]
    assert heard[0] == [{"push": gone}]
    assert heard[-1] == []
    core.rules.configure(edge_config())
    core.dispatcher.reconfigured(timing)
    core.clock.costs = 0.0
    turns.turn()
    assert [client.heard() for client in clients] == [[], [], [], []]
    core.deliver("chat:a", 1)
    core.deliver("public:a", 2)
    assert [len(client.heard()) for client in (clients[0], clients[-1])] == [1, 2]


def test_channel_whose_namespace_goes_between_the_command_and_its_effect_is_not_joined(core: Core) -> None:
    """The command is answered with what holds by now."""
    client = core.client()
    (command,) = JSON.decode(b'{"id":2,"subscribe":{"channel":"chat:a"}}')
    effects = client.connection.session.receive([command])
    without = [each for each in NAMESPACES if each["name"] != "chat"]
    core.rules.configure(edge_config(channel={"namespaces": without, "without_namespace": OPEN}))
    core.dispatcher.perform(client.connection, effects)
    assert client.heard()[0]["error"]["code"] == 102
    assert len(core.hub) == 0
