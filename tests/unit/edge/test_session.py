from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from tests.fakes.clock import ManualClock
from tests.fakes.edge import KEY, token
from tests.fakes.sessions import CONNECT, PUBLISH, Client, kinds, owner
from tests.support.protocol import protocol
from tidewire.edge.admission import Grant
from tidewire.edge.effects import (
    Answer,
    Call,
    Close,
    Dropped,
    Enter,
    ExpireIn,
    Identified,
    Join,
    Leave,
    Opened,
    Publish,
    Published,
    Send,
    SubscriptionsExpireIn,
)
from tidewire.edge.policies.claims import SubscriptionClaims
from tidewire.edge.session_state import SessionState
from tidewire.edge.wire.commands import Command, PublishRequest
from tidewire.kernel import errors

RPC = {"enabled": True, "methods": [{"name": "*"}, {"name": "admin", "allow_for_client": False}]}


# Life of a connection.


@protocol("connect.first", "disconnect.3501")
@pytest.mark.parametrize(
    "command", [{}, {"id": 1, "subscribe": {"channel": "chat:a"}}, {"connect": {}}, {"id": 1}]
)
def test_anything_but_a_connect_command_first_closes(command: dict[str, Any]) -> None:
    """Even a pong."""
    assert Client().close_code(command) == 3501


@protocol("connect.twice")
def test_second_connect_closes() -> None:
    """One connection, one authentication."""
    assert Client().connect().close_code({"id": 2, "connect": {"token": token()}}) == 3501


@protocol("connect.anonymous")
def test_connect_without_token_is_for_deployments_that_allow_it() -> None:
    """Else it is closed with a reason that names the cause."""
    client = Client()
    assert client.close_code({"id": 1, "connect": {}}) == 3501
    assert "token" in next(e.disconnect.reason for e in client.effects if isinstance(e, Close))
    anonymous = Client(client={"allow_anonymous_connect_without_token": True})
    anonymous.frame({"id": 1, "connect": {}})
    assert anonymous.replies()[0]["connect"]["client"] == "c1"


@protocol("token.invalid", "disconnect.3500")
def test_invalid_token_closes_at_once() -> None:
    """No error reply: the client shall not come back with it."""
    assert Client().close_code({"id": 1, "connect": {"token": token(key="x" * 64)}}) == 3500


@protocol("token.expired", "error.109", "connect.refused")
def test_expired_token_is_an_error_and_the_rest_of_the_frame_is_dropped() -> None:
    """The connection stays, useless, until the client leaves or sends something more."""
    client = Client()
    expired = token(exp=int(client.clock.wall()) - 1)
    client.frame({"id": 1, "connect": {"token": expired}}, {"id": 2, "subscribe": {"channel": "chat:a"}})
    assert [(reply["id"], reply["error"]["code"]) for reply in client.replies()] == [(1, 109)]
    assert len(client.effects) == 1
    assert client.close_code({"id": 3, "subscribe": {"channel": "chat:a"}}) == 3501


@protocol("connect.optimistic", "format.batches")
def test_commands_behind_connect_in_one_frame_are_carried_out() -> None:
    """The JavaScript SDK sends its subscribes before it knows the connect reply."""
    client = Client()
    effects = client.frame(
        {"id": 1, "connect": {"token": token()}}, {"id": 2, "subscribe": {"channel": "chat:a"}}
    )
    assert [type(effect) for effect in effects] == [Identified, Answer, Opened, Join]


@protocol("connect.stale", "disconnect.3502")
def test_stale_connection_is_closed_only_while_unauthenticated() -> None:
    """A refused connect does not stop the clock."""
    client = Client()
    client.frame({"id": 1, "connect": {"token": token(exp=1)}})
    (close,) = client.session.check_stale()
    assert isinstance(close, Close)
    assert close.disconnect.code == 3502
    assert Client().connect().session.check_stale() == []


@protocol("command.id")
@pytest.mark.parametrize("command", [{"publish": {"channel": "chat:a", "data": 1}}, {"id": 5}])
def test_command_without_id_or_method_closes(command: dict[str, Any]) -> None:
    """Only `send` and the pong go without an id."""
    assert Client().connect().close_code(command) == 3501


# Subscriptions.


@protocol(
    "command.subscribe",
    "subscribe.recovery",
    "subscribe.join_leave",
    "format.unknown_fields",
)
def test_subscribe_is_answered_when_the_broker_confirms_and_grants_no_wish() -> None:
    """Recovery and join/leave are wishes; so are flags from the future."""
    client = Client().connect()
    wishes = {
        "recover": True,
        "recoverable": True,
        "positioned": True,
        "join_leave": True,
        "flag": 1026,
        "epoch": "x",
    }
    (join,) = client.frame({"id": 7, "subscribe": {"channel": "chat:a", "unheard_of": [1], **wishes}})
    assert isinstance(join, Join)
    assert client.replies(client.session.joined("chat:a", join.attempt, 7)) == [{"id": 7, "subscribe": {}}]


@protocol("subscribe.compaction")
@pytest.mark.parametrize(
    ("json_format", "name", "flag", "granted"),
    [(True, "js", 1, True), (True, "", 0, False), (False, "python", 3, True), (False, "js", 1, False)],
)
def test_channel_ids_are_granted_to_who_offers_and_can_take_them(
    json_format: bool, name: str, flag: int, granted: bool
) -> None:
    """The JavaScript SDK cannot in Protobuf: it would lose every publication."""
    client = Client(json_format=json_format)
    client.frame({"id": 1, "connect": {"token": token(), "name": name}})
    (join,) = client.frame({"id": 2, "subscribe": {"channel": "chat:a", "flag": flag}})
    assert isinstance(join, Join)
    effects = client.session.joined("chat:a", join.attempt, 7)
    assert client.replies(effects) == [{"id": 2, "subscribe": {"id": 7} if granted else {}}]
    (enter,) = (effect for effect in effects if isinstance(effect, Enter))
    assert enter.traits.compact is granted


@protocol("error.105")
def test_second_subscribe_to_a_channel_is_an_error() -> None:
    """Whether or not the first is confirmed."""
    client = Client().connect()
    client.frame({"id": 2, "subscribe": {"channel": "chat:a"}})
    assert client.error({"id": 3, "subscribe": {"channel": "chat:a"}}) == 105


@protocol("subscribe.limit", "error.106")
def test_channels_of_a_connection_are_limited() -> None:
    """The limit is in the message."""
    client = Client(client={"channel_limit": 2}).connect().subscribe("chat:a").subscribe("chat:b")
    assert client.error({"id": 9, "subscribe": {"channel": "chat:c"}}) == 106


@protocol("error.100")
def test_subscribe_that_the_broker_cannot_confirm_is_a_temporary_error_and_leaves_nothing() -> None:
    """The SDK tries again by itself."""
    client = Client().connect()
    (join,) = client.frame({"id": 2, "subscribe": {"channel": "chat:a"}})
    assert isinstance(join, Join)
    (reply,) = client.replies(client.session.joined("chat:a", join.attempt, errors.INTERNAL))
    assert reply["error"]["temporary"] is True
    assert client.session.subscriptions == {}


@protocol("subscribe.pairs", "command.unsubscribe")
def test_pairs_of_subscribe_and_unsubscribe_end_in_the_last_state() -> None:
    """An unsubscribe overtakes the broker: the subscribe is answered first, its late result ignored."""
    client = Client().connect()
    commands = [
        command
        for number in range(10, 30, 2)
        for command in (
            {"id": number, "subscribe": {"channel": "chat:a"}},
            {"id": number + 1, "unsubscribe": {"channel": "chat:a"}},
        )
    ]
    effects = client.frame(*commands)
    assert [reply["id"] for reply in client.replies()] == list(range(10, 30))
    assert client.session.subscriptions == {}
    assert sum(isinstance(effect, Leave) for effect in effects) == 10
    assert client.session.joined("chat:a", 1, 7) == []
    assert client.session.party.owed == 0


@protocol("command.unsubscribe")
def test_unsubscribe_of_an_unknown_channel_succeeds() -> None:
    """It is not there afterwards either."""
    client = Client().connect()
    client.frame({"id": 4, "unsubscribe": {"channel": "chat:never"}})
    assert client.replies() == [{"id": 4, "unsubscribe": {}}]


@protocol("channel.namespace", "error.102")
def test_unknown_namespace_is_an_error() -> None:
    """For each command that names a channel and reaches a namespace."""
    client = Client().connect()
    assert client.error({"id": 2, "subscribe": {"channel": "nope:a"}}) == 102
    assert client.error({"id": 3, "publish": {"channel": "nope:a", "data": {}}}) == 102


@protocol("channel.length", "error.107", "option.channel_regex")
@pytest.mark.parametrize("channel", ["c" * 256, "chat:" + "ä" * 126, "chat:", "digits:a"])
def test_channels_that_cannot_be_are_bad_requests(channel: str) -> None:
    """Too long in UTF-8, without a name, or against the namespace's pattern."""
    client = Client().connect()
    assert client.error({"id": 2, "subscribe": {"channel": channel}}) == 107
    assert client.error({"id": 3, "publish": {"channel": channel, "data": {}}}) == 107


@protocol("command.subscribe", "error.108")
@pytest.mark.parametrize("fields", [{"type": 1}, {"type": 4}])
def test_subscription_types_that_are_not_there(fields: dict[str, Any]) -> None:
    """Only streams."""
    assert Client().connect().error({"id": 2, "subscribe": {"channel": "chat:a", **fields}}) == 108


@protocol("subscribe.delta", "subscribe.tags_filter")
def test_unknown_delta_closes_and_a_filter_is_a_bad_request() -> None:
    """A known delta is a wish like any other: granted where the namespace has it."""
    assert Client().connect().close_code({"id": 2, "subscribe": {"channel": "chat:a", "delta": "x"}}) == 3501
    client = Client().connect().subscribe("chat:a", delta="fossil")
    assert client.error({"id": 3, "subscribe": {"channel": "chat:b", "tf": {"op": "", "key": "a"}}}) == 107


# Permissions.


@protocol("option.allow_subscribe_for_client", "option.allow_publish_for_client", "error.103")
def test_namespace_without_flags_refuses() -> None:
    """Nothing is allowed by default."""
    client = Client().connect()
    assert client.error({"id": 2, "subscribe": {"channel": "closed:a"}}) == 103
    assert client.error({"id": 3, "publish": {"channel": "closed:a", "data": {}}}) == 103


@protocol("option.allow_publish_for_subscriber")
def test_publish_for_subscribers_needs_the_subscription() -> None:
    """One that is on its way counts: its permission was checked."""
    client = Client().connect()
    publish = {"id": 3, "publish": {"channel": "readers:a", "data": {}}}
    assert client.error(publish) == 103
    effects = client.frame({"id": 2, "subscribe": {"channel": "readers:a"}}, publish)
    assert [type(effect) for effect in effects] == [Join, Publish]


@protocol("option.allow_subscribe_for_anonymous", "option.allow_publish_for_anonymous")
def test_anonymous_users_need_their_own_flag_on_top() -> None:
    """`_for_client` alone speaks of users with a name."""
    client = Client().connect("")
    assert client.error({"id": 2, "subscribe": {"channel": "chat:a"}}) == 103
    assert client.error({"id": 3, "publish": {"channel": "chat:a", "data": {}}}) == 103
    client.subscribe("public:a")
    assert isinstance(client.frame({"id": 5, "publish": {"channel": "public:a", "data": {}}})[0], Publish)


@protocol("channel.private", "token.subscription")
def test_private_channel_needs_a_subscription_token_to_subscribe_and_to_publish() -> None:
    """Whatever the namespace allows."""
    client = Client().connect()
    assert client.error({"id": 2, "subscribe": {"channel": "$chat:a"}}) == 103
    assert client.error({"id": 3, "publish": {"channel": "$chat:a", "data": {}}}) == 103
    client.subscribe("$chat:a", token=token(channel="$chat:a", info={"seat": 4}))
    (publish,) = client.frame({"id": 5, "publish": {"channel": "$chat:a", "data": {}}})
    assert isinstance(publish, Publish)
    assert json.loads(publish.info) == {"user": "alice", "client": "c1", "chan_info": {"seat": 4}}


@protocol("token.subscription")
@pytest.mark.parametrize(
    ("user", "claims", "verdict"),
    [
        ("alice", {"channel": "closed:b"}, "close"),
        ("bob", {"channel": "closed:a"}, "close"),
        ("alice", {"channel": "closed:a", "client": "other"}, "close"),
        ("alice", {"channel": "closed:a", "exp": 1}, 109),
        ("alice", {"channel": "closed:a", "nbf": 2_000_000_000}, 103),
        ("alice", {}, "close"),
    ],
)
def test_subscription_tokens_for_something_else(
    user: str, claims: dict[str, Any], verdict: int | str
) -> None:
    """A well-signed token for another channel, user or client is an attack; an expired one is renewed."""
    client = Client().connect()
    command = {"id": 2, "subscribe": {"channel": "closed:a", "token": token(user, **claims)}}
    assert (client.close_code(command) if verdict == "close" else client.error(command)) == (
        3500 if verdict == "close" else verdict
    )


@protocol("token.subscription", "error.103")
def test_garbage_subscription_token_is_an_error() -> None:
    """The connection stays."""
    client = Client().connect()
    assert client.error({"id": 2, "subscribe": {"channel": "chat:a", "token": "garbage"}}) == 103
    assert client.session.state is SessionState.CONNECTED


@protocol("channel.user_limited", "option.allow_user_limited_channels")
def test_user_limited_channels_admit_whom_they_name() -> None:
    """And nobody where the namespace has them off; publishing follows the same list."""
    client = Client().connect()
    client.subscribe("users:dm#bob,alice")
    assert client.error({"id": 3, "subscribe": {"channel": "users:dm#bob"}}) == 103
    assert client.error({"id": 4, "subscribe": {"channel": "chat:dm#alice"}}) == 103
    assert client.error({"id": 5, "publish": {"channel": "users:dm#bob", "data": 1}}) == 103
    assert isinstance(client.frame({"id": 6, "publish": {"channel": "users:x#alice", "data": 1}})[0], Publish)
    assert Client().connect("").error({"id": 2, "subscribe": {"channel": "users:dm#"}}) == 103


@protocol("channel.binary", "option.publication_data_format")
def test_binary_namespaces_are_for_protobuf_clients() -> None:
    """A JSON frame cannot carry their data; a JSON namespace takes nothing else from a Protobuf client."""
    assert Client().connect().error({"id": 2, "subscribe": {"channel": "raw:a"}}) == 108
    binary = Client(json_format=False).connect().subscribe("raw:a")
    effects = binary.session.receive([_publish("raw:a", b"\xff\x00")])
    assert isinstance(effects[0], Publish)
    (answer,) = binary.session.receive([_publish("chat:a", b"\xff\x00")])
    assert isinstance(answer, Answer)
    assert answer.reply.error is not None
    assert answer.reply.error.code == 107


def _publish(channel: str, data: bytes) -> Command:
    return Command(id=9, publish=PublishRequest(channel=channel, data=Raw(data)))


# Publish, rpc, send, and what is not there yet.


@protocol("command.publish", "publish.info")
def test_publish_carries_the_clients_info_and_is_answered_by_the_broker() -> None:
    """The data go through untouched."""
    client = Client().connect(info={"name": "Alice"})
    (publish,) = client.frame({"id": 5, "publish": {"channel": "chat:a", "data": {"b": [1, 2]}}})
    assert isinstance(publish, Publish)
    assert json.loads(publish.info) == {"user": "alice", "client": "c1", "conn_info": {"name": "Alice"}}
    assert json.loads(publish.data[0]) == {"b": [1, 2]}
    assert client.session.party.owed == 1
    assert client.session.published([5], 0.0, None) == [Published([5], 0.0)]
    assert client.session.party.owed == 0


@protocol("error.107")
def test_publish_without_data_is_a_bad_request() -> None:
    """Absent, not null."""
    assert Client().connect().error({"id": 2, "publish": {"channel": "chat:a"}}) == 107


@protocol("error.111")
def test_commands_that_wait_are_limited() -> None:
    """The bound on what one client can make the edge remember."""
    client = Client(client={"inflight_limit": 2}, rpc=RPC).connect()
    for number in (2, 3):
        client.frame({"id": number, "publish": {"channel": "chat:a", "data": 1}})
    assert client.error({"id": 4, "publish": {"channel": "chat:a", "data": 1}}) == 111
    assert client.error({"id": 5, "rpc": {"method": "m", "data": 1}}) == 111
    assert client.error({"id": 6, "subscribe": {"channel": "chat:a"}}) == 111
    client.session.published([2], 0.0, None)
    assert isinstance(client.frame({"id": 7, "publish": {"channel": "chat:a", "data": 1}})[0], Publish)


@protocol("command.rpc", "error.108", "error.104")
def test_rpc_permissions() -> None:
    """Off: 108. `tw.` is the edge's own. A rule of its own beats `*`."""
    assert Client().connect().error({"id": 2, "rpc": {"method": "m"}}) == 108
    client = Client(rpc=RPC).connect()
    assert client.error({"id": 2, "rpc": {"method": "tw.x"}}) == 104
    assert client.error({"id": 3, "rpc": {"method": "admin"}}) == 103
    assert client.error({"id": 4, "rpc": {}}) == 107
    assert Client(rpc=RPC).connect("").error({"id": 2, "rpc": {"method": "m"}}) == 103
    (call,) = client.frame({"id": 5, "rpc": {"method": "m", "data": {"a": 1}}})
    assert isinstance(call, Call)


@protocol("command.rpc", "rpc.errors")
def test_rpc_answers() -> None:
    """JSON for JSON clients, null for nothing, the application's own error as it is."""
    client = Client(rpc=RPC).connect()
    client.frame(*({"id": number, "rpc": {"method": "m"}} for number in (2, 3, 4, 5)))
    called = client.session.called
    assert client.replies(called(2, 0.0, b'{"ok":\n1}')) == [{"id": 2, "rpc": {"data": {"ok": 1}}}]
    assert client.replies(called(3, 0.0, b"")) == [{"id": 3, "rpc": {"data": None}}]
    assert client.replies(called(4, 0.0, b"\xff"))[0]["error"]["code"] == 100
    assert client.replies(called(5, 0.0, errors.ReplyError(450, "no")))[0]["error"] == {
        "code": 450,
        "message": "no",
    }


@protocol("command.send", "disconnect.3508")
def test_send_is_passed_on_where_it_is_enabled() -> None:
    """Else the connection is closed: send has no reply to carry an error."""
    assert Client().connect().close_code({"send": {"data": 1}}) == 3508
    client = Client(send={"enabled": True}).connect()
    assert client.frame({"send": {"data": {"a": 1}}}) == [Send(b'{"a": 1}')]
    assert Client(send={"enabled": True}).connect("").close_code({"send": {"data": 1}}) == 3508


# Refresh and expiry.


@protocol("command.refresh", "token.refresh")
def test_refresh_prolongs_the_connection() -> None:
    """The reply has client, expires and ttl: older SDKs read them unchecked."""
    client = Client()
    now = int(client.clock.wall())
    client.connect(exp=now + 10)
    client.clock.advance(9)
    client.frame({"id": 2, "refresh": {"token": token(exp=now + 100)}})
    assert client.replies() == [
        {"id": 2, "refresh": {"client": "c1", "version": "1.2.3", "expires": True, "ttl": 91}}
    ]
    client.clock.advance(50)
    (again,) = client.session.check_expiry()
    assert isinstance(again, ExpireIn)


@protocol("token.expired", "token.refresh")
def test_a_token_in_its_last_second_is_still_good() -> None:
    """For connect and for refresh. The ttl is a whole second then, since the SDKs take 0 for none."""
    client = Client()
    last = token(exp=int(client.clock.wall()) + 1)
    client.clock.advance(0.75)
    client.frame({"id": 1, "connect": {"token": last}}, {"id": 2, "refresh": {"token": last}})
    assert [reply.get("connect", reply.get("refresh"))["ttl"] for reply in client.replies()] == [1, 1]
    (timer, _) = (effect for effect in client.effects if isinstance(effect, ExpireIn))
    assert timer.seconds == pytest.approx(0.25 + 25)


@protocol("token.expired")
def test_leeway_holds_for_the_connection_too() -> None:
    """A backend whose clock is behind: its token is good until `exp` plus leeway, and so is the connection."""
    client = Client(client={"token": {"hmac_secret_key": KEY, "leeway": "30s"}})
    client.connect(exp=int(client.clock.wall()) - 10)
    assert client.replies()[0]["connect"]["ttl"] == 20


@protocol("disconnect.3005", "token.refresh")
def test_connection_expires_after_the_grace_time() -> None:
    """And not before."""
    client = Client()
    client.connect(exp=int(client.clock.wall()) + 10)
    client.clock.advance(34)
    (again,) = client.session.check_expiry()
    assert isinstance(again, ExpireIn)
    assert again.seconds == pytest.approx(1)
    client.clock.advance(1.1)
    assert client.session.check_expiry() == [Close(errors.CONNECTION_EXPIRED)]


@protocol("token.expired", "token.invalid")
@pytest.mark.parametrize(
    ("refreshed", "code"),
    [("", 3501), ("garbage", 3500), (token("bob"), 3500), (token(exp=1), 3005)],
    ids=["empty", "garbage", "another user", "expired"],
)
def test_refresh_that_fails_closes(refreshed: str, code: int) -> None:
    """Each with its own code."""
    assert Client().connect().close_code({"id": 2, "refresh": {"token": refreshed}}) == code


# Drain.


@protocol("close.owed", "disconnect.3001")
def test_retiring_session_closes_when_it_owes_nothing_and_drops_what_comes_meanwhile() -> None:
    """A publish that is on its way is answered; one that crosses the close is never carried out."""
    client = Client().connect()
    client.frame({"id": 2, "publish": {"channel": "chat:a", "data": 1}})
    assert client.session.retire(errors.SHUTDOWN) == []
    assert client.frame({"id": 3, "publish": {"channel": "chat:a", "data": 2}}, {"id": 4}) == [Dropped(2)]
    effects = client.session.published([2], 0.0, None)
    assert kinds(effects) == [Published, Close]
    assert client.frame({"id": 5, "publish": {"channel": "chat:a", "data": 3}}) == [Dropped(1)]


@protocol("close.owed")
def test_retiring_an_idle_session_closes_at_once() -> None:
    """So is one that has not connected yet."""
    assert Client().connect().session.retire(errors.SHUTDOWN) == [Close(errors.SHUTDOWN)]
    assert Client().session.retire(errors.SHUTDOWN) == [Close(errors.SHUTDOWN)]


@protocol("disconnect.3000")
def test_closed_session_says_nothing_more() -> None:
    """Whatever still comes back."""
    client = Client().connect()
    assert client.session.close(errors.CONNECTION_CLOSED) == [Close(errors.CONNECTION_CLOSED)]
    assert client.session.close(errors.SHUTDOWN) == []
    assert client.session.ping() == []
    assert client.frame({"id": 2, "publish": {"channel": "chat:a", "data": 1}}) == [Dropped(1)]


# Found by review.


@protocol("token.invalid")
def test_log_learns_why_a_token_was_refused_and_the_client_does_not() -> None:
    """What would help who guesses stays here."""
    client = Client()
    client.frame({"id": 1, "connect": {"token": token(key="x" * 64)}})
    assert "signature" in client.session.party.detail
    (close,) = (effect for effect in client.effects if isinstance(effect, Close))
    assert close.disconnect == errors.INVALID_TOKEN


@protocol("command.rpc")
def test_answer_that_is_no_json_is_an_error_that_trying_again_does_not_mend() -> None:
    """So it is not temporary."""
    client = Client(rpc=RPC).connect()
    client.frame({"id": 2, "rpc": {"method": "m"}})
    (reply,) = client.replies(client.session.called(2, 0.0, b"\xff"))
    assert reply["error"] == {"code": 100, "message": "the method's answer is not JSON"}


# A token of the handshake.


@protocol("connect.reply", "disconnect.3005")
def test_token_of_the_handshake_is_not_the_clients_to_refresh() -> None:
    """The reply speaks of no expiry, and the connection ends without a grace time."""
    client = Client(bearer="h", tokens={"h": owner(expires_at=int(ManualClock().wall()) + 60)})
    client.frame({"id": 1, "connect": {}})
    (reply,) = client.replies()
    assert "expires" not in reply["connect"]
    assert [effect for effect in client.effects if isinstance(effect, ExpireIn)] == [ExpireIn(60.0)]
    client.clock.advance(60)
    assert client.session.check_expiry() == [Close(errors.CONNECTION_EXPIRED)]


# What the server asks for.


def test_orders_reach_a_connection_only_while_it_is_authenticated_and_stays() -> None:
    """Neither before its connect command nor on its way out."""
    client = Client(tokens={"t": owner()})

    def orders() -> list[Any]:
        session = client.session
        return [
            session.subscribe("chat:a", Grant()),
            session.unsubscribe("chat:s", errors.UNSUBSCRIBED_BY_SERVER),
            session.expire_at(1),
        ]

    assert orders() == [[]] * 3
    client.frame(CONNECT)
    client.subscribe("chat:s")
    assert [bool(effects) for effects in orders()] == [True, True, True]
    client.frame(PUBLISH)
    client.session.retire(errors.SHUTDOWN)
    assert orders() == [[]] * 3


@protocol("token.subscription")
def test_subscriptions_expire_only_while_the_connection_is_open() -> None:
    """One that is on its way out has nothing to be told."""
    ends = int(ManualClock().wall()) + 10
    client = Client(tokens={"t": owner(), "s": SubscriptionClaims("alice", "chat:a", expires_at=ends)})
    client.frame(CONNECT)
    client.subscribe("chat:a", token="s")
    assert kinds(client.session.check_subscriptions()) == [SubscriptionsExpireIn]
    client.clock.advance(35)
    client.frame(PUBLISH)
    client.session.retire(errors.SHUTDOWN)
    assert client.session.check_subscriptions() == []


# Found by review.


def test_results_that_come_after_the_close_are_dropped() -> None:
    """Also one that was known at once, while a command behind it in the frame has closed the connection."""
    client = Client(tokens={"t": owner()})
    client.frame(CONNECT)
    effects = client.frame({"id": 2, "subscribe": {"channel": "chat:a"}}, CONNECT)
    assert kinds(effects) == [Join, Close]
    assert client.session.joined("chat:a", 1, 7) == []
