from __future__ import annotations

import pytest

from tests.fakes.attendance import PresentCore, pushed
from tests.fakes.edge import RecordingTransport
from tests.support.protocol import protocol
from tidewire.edge import lobby
from tidewire.edge.framing import WEBSOCKET_PROTOBUF
from tidewire.edge.lobby import LINGER_TICKS
from tidewire.kernel.presence_wire import Event
from tidewire.rpc.centrifuge.v2 import client_pb2 as pb


def event(change: str, client: str, user: str = "bob", **infos: bytes) -> Event:
    """Of another edge."""
    return Event(1, "join" if change == "join" else "leave", client, user, **infos)


@protocol("subscribe.join_leave")
def test_own_join_follows_the_reply_and_anothers_leave_its_end() -> None:
    """With the info that the tokens give; `info` is there even where nobody has one."""
    core = PresentCore()
    alice = core.join("room:a", info={"n": 1})
    core.relay()
    (push,) = alice.heard()
    who = {"user": "alice", "client": "c0", "conn_info": {"n": 1}}
    assert push == {"push": {"channel": "room:a", "join": {"info": who}}}
    bob = core.let_in(core.client("bob"), "room:a")
    core.relay()
    assert pushed(alice) == [("join", "c1")]
    core.dispatcher.lost(bob.connection)
    core.relay()
    assert pushed(alice) == [("leave", "c1")]
    assert bob.heard() == []


def test_each_format_is_encoded_once_and_a_read_is_one_frame() -> None:
    """The same bytes go to all, in order."""
    core = PresentCore()
    first, second = core.join("room:a"), core.join("room:a")
    other = RecordingTransport(WEBSOCKET_PROTOBUF)
    third = core.join("room:a")
    core.lobby.unhear(third.connection, "room:a")
    third.connection.transport = other
    core.lobby.hear(third.connection, "room:a")
    core.hear_event("room:a", event("join", "x", conn_info=b'{"a": 1}'), event("leave", "x"))
    assert len(first.transport.frames) == len(second.transport.frames) == len(other.frames) == 1
    assert first.transport.frames[0] is not None
    assert first.transport.frames == second.transport.frames
    assert pushed(first) == [("join", "x"), ("leave", "x")]
    data = other.frames[0][2:]
    reply = pb.Reply.FromString(data[1 : 1 + data[0]])
    assert (reply.push.channel, reply.push.join.info.client) == ("room:a", "x")
    assert reply.push.join.info.conn_info == b'{"a": 1}'


def test_what_a_client_undoes_within_a_batch_is_told_to_nobody() -> None:
    """A loop of subscribe and unsubscribe is no flood for all the others."""
    core = PresentCore()
    watcher = core.join("room:a")
    core.relay()
    assert pushed(watcher) == [("join", "c0")]
    toggler = core.client("mallory")
    for _ in range(50):
        core.let_in(toggler, "room:a")
        toggler.say({"id": 3, "unsubscribe": {"channel": "room:a"}})
        toggler.heard()
    core.relay()
    assert pushed(watcher) == []
    assert len([outcome for (outcome,) in core.metrics.of("event_told") if outcome == "undone"]) == 50


def test_more_than_may_wait_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch has a bound."""
    monkeypatch.setattr(lobby, "MAX_PENDING", 3)
    core = PresentCore()
    for number in range(4):
        core.join(f"room:{number}")
    assert len(core.wire.told) == 3


def test_while_nats_is_away_events_are_gone_and_counted() -> None:
    """Nothing is kept for later."""
    core = PresentCore()
    core.wire.away = True
    core.join("room:a")
    core.relay()
    core.wire.away = False
    core.relay()
    assert core.wire.told == []
    assert ("lost",) in core.metrics.of("event_told")


def test_leave_that_comes_again_is_told_once() -> None:
    """Of the edge itself and of several replicas; after a join it is a new one."""
    core = PresentCore()
    watcher = core.join("room:a")
    core.relay()
    watcher.heard()
    core.hear_event("room:a", *[event("leave", "x")] * 3)
    assert pushed(watcher) == [("leave", "x")]
    core.hear_event("room:a", event("join", "x"), event("leave", "x"))
    assert pushed(watcher) == [("join", "x"), ("leave", "x")]
    assert core.metrics.of("event_heard") == [("repeated",)] * 2


def test_leave_is_news_where_its_join_could_not_be_heard() -> None:
    """Nobody here wanted to know when the client came back, and the list of who asks now shows it."""
    core = PresentCore()
    watcher = core.join("room:a")
    core.hear_event("room:a", event("leave", "x"))
    core.dispatcher.lost(watcher.connection)
    core.run(LINGER_TICKS / 10)
    assert core.lobby.rooms == {}
    again = core.join("room:a")
    core.hear_event("room:a", event("leave", "x"))
    assert pushed(again) == [("leave", "x")]


def test_leave_is_news_where_its_join_went_by_while_nats_was_away() -> None:
    """The client has come back meanwhile."""
    core = PresentCore()
    watcher = core.join("room:a")
    core.hear_event("room:a", event("leave", "x"))
    core.presence.beat()
    core.hear_event("room:a", event("leave", "x"))
    assert pushed(watcher) == [("leave", "x")] * 2


def test_leave_is_not_remembered_for_ever() -> None:
    """A join may be lost in other ways; replicas that repeat leaves do so within seconds."""
    core = PresentCore()
    watcher = core.join("room:a")
    core.hear_event("room:a", event("leave", "x"))
    core.run(lobby.REPEATED_WITHIN - 1)
    core.hear_event("room:a", event("leave", "x"))
    assert pushed(watcher) == [("leave", "x")]
    core.run(2)
    core.hear_event("room:a", event("leave", "x"))
    assert pushed(watcher) == [("leave", "x")]


def test_memory_of_leaves_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten, and could come again."""
    monkeypatch.setattr(lobby, "MAX_REMEMBERED", 2)
    core = PresentCore()
    watcher = core.join("room:a")
    core.hear_event("room:a", *(event("leave", name) for name in "xyz"))
    assert len(core.lobby._gone) == 2
    core.hear_event("room:a", event("leave", "y"))
    core.hear_event("room:a", event("leave", "x"))
    assert [client for _, client in pushed(watcher)] == ["x", "y", "z", "x"]


def test_leave_of_a_client_that_is_here_is_taken_back() -> None:
    """The edge was taken for dead: all others are told of the join again."""
    core = PresentCore()
    watcher = core.join("room:a")
    core.relay()
    watcher.heard()
    core.hear_event("room:a", event("leave", "c0", "alice"))
    assert pushed(watcher) == []
    assert [(each.change, each.client) for _, each in core.wire.told] == [("join", "c0")]


def test_own_leave_that_comes_back_late_is_not_taken_for_a_wrong_one() -> None:
    """The client has subscribed again meanwhile: nothing is told twice."""
    core = PresentCore()
    watcher = core.join("room:a")
    core.relay()
    bob = core.let_in(core.client("bob"), "room:a")
    core.relay()
    watcher.heard()
    bob.say({"id": 3, "unsubscribe": {"channel": "room:a"}})
    core.turns.turn()
    ((_, leave),) = core.wire.told
    core.wire.told = []
    bob.heard()
    core.let_in(bob, "room:a")
    core.hear_event("room:a", leave)
    assert core.wire.told == []
    core.relay()
    assert pushed(watcher) == [("join", "c1")]


def test_channel_is_heard_while_somebody_wants_that_and_a_while_longer() -> None:
    """A short visit costs NATS nothing; nobody is told of what nobody wants to know."""
    core = PresentCore()
    alice = core.join("room:a")
    bob = core.join("room:a")
    core.let_in(core.client("carol"), "room:b")
    assert [name for name, _ in core.wire.heard.values()] == ["room:a"]
    core.dispatcher.lost(alice.connection)
    core.dispatcher.lost(bob.connection)
    core.run((LINGER_TICKS - 1) / 10)
    again = core.join("room:a")
    core.run(LINGER_TICKS / 10 + 1)
    assert core.wire.unheard == []
    core.dispatcher.lost(again.connection)
    core.run(LINGER_TICKS / 10)
    assert core.wire.unheard == ["room:a"]
    assert core.lobby.rooms == {}


def test_lingering_channels_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones are let go at once."""
    monkeypatch.setattr(lobby, "MAX_LINGERING", 1)
    core = PresentCore()
    for name in ("room:a", "room:b"):
        core.dispatcher.lost(core.join(name).connection)
    assert core.wire.unheard == ["room:b"]


def test_subscriber_that_does_not_read_is_closed() -> None:
    """As for publications."""
    core = PresentCore()
    slow, quick = core.join("room:a"), core.join("room:a")
    slow.transport.full = True
    core.hear_event("room:a", event("join", "x"))
    assert slow.closed == 3008
    assert quick.closed == 0


@protocol("option.join_leave_debounce")
def test_leaves_are_held_back_where_the_namespace_says_so() -> None:
    """A user that is back in time causes neither a leave nor a join; who stays away is gone after that time."""
    core = PresentCore()
    watcher = core.join("calm:a")
    bob = core.let_in(core.client("bob"), "calm:a")
    core.relay()
    watcher.heard()
    core.dispatcher.lost(bob.connection)
    core.relay()
    core.run(0.8)
    bob = core.let_in(core.client("bob"), "calm:a")
    core.relay()
    core.run(2)
    assert pushed(watcher) == []
    core.dispatcher.lost(bob.connection)
    core.relay()
    core.run(0.9)
    assert pushed(watcher) == []
    core.run(0.2)
    assert pushed(watcher) == [("leave", "c1"), ("leave", "c2")]
    core.run(0.1)
    assert core.lobby.held == 0


def test_leaves_that_are_held_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones are told at once."""
    monkeypatch.setattr(lobby, "MAX_HELD", 1)
    core = PresentCore()
    watcher = core.join("calm:a")
    core.hear_event("calm:a", event("leave", "x"), event("leave", "y"))
    assert pushed(watcher) == [("leave", "y")]
    assert core.lobby.held == 1


def test_joins_and_leaves_are_told_without_a_presence_service() -> None:
    """Edges need none for that."""
    core = PresentCore(service=False)
    watcher = core.let_in(core.client(), "loud:a")
    core.relay()
    assert pushed(watcher) == [("join", "c0")]
    assert core.wire.deltas == []


def test_info_that_is_no_json_reaches_nobody() -> None:
    """A frame that no SDK can read would end the connections of all subscribers."""
    core = PresentCore()
    watcher = core.join("room:a")
    core.hear_event("room:a", event("join", "x", conn_info=b'{"a":', chan_info=b'"\n"'))
    (push,) = watcher.heard()
    assert push["push"]["join"]["info"] == {"user": "bob", "client": "x"}
