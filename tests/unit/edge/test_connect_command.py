from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import Raw

from tests.fakes.edge import RecordingTransport
from tests.fakes.sessions import CONNECT, PUBLISH, Client, kinds, owner
from tests.support.protocol import protocol
from tidewire.edge.admission import Grant
from tidewire.edge.connection import Connection
from tidewire.edge.effects import (
    Answer,
    AskOthers,
    Close,
    Dropped,
    Enter,
    ExpireIn,
    Identified,
    Join,
    Leave,
    Opened,
    Publish,
)
from tidewire.edge.policies.claims import ConnectionClaims, ServerSubscription
from tidewire.edge.session import Session
from tidewire.edge.session_state import SessionState
from tidewire.edge.wire.protobuf_codec import PROTOBUF
from tidewire.kernel import errors

# The reply.


@protocol("connect.reply", "command.connect", "token.claims")
def test_connect_reply_without_expiry_has_no_expires_and_no_ttl() -> None:
    """A token without `exp` never expires, and the reply says nothing of it."""
    client = Client().connect()
    assert client.replies() == [
        {"id": 1, "connect": {"client": "c1", "version": "1.2.3", "ping": 25, "pong": True}}
    ]
    assert [type(effect) for effect in client.effects] == [Identified, Answer, Opened]


@protocol("connect.reply", "token.refresh")
def test_connect_reply_with_expiry_has_ttl_and_a_timer_with_grace() -> None:
    """The ttl is for the client, the timer for the edge."""
    client = Client()
    client.connect(exp=int(client.clock.wall()) + 60)
    (reply,) = client.replies()
    assert (reply["connect"]["expires"], reply["connect"]["ttl"]) == (True, 60)
    (timer,) = (effect for effect in client.effects if isinstance(effect, ExpireIn))
    assert timer.seconds == pytest.approx(60 + 25)


@protocol("token.expire_at")
@pytest.mark.parametrize(("expire_at", "ttl"), [(90, 90), (None, 0)])
def test_expire_at_replaces_exp_as_the_connections_expiry(expire_at: int | None, ttl: int) -> None:
    """0 means never, whatever `exp` says."""
    client = Client()
    now = int(client.clock.wall())
    client.connect(exp=now + 30, expire_at=0 if expire_at is None else now + expire_at)
    assert client.replies()[0]["connect"].get("ttl", 0) == ttl


@protocol("connect.reply")
def test_ttl_fits_every_timer_and_the_wire() -> None:
    """A token that ends in the year 9999 is a token."""
    client = Client(json_format=False).connect(exp=253_402_300_799)
    (reply,) = client.replies()
    assert reply["connect"]["ttl"] == 2**31 - 1
    (answer,) = (effect for effect in client.effects if isinstance(effect, Answer))
    assert PROTOBUF.decode(PROTOBUF.encode([answer.reply])) is not None


# Subscriptions that come with the connection.


@protocol("connect.subs", "connect.reply")
def test_connect_is_answered_when_all_its_subscriptions_are_there() -> None:
    """The reply names them, with their data; they are entered behind it, and only then the connection is open."""
    subs = {
        "chat:a": ServerSubscription(data=Raw(b'{"seat":4}'), info=Raw(b"1")),
        "$closed:b": ServerSubscription(),
    }
    client = Client(tokens={"t": ConnectionClaims("alice", subs=subs)})
    effects = client.frame(CONNECT)
    assert effects == [Identified("alice"), Join("chat:a", 1), Join("$closed:b", 2)]
    assert client.session.state is SessionState.JOINING
    assert (client.session.connected, client.session.greeted) == (True, False)
    assert client.joined("$closed:b") == []
    assert kinds(client.joined("chat:a")) == [Answer, Enter, Enter, Opened]
    (reply,) = client.replies()
    assert reply["id"] == 1
    assert reply["connect"]["subs"] == {"chat:a": {"data": {"seat": 4}}, "$closed:b": {}}
    assert client.session.greeted
    (publish,) = client.frame(PUBLISH)
    assert isinstance(publish, Publish)
    assert json.loads(publish.info)["chan_info"] == 1


@protocol("connect.subs", "connect.refused", "error.100")
def test_connect_fails_with_the_first_of_its_subscriptions_that_does() -> None:
    """All others are left, what waits is dropped silently, and the connection is useless."""
    client = Client(tokens={"t": owner("chat:a", "chat:b", "chat:c")})
    client.frame(CONNECT, PUBLISH)
    client.joined("chat:a")
    effects = client.joined("chat:b", errors.INTERNAL)
    assert kinds(effects) == [Leave, Leave, Answer]
    assert [(reply["id"], reply["error"]["code"]) for reply in client.replies()] == [(1, 100)]
    assert client.session.state is SessionState.REFUSED
    assert client.session.joined("chat:c", 3, 7) == []
    assert client.close_code(PUBLISH) == 3501


@protocol("connect.subs", "error.102", "error.107", "error.108")
@pytest.mark.parametrize(
    ("channel", "code"), [("nope:a", 102), ("chat:", 107), ("stocks:*", 107), ("raw:a", 108)]
)
def test_connect_with_a_subscription_that_cannot_be_is_an_error_that_says_so(channel: str, code: int) -> None:
    """The token's issuer made a mistake, and the client can be told."""
    client = Client(tokens={"t": owner("chat:a", channel)})
    assert client.error(CONNECT) == code
    assert client.replies()[0]["error"]["message"].endswith(f"(the server-side subscription {channel!r})")
    assert Identified not in kinds(client.effects)
    assert len(client.session.subscriptions) == 0


@protocol("disconnect.3505")
def test_more_subscriptions_than_a_connection_may_have_close_it() -> None:
    """As many as it may have are fine; the personal channel counts."""
    limit = {"channel_limit": 2}
    assert Client(client=limit, tokens={"t": owner("chat:a", "chat:b", "chat:c")}).close_code(CONNECT) == 3505
    fine = Client(client=limit, tokens={"t": owner("chat:a", "chat:b")})
    assert kinds(fine.frame(CONNECT)) == [Identified, Join, Join]
    personal = {**limit, "subscribe_to_user_personal_channel": {"enabled": True}}
    assert Client(client=personal, tokens={"t": owner("chat:a", "chat:b")}).close_code(CONNECT) == 3505


@protocol("connect.stale", "close.owed")
@pytest.mark.parametrize("how", ["stale", "retire", "close", "pong"])
def test_connection_may_end_while_its_connect_command_waits(how: str) -> None:
    """By the clock, by the operator, or by its own mistake; late results change nothing."""
    client = Client(tokens={"t": owner("chat:a")})
    client.frame(CONNECT, PUBLISH)
    session = client.session
    (close, *rest) = {
        "stale": session.check_stale,
        "retire": lambda: session.retire(errors.SHUTDOWN),
        "close": lambda: session.close(errors.CONNECTION_CLOSED),
        "pong": lambda: client.frame({}, PUBLISH),
    }[how]()
    assert isinstance(close, Close)
    assert rest == ([Dropped(1)] if how == "pong" else [])
    assert session.joined("chat:a", 1, 7) == []
    assert session.state is SessionState.CLOSED


def test_orders_count_while_the_connect_command_waits() -> None:
    """One channel is added to the reply, another taken out of it: the reply need not wait for that any more."""
    client = Client(tokens={"t": owner("chat:a", "chat:b")})
    client.frame(CONNECT)
    assert client.session.subscribe("chat:c", Grant()) == [Join("chat:c", 3)]
    client.joined("chat:b")
    client.joined("chat:c")
    client.effects = client.session.unsubscribe("chat:a", errors.UNSUBSCRIBED_BY_SERVER)
    assert kinds(client.effects) == [Leave, Answer, Enter, Enter, Opened]
    assert sorted(client.replies()[0]["connect"]["subs"]) == ["chat:b", "chat:c"]


@protocol("connect.subs")
@pytest.mark.parametrize(("namespace", "channel"), [("", "#alice"), ("users", "users:#alice")])
def test_personal_channel_of_a_user(namespace: str, channel: str) -> None:
    """Of each that has a name; what the token says of it counts."""
    personal = {"subscribe_to_user_personal_channel": {"enabled": True, "namespace": namespace}}
    subs = {channel: ServerSubscription(data=Raw(b"1"))}
    tokens = {"t": owner(), "none": owner(user=""), "own": ConnectionClaims("alice", subs=subs)}
    client = Client(client=personal, tokens=tokens)
    assert client.frame(CONNECT) == [Identified("alice"), Join(channel, 1)]
    client.joined(channel)
    assert client.replies()[0]["connect"]["subs"] == {channel: {}}
    anonymous = Client(client=personal, tokens=tokens)
    assert kinds(anonymous.frame({"id": 1, "connect": {"token": "none"}})) == [Identified, Answer, Opened]
    own = Client(client=personal, tokens=tokens)
    own.frame({"id": 1, "connect": {"token": "own"}})
    own.joined(channel)
    assert own.replies()[0]["connect"]["subs"] == {channel: {"data": 1}}
    assert Join not in kinds(Client(tokens=tokens).frame(CONNECT))


@protocol("channel.user_limited", "error.107")
@pytest.mark.parametrize("user", ["alice,bob", "x#bob", ",", "#"])
def test_user_whose_personal_channel_would_name_others_gets_none(user: str) -> None:
    """`#x#bob` is limited to bob, and `#alice,bob` to two others."""
    personal = {"subscribe_to_user_personal_channel": {"enabled": True}}
    client = Client(client=personal, tokens={"t": owner(user=user)})
    assert client.error(CONNECT) == 107


# Other connections of the user.


@protocol("disconnect.3504")
def test_second_connection_of_a_user_is_refused_where_that_is_configured() -> None:
    """Anonymous users are different people; elsewhere it is let in."""
    refuse = {"client": {"single_connection": "refuse"}}
    for config, user, code in ((refuse, "alice", 3504), (refuse, "", 0), ({}, "alice", 0)):
        client = Client(tokens={"t": owner(user=user)}, **config)
        client.users.add(user, cast("Any", SimpleNamespace(session=SimpleNamespace(connected=True))))
        effects = client.frame(CONNECT)
        assert [effect.disconnect.code for effect in effects if isinstance(effect, Close)] == (
            [code] if code else []
        )
        assert Identified not in kinds(effects) or not code
    first = Client(tokens={"t": owner()}, **refuse)
    assert first.frame(CONNECT)[-1] == Opened(yields=True)


@protocol("disconnect.3504", "connect.user_limit")
def test_user_with_as_many_connections_as_it_may_have_is_refused_another() -> None:
    """Connections on their way out keep nobody out, other users are not concerned, anonymous ones are not one user."""
    for user, living, leaving, code in (
        ("alice", 2, 0, 3504),
        ("alice", 1, 5, 0),
        ("bob", 0, 0, 0),
        ("", 5, 0, 0),
    ):
        client = Client(tokens={"t": owner(user=user)}, client={"user_connection_limit": 2})
        for connected in [True] * living + [False] * leaving:
            session = cast("Session", SimpleNamespace(connected=connected))
            client.users.add(user, Connection(session, RecordingTransport(), 0.0))
        closes = [effect.disconnect for effect in client.frame(CONNECT) if isinstance(effect, Close)]
        assert [close.code for close in closes] == ([code] if code else [])
        assert client.session.party.user == user
        assert all("the user has 2 on this edge" in close.reason for close in closes)


@protocol("disconnect.3503")
@pytest.mark.parametrize(
    ("mode", "user", "opened"),
    [
        ("off", "alice", Opened()),
        ("refuse", "alice", Opened(yields=True)),
        ("refuse", "", Opened()),
        ("replace", "alice", Opened(replaces=True)),
        ("replace", "", Opened()),
    ],
    ids=repr,
)
def test_connection_that_replaces_others_or_yields_to_them_says_so_when_it_is_open(
    mode: str, user: str, opened: Opened
) -> None:
    """Never for anonymous users."""
    client = Client(client={"single_connection": mode}, tokens={"t": owner(user=user)})
    assert client.frame(CONNECT)[-1] == opened


SERVICE = {"target": "ipv4:127.0.0.1:1"}


@protocol("disconnect.3504")
@pytest.mark.parametrize(("elsewhere", "code"), [(False, 0), (True, 3504)])
def test_user_who_may_have_one_connection_is_looked_for_elsewhere(elsewhere: bool, code: int) -> None:
    """The reply waits for that, and so does a subscription of the server's, in whatever order they end."""
    config: Any = {"client": {"single_connection": "refuse"}, "presence": SERVICE}
    client = Client(tokens={"t": owner("chat:a")}, **config)
    effects = client.frame(CONNECT)
    assert [kind for kind in kinds(effects) if kind in {AskOthers, Answer, Join}] == [Join, AskOthers]
    assert client.session.joined("chat:a", 1, 7) == []
    effects = client.session.vouched(elsewhere=elsewhere)
    assert [effect.disconnect.code for effect in effects if isinstance(effect, Close)] == (
        [code] if code else []
    )
    assert (Opened in kinds(effects)) is not elsewhere
    assert client.session.vouched(elsewhere=True) == []


@pytest.mark.parametrize(("mode", "user"), [("refuse", ""), ("replace", "alice"), ("off", "alice")])
def test_nobody_else_is_looked_for_elsewhere(mode: str, user: str) -> None:
    """It would cost each connect a call."""
    config: Any = {"client": {"single_connection": mode}, "presence": SERVICE}
    client = Client(tokens={"t": owner(user=user)}, **config)
    assert AskOthers not in kinds(client.frame(CONNECT))
