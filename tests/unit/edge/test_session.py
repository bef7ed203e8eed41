from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import Raw

from tests.fakes.clock import ManualClock
from tests.fakes.edge import KEY, RecordingTransport, believing, rules, token
from tests.support.protocol import protocol
from tidewire.edge.admission import Grant
from tidewire.edge.backlog import MAX_BYTES
from tidewire.edge.connection import Connection
from tidewire.edge.effects import (
    Answer,
    Call,
    Close,
    Dropped,
    Effect,
    Enter,
    ExpireIn,
    FetchKeys,
    Identified,
    Join,
    Leave,
    Opened,
    Ping,
    Publish,
    Published,
    Send,
    SubscriptionsExpireIn,
)
from tidewire.edge.policies.claims import ConnectionClaims, ServerSubscription, SubscriptionClaims
from tidewire.edge.policies.tokens import KeyWanted, TokenProblem
from tidewire.edge.session import Session
from tidewire.edge.session_state import SessionState
from tidewire.edge.users import Users
from tidewire.edge.wire.commands import Command, PublishRequest
from tidewire.edge.wire.json_codec import JSON
from tidewire.edge.wire.protobuf_codec import PROTOBUF
from tidewire.kernel import errors
from tidewire.kernel.errors import ReplyError
from tidewire.kernel.ids import ConnectionId

RPC = {"enabled": True, "methods": [{"name": "*"}, {"name": "admin", "allow_for_client": False}]}


class Client:
    """A session, talked to in JSON; replies come back as dictionaries, in order."""

    def __init__(
        self,
        *,
        json_format: bool = True,
        bearer: str = "",
        tokens: dict[str, Any] | None = None,
        **config: Any,
    ) -> None:
        """`tokens` says what each token is worth, instead of a signature."""
        self.clock = ManualClock()
        self.users = Users()
        self.rules = rules(self.clock, **config)
        self.tokens = believing(self.rules, **tokens) if tokens is not None else None
        self.session = Session(ConnectionId("c1"), self.rules, self.users, json=json_format, bearer=bearer)
        self.effects: list[Effect] = []

    def frame(self, *commands: dict[str, Any]) -> list[Effect]:
        """Send commands in one frame; return the effects."""
        payload = "\n".join(map(json.dumps, commands)).encode()
        self.effects = self.session.receive(JSON.decode(payload), len(payload))
        return self.effects

    def joined(self, channel: str, outcome: int | ReplyError = 7) -> list[Effect]:
        """Let the broker answer the attempt that waits."""
        self.effects = self.session.joined(channel, self.session.subscriptions[channel].attempt, outcome)
        return self.effects

    def go_on(self) -> list[Effect]:
        """Let a key be fetched, or not."""
        self.effects = self.session.go_on()
        return self.effects

    def connect(self, user: str = "alice", **claims: Any) -> Client:
        """Authenticate."""
        self.frame({"id": 1, "connect": {"token": token(user, **claims)}})
        assert self.session.state is SessionState.CONNECTED
        return self

    def subscribe(self, channel: str, number: int = 2, **fields: Any) -> Client:
        """Subscribe, and let the broker confirm."""
        effects = self.frame({"id": number, "subscribe": {"channel": channel, **fields}})
        assert isinstance(effects[0], Join), effects
        self.session.joined(channel, effects[0].attempt, 7)
        return self

    def replies(self, effects: list[Effect] | None = None) -> list[dict[str, Any]]:
        """Replies among the effects."""
        found = [
            effect.reply
            for effect in (self.effects if effects is None else effects)
            if isinstance(effect, Answer)
        ]
        return [json.loads(JSON.encode([reply])) for reply in found]

    def error(self, *commands: dict[str, Any]) -> int:
        """Send commands; return the code of the one error reply."""
        self.frame(*commands)
        (reply,) = self.replies()
        assert reply["error"]["message"], "an error without a message breaks the Python SDK"
        return int(reply["error"]["code"])

    def close_code(self, *commands: dict[str, Any]) -> int:
        """Send commands; return the code that the connection is closed with."""
        effects = self.frame(*commands)
        assert self.session.state is SessionState.CLOSED
        (close,) = (effect for effect in effects if isinstance(effect, Close))
        return close.disconnect.code


# Life of a connection.


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


# Pings.


@protocol("ping.pong", "disconnect.3012")
def test_missing_pong_closes() -> None:
    """A pong clears the debt of one ping."""
    client = Client().connect()
    assert client.session.ping() == [Ping()]
    client.frame({})
    assert client.session.check_pong() == []
    client.session.ping()
    assert client.session.check_pong() == [Close(errors.NO_PONG)]


@protocol("ping.unsolicited")
def test_unsolicited_pong_closes_but_one_late_one_is_forgiven() -> None:
    """Before the first ping no pong can be late."""
    assert Client().connect().close_code({}) == 3501
    client = Client().connect()
    client.session.ping()
    assert client.frame({}) == []
    assert client.frame({}) == []
    client.session.ping()
    assert client.frame({}) == []
    assert client.close_code({}) == 3501


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


@protocol("channel.empty")
@pytest.mark.parametrize(
    "method", ["subscribe", "unsubscribe", "publish", "history", "presence", "presence_stats"]
)
def test_empty_channel_closes(method: str) -> None:
    """Not an error reply: no SDK sends it."""
    assert Client().connect().close_code({"id": 2, method: {"channel": ""}}) == 3501


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


@protocol("command.presence", "command.presence_stats", "command.history", "command.ping")
@pytest.mark.parametrize("method", ["presence", "presence_stats", "history", "ping"])
def test_commands_that_are_not_there_yet(method: str) -> None:
    """108, never an empty result."""
    fields = {} if method == "ping" else {"channel": "chat:a"}
    assert Client().connect().error({"id": 2, method: fields}) == 108


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


@protocol("connect.reply")
def test_ttl_fits_every_timer_and_the_wire() -> None:
    """A token that ends in the year 9999 is a token."""
    client = Client(json_format=False).connect(exp=253_402_300_799)
    (reply,) = client.replies()
    assert reply["connect"]["ttl"] == 2**31 - 1
    (answer,) = (effect for effect in client.effects if isinstance(effect, Answer))
    assert PROTOBUF.decode(PROTOBUF.encode([answer.reply])) is not None


@protocol("ping.pong", "close.owed")
def test_pong_counts_while_a_reply_is_owed_to_a_draining_client() -> None:
    """It is no command, and not counted as one that was dropped."""
    client = Client().connect()
    client.frame({"id": 5, "publish": {"channel": "chat:a", "data": 1}})
    client.session.ping()
    client.session.retire(errors.SHUTDOWN)
    assert client.frame({}) == []
    assert client.session.check_pong() == []


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


# Subscriptions that come with the connection.

CONNECT = {"id": 1, "connect": {"token": "t"}}
PUBLISH = {"id": 5, "publish": {"channel": "chat:a", "data": 1}}


def owner(*channels: str, user: str = "alice", **fields: Any) -> ConnectionClaims:
    """The claims of a user whom the server subscribes to these channels."""
    subs = {channel: ServerSubscription() for channel in channels}
    return ConnectionClaims(user, subs=subs, **fields)


def kinds(effects: list[Effect]) -> list[type]:
    """What is to be done, in order."""
    return [type(effect) for effect in effects]


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


@protocol("connect.subs", "connect.optimistic")
def test_what_stands_behind_a_connect_that_waits_is_carried_out_in_order_behind_its_reply() -> None:
    """In the same frame and in later ones."""
    client = Client(tokens={"t": owner("chat:s")})
    client.frame(CONNECT, {"id": 2, "subscribe": {"channel": "chat:a"}})
    assert client.frame(PUBLISH, {"id": 6, "subscribe": {"channel": "chat:s"}}) == []
    assert kinds(client.joined("chat:s")) == [Answer, Enter, Opened, Join, Publish, Answer]
    assert [reply.get("error", {}).get("code") for reply in client.replies()] == [None, 105]


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


# Keys that have to be fetched.


class Waiting(Client):
    """A client one of whose commands waits for a key; the key makes each token what it says in `then`."""

    def __init__(self, then: Any, **config: Any) -> None:
        tokens = {"t": owner(), "w": KeyWanted("keys")}
        super().__init__(tokens=tokens, **config)
        self._then = then

    def go_on(self) -> list[Effect]:
        """The key is there: tokens that wanted it can be judged."""
        assert self.tokens is not None
        self.tokens.verdicts["w"] = self._then
        return super().go_on()


@protocol("connect.optimistic", "command.connect")
def test_connect_waits_for_a_key_and_all_behind_it_waits_in_order() -> None:
    """Nothing is carried out before it, and nobody is anybody yet."""
    client = Waiting(owner())
    assert client.frame({"id": 1, "connect": {"token": "w"}}, PUBLISH) == [FetchKeys("keys")]
    assert client.session.state is SessionState.CONNECTING
    assert client.frame({"id": 6, "publish": {"channel": "chat:a", "data": 2}}) == []
    effects = client.go_on()
    assert kinds(effects) == [Identified, Answer, Opened, Publish, Publish]
    assert [effect.ids for effect in effects if isinstance(effect, Publish)] == [(5,), (6,)]


@protocol("error.111")
def test_command_that_takes_too_much_memory_to_wait_is_turned_away() -> None:
    """No key is fetched for it, and nothing waits."""
    client = Waiting(owner())
    client.frame(CONNECT)
    subscribe = {"channel": "closed:a", "token": "w", "tf": {"nodes": [{}] * 1000}}
    assert client.error({"id": 2, "subscribe": subscribe}) == 111
    assert kinds(client.frame(PUBLISH)) == [Publish]


@protocol("token.subscription", "command.refresh", "command.sub_refresh")
@pytest.mark.parametrize(
    ("command", "then", "expected"),
    [
        ({"subscribe": {"channel": "closed:a", "token": "w"}}, SubscriptionClaims("alice", "closed:a"), Join),
        ({"refresh": {"token": "w"}}, ConnectionClaims("alice"), Answer),
        ({"sub_refresh": {"channel": "chat:a", "token": "w"}}, SubscriptionClaims("alice", "chat:a"), Answer),
    ],
    ids=["subscribe", "refresh", "sub_refresh"],
)
def test_each_command_with_a_token_waits_for_its_key(
    command: dict[str, Any], then: Any, expected: type
) -> None:
    """What stood before it is done, what stands behind it waits; pongs pass."""
    client = Waiting(then)
    client.frame(CONNECT)
    client.subscribe("chat:a")
    effects = client.frame(PUBLISH, {"id": 6, **command}, {"id": 7, "unsubscribe": {"channel": "chat:a"}})
    assert kinds(effects) == [Publish, FetchKeys]
    client.session.ping()
    assert client.frame({}, {"id": 8, "publish": {"channel": "chat:a", "data": 1}}) == []
    assert client.session.check_pong() == []
    assert client.session.ping() == [Ping()]
    effects = client.go_on()
    assert kinds(effects) == [expected, Leave, Answer, Publish]
    assert client.go_on() == []


@protocol("error.100")
@pytest.mark.parametrize("method", ["connect", "subscribe", "refresh", "sub_refresh"])
def test_keys_that_cannot_be_had_are_a_temporary_error(method: str) -> None:
    """The SDK tries again; a connection that has its reply goes on."""
    client = Waiting(TokenProblem.UNAVAILABLE)
    if method != "connect":
        client.frame(CONNECT)
    fields = {"channel": "closed:a"} if method in {"subscribe", "sub_refresh"} else {}
    assert client.frame({"id": 6, method: {"token": "w", **fields}}, PUBLISH) == [FetchKeys("keys")]
    effects = client.go_on()
    (reply,) = client.replies()
    assert (reply["id"], reply["error"]["code"], reply["error"]["temporary"]) == (6, 100, True)
    assert kinds(effects) == ([Answer] if method == "connect" else [Answer, Publish])


def test_second_command_that_wants_a_key_waits_behind_the_first() -> None:
    """One fetch at a time; the rest keeps its order."""
    client = Waiting(SubscriptionClaims("alice", "closed:a"))
    assert client.tokens is not None
    client.tokens.verdicts["v"] = KeyWanted("others")
    client.frame(CONNECT)
    client.frame(
        {"id": 2, "subscribe": {"channel": "closed:a", "token": "w"}},
        {"id": 3, "subscribe": {"channel": "closed:b", "token": "v"}},
        PUBLISH,
    )
    assert client.go_on() == [Join("closed:a", 1), FetchKeys("others")]
    client.tokens.verdicts["v"] = SubscriptionClaims("alice", "closed:b")
    assert kinds(client.go_on()) == [Join, Publish]


@protocol("close.owed", "disconnect.3502")
@pytest.mark.parametrize("how", ["retire", "close", "expiry", "stale"])
def test_connection_may_end_while_a_key_is_fetched(how: str) -> None:
    """What waits is dropped, and the key comes in vain."""
    client = Waiting(owner())
    if how == "stale":
        client.frame({"id": 1, "connect": {"token": "w"}})
    else:
        client.frame(CONNECT)
        client.frame({"id": 6, "refresh": {"token": "w"}}, PUBLISH)
    session = client.session
    session.expire_at(1)
    effects = {
        "retire": lambda: session.retire(errors.SHUTDOWN),
        "close": lambda: session.close(errors.CONNECTION_CLOSED),
        "expiry": session.check_expiry,
        "stale": session.check_stale,
    }[how]()
    assert kinds(effects) == ([Dropped, Close] if how == "retire" else [Close])
    assert client.go_on() == []
    assert client.frame(PUBLISH) == [Dropped(1)]


@protocol("close.owed")
def test_retiring_connection_is_owed_no_command_that_waits() -> None:
    """But the replies to those that were carried out."""
    client = Waiting(owner())
    client.frame(CONNECT)
    client.frame(PUBLISH, {"id": 6, "refresh": {"token": "w"}}, PUBLISH)
    assert client.session.retire(errors.SHUTDOWN) == [Dropped(2)]
    assert client.frame(PUBLISH) == [Dropped(1)]
    assert client.go_on() == []
    assert kinds(client.session.published([5], 0.0, None)) == [Published, Close]


@protocol("error.111")
def test_commands_that_wait_for_a_key_are_bounded_in_number() -> None:
    """The rest is refused for the moment, in time of its own; what has no id cannot be told."""
    client = Waiting(owner(), client={"inflight_limit": 2}, send={"enabled": True})
    client.frame({"id": 1, "connect": {"token": "w"}})
    client.clock.advance(3)
    client.frame(PUBLISH, {"id": 6, "rpc": {"method": "m"}}, {"send": {"data": 1}}, {"id": 7})
    assert [(reply["id"], reply["error"]["code"]) for reply in client.replies()] == [(6, 111)]
    assert [effect.started for effect in client.effects if isinstance(effect, Answer)] == [1003.0]
    assert client.effects[1:] == [Dropped(1), Dropped(1)]
    assert kinds(client.go_on()) == [Identified, Answer, Opened, Publish]


@protocol("error.111")
def test_commands_that_wait_for_a_key_are_bounded_in_bytes() -> None:
    """Those of whole frames: neither a pong nor a small command at its head lets a large one in."""
    client = Waiting(owner())
    client.frame(CONNECT)
    client.session.ping()
    client.frame({"id": 2, "refresh": {"token": "w"}})
    large = {"id": 5, "publish": {"channel": "chat:a", "data": "x" * (MAX_BYTES // 2)}}
    assert client.frame(large) == []
    client.frame({"id": 6, "unsubscribe": {"channel": "chat:a"}}, {**large, "id": 7})
    assert [(reply["id"], reply["error"]["code"]) for reply in client.replies()] == [(6, 111), (7, 111)]
    client.frame({}, {**large, "id": 8})
    assert [(reply["id"], reply["error"]["code"]) for reply in client.replies()] == [(8, 111)]
    assert client.frame({"id": 9, "unsubscribe": {"channel": "chat:a"}}) == []
    assert [type(effect) for effect in client.go_on()] == [Answer, Publish, Answer]


@protocol("error.111")
def test_bytes_that_wait_count_on_when_a_second_command_waits() -> None:
    """Whoever asks for one key after another cannot make the line longer."""
    client = Waiting(owner())
    assert client.tokens is not None
    client.tokens.verdicts["v"] = KeyWanted("others")
    client.frame(CONNECT)
    client.frame({"id": 2, "refresh": {"token": "w"}})
    large = {"channel": "chat:a", "data": "x" * (MAX_BYTES // 2)}
    client.frame({"id": 3, "refresh": {"token": "v"}}, {"id": 4, "publish": large})
    assert kinds(client.go_on()) == [Answer, FetchKeys]
    client.frame({"id": 5, "publish": large})
    assert client.replies()[0]["error"]["code"] == 111


@protocol("disconnect.3501", "command.id")
def test_what_waits_is_judged_in_its_turn() -> None:
    """A mistake behind a command that waits closes after it."""
    client = Waiting(owner())
    client.frame({"id": 1, "connect": {"token": "w"}}, {"id": 2, "connect": {"token": "w"}})
    effects = client.go_on()
    assert kinds(effects) == [Identified, Answer, Opened, Close]


# A token of the handshake, and one connection of a user.


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
    assert first.frame(CONNECT)[-1] == Opened(replaces=False)


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
    ("mode", "user", "replaces"),
    [("off", "alice", False), ("refuse", "alice", False), ("replace", "alice", True), ("replace", "", False)],
)
def test_connection_that_replaces_others_says_so_when_it_is_open(
    mode: str, user: str, replaces: bool
) -> None:
    """Never for anonymous users."""
    client = Client(client={"single_connection": mode}, tokens={"t": owner(user=user)})
    assert client.frame(CONNECT)[-1] == Opened(replaces=replaces)


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
