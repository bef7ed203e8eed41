from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from tests.fakes.clock import ManualClock
from tests.fakes.edge import OPEN, believing, rules
from tests.support.protocol import protocol
from tidewire.edge.admission import Grant
from tidewire.edge.attendance import NOBODY, Attendance
from tidewire.edge.effects import (
    Answer,
    Effect,
    Enter,
    Join,
    Leave,
    Push,
    Renew,
    SubscriptionsExpireIn,
    Traits,
)
from tidewire.edge.party import Party
from tidewire.edge.policies.capabilities import Capabilities, Capability
from tidewire.edge.policies.claims import SubscriptionClaims
from tidewire.edge.policies.filters import MAX_NODES, MAX_NODES_OF_CONNECTION, TagsFilter
from tidewire.edge.policies.tokens import KeyWanted, TokenProblem
from tidewire.edge.subscription import COMPACT, COMPACT_DELTA, DELTA, PLAIN, SubscriptionState
from tidewire.edge.subscriptions import Subscriptions
from tidewire.edge.wire.commands import FilterNode, SubRefreshRequest, SubscribeRequest, UnsubscribeRequest
from tidewire.edge.wire.replies import SubscribeResult
from tidewire.kernel import errors
from tidewire.kernel.errors import ReplyError
from tidewire.kernel.ids import ConnectionId

GRACE = 25
NOW = int(ManualClock().wall())
FINAL = errors.UNSUBSCRIBED_BY_SERVER


class Desk:
    """The subscriptions of alice's connection, which has its connect reply unless said otherwise."""

    def __init__(
        self, *, connected: bool = True, config: dict[str, Any] | None = None, **tokens: Any
    ) -> None:
        self.clock = ManualClock()
        made = rules(self.clock, **(config or {}))
        believing(made, **tokens)
        self.party = Party(ConnectionId("c1"), made, is_json=True)
        self.party.user = "alice"
        self.subscriptions = Subscriptions(self.party)
        if connected:
            assert self.subscriptions.connected() == ({}, [])

    def subscribe(self, channel: str = "chat:a", number: int = 5, **fields: Any) -> Any:
        """A subscribe command."""
        return self.subscriptions.subscribe(number, SubscribeRequest(channel=channel, **fields))

    def unsubscribe(self, channel: str = "chat:a", number: int = 6) -> Any:
        """An unsubscribe command."""
        return self.subscriptions.unsubscribe(number, UnsubscribeRequest(channel=channel))

    def refresh(self, token: str, channel: str = "chat:a") -> Any:
        """A sub_refresh command."""
        return self.subscriptions.refresh(7, SubRefreshRequest(channel=channel, token=token))

    def join(self, outcome: int | ReplyError = 9, channel: str = "chat:a") -> Any:
        """The broker's answer to the newest attempt."""
        return self.subscriptions.joined(channel, self.subscriptions[channel].attempt, outcome)

    def live(self, channel: str = "chat:a", **fields: Any) -> Desk:
        """Subscribed by the client."""
        assert isinstance(self.subscribe(channel, **fields)[0], Join)
        self.join(channel=channel)
        assert self.subscriptions[channel].state is SubscriptionState.LIVE
        return self

    def state(self, channel: str = "chat:a") -> SubscriptionState | None:
        """Where a subscription stands."""
        subscription = self.subscriptions.get(channel)
        return None if subscription is None else subscription.state


def claims(channel: str = "chat:a", ends: int | None = None, **fields: Any) -> SubscriptionClaims:
    """Those of alice, that end in so many seconds, or never."""
    return SubscriptionClaims("alice", channel, expires_at=0 if ends is None else NOW + ends, **fields)


def kinds(effects: list[Effect]) -> list[type]:
    """What is to be done, in order."""
    return [type(effect) for effect in effects]


def told(effect: Effect) -> Any:
    """The end or beginning that a push tells of."""
    assert isinstance(effect, Push)
    assert effect.reply.push is not None
    return effect.reply.push.unsubscribe or effect.reply.push.subscribe


def error_of(effects: Any) -> int:
    """The code of the one error reply."""
    (answer,) = effects
    assert isinstance(answer, Answer)
    assert answer.reply.error is not None
    return answer.reply.error.code


def result_of(effect: Effect) -> SubscribeResult:
    """What a subscribe reply says."""
    assert isinstance(effect, Answer)
    assert effect.reply.subscribe is not None
    return effect.reply.subscribe


# The client's commands.


@protocol("command.subscribe", "subscribe.order")
def test_subscribe_joins_is_answered_and_enters() -> None:
    """In this order: nothing is delivered before the reply."""
    desk = Desk()
    assert desk.subscribe() == [Join("chat:a", 1)]
    assert (desk.state(), desk.party.owed) == (SubscriptionState.JOINING, 1)
    answer, enter = desk.join()
    assert result_of(answer) == SubscribeResult()
    assert enter == Enter("chat:a", PLAIN)
    assert (desk.state(), desk.party.owed) == (SubscriptionState.LIVE, 0)


@protocol("subscribe.compaction", "subscribe.tags_filter")
def test_traits_follow_the_subscription_to_its_end() -> None:
    """A channel id where one was offered, a filter where one was asked for."""
    desk = Desk()
    node = FilterNode(key="k", cmp="ex")
    desk.subscribe("stocks:a", flag=3, tf=node)
    traits = Traits(compact=True, wanted=TagsFilter(node))
    answer, enter = desk.join(77, "stocks:a")
    assert result_of(answer).id == 77
    assert enter == Enter("stocks:a", traits)
    assert desk.unsubscribe("stocks:a")[0] == Leave("stocks:a", traits)
    desk.subscribe(flag=1)
    assert desk.join()[1] == Enter("chat:a", COMPACT)


@protocol("subscribe.delta")
def test_deltas_are_granted_where_the_namespace_has_them() -> None:
    """The reply says so, with or without a channel id; elsewhere, and who does not ask, has none."""
    desk = Desk()
    for channel, fields, traits in (
        ("edits:a", {"delta": "fossil"}, DELTA),
        ("edits:b", {"delta": "fossil", "flag": 1}, COMPACT_DELTA),
        ("edits:c", {}, PLAIN),
        ("chat:a", {"delta": "fossil"}, PLAIN),
    ):
        desk.subscribe(channel, **fields)
        answer, enter = desk.join(7, channel)
        assert result_of(answer).delta is traits.delta
        assert enter == Enter(channel, traits)


@protocol("subscribe.tags_filter", "error.106")
def test_filters_of_a_connection_have_a_bound_together() -> None:
    """What ends makes room again, and subscriptions without a filter need none."""
    desk = Desk()
    node = FilterNode(op="or", nodes=(FilterNode(key="k", cmp="ex"),) * (MAX_NODES - 1))
    for number in range(MAX_NODES_OF_CONNECTION // MAX_NODES):
        desk.live(f"stocks:{number}", tf=node)
    (refused,) = desk.subscribe("stocks:more", tf=FilterNode(key="k", cmp="ex"))
    assert refused.reply.error.code == 106
    assert "512 nodes" in refused.reply.error.message
    desk.live("stocks:more")
    desk.unsubscribe("stocks:0")
    desk.live("stocks:0", tf=node)


@protocol("subscribe.tags_filter", "error.107")
@pytest.mark.parametrize(
    ("channel", "fields"),
    [
        ("chat:a", {"tf": FilterNode(key="k", cmp="ex")}),
        ("stocks:a", {"tf": FilterNode(key="k", cmp="ex"), "delta": "fossil"}),
        ("stocks:a", {"tf": FilterNode(key="k", cmp="?")}),
    ],
    ids=["not allowed here", "with delta", "not a filter"],
)
def test_filters_that_cannot_be_had(channel: str, fields: dict[str, Any]) -> None:
    """Nothing is joined, nothing owed."""
    desk = Desk()
    assert error_of(desk.subscribe(channel, **fields)) == 107
    assert (len(desk.subscriptions), desk.party.owed) == (0, 0)


@protocol("error.105", "error.106", "error.111", "subscribe.limit")
def test_bounds_of_subscriptions() -> None:
    """One for a channel, so many on a connection (the server's count), so many commands that wait."""
    desk = Desk(config={"client": {"channel_limit": 2, "inflight_limit": 1}}).live()
    assert error_of(desk.subscribe()) == 105
    assert isinstance(desk.subscriptions.add("chat:b", Grant()), list)
    assert error_of(desk.subscribe("chat:b")) == 105
    assert error_of(desk.subscribe("chat:c")) == 106
    desk.unsubscribe("chat:b")
    desk.subscribe("chat:c")
    desk.unsubscribe("chat:a")
    assert error_of(desk.subscribe("chat:d")) == 111


@protocol("channel.empty", "subscribe.delta", "disconnect.3501")
def test_what_no_client_sends_closes() -> None:
    """An empty channel, an unknown delta, an empty token."""
    desk = Desk()
    assert desk.subscribe("") == errors.BAD_PROTOCOL
    assert desk.subscribe(delta="gzip") == errors.BAD_PROTOCOL
    assert desk.unsubscribe("") == errors.BAD_PROTOCOL
    assert desk.refresh("") == errors.BAD_PROTOCOL


@protocol("token.subscription")
def test_token_whose_key_is_missing_waits_and_leaves_nothing_behind() -> None:
    """The command is judged again when the key is there."""
    desk = Desk(t=KeyWanted("keys"))
    assert desk.subscribe(token="t") == KeyWanted("keys")
    assert (len(desk.subscriptions), desk.party.owed) == (0, 0)


@protocol("command.unsubscribe", "subscribe.pairs")
def test_unsubscribe_in_every_state() -> None:
    """A subscribe that waits is answered first; one of the server's that waits, the client never heard of."""
    desk = Desk()
    assert kinds(desk.unsubscribe()) == [Answer]
    desk.subscribe()
    first, leave, second = desk.unsubscribe()
    assert result_of(first).id == 0
    assert (leave, second.reply.id, desk.party.owed) == (Leave("chat:a", PLAIN), 6, 0)
    assert desk.subscriptions.joined("chat:a", 1, 9) == []
    desk.live()
    assert kinds(desk.unsubscribe()) == [Leave, Answer]
    desk.subscriptions.add("chat:a", Grant())
    assert kinds(desk.unsubscribe()) == [Leave, Answer]
    assert (len(desk.subscriptions), desk.party.owed) == (0, 0)


@protocol("error.100")
def test_join_that_fails_is_the_commands_error() -> None:
    """Nothing is left, and no result comes twice."""
    desk = Desk()
    desk.subscribe()
    assert error_of(desk.join(errors.INTERNAL)) == 100
    assert (len(desk.subscriptions), desk.party.owed) == (0, 0)
    assert desk.subscriptions.joined("chat:a", 1, errors.INTERNAL) == []


def test_result_of_an_older_attempt_is_ignored() -> None:
    """Subscribed, unsubscribed and subscribed again before the broker has answered once."""
    desk = Desk()
    desk.subscribe()
    desk.unsubscribe()
    desk.subscribe()
    assert desk.subscriptions.joined("chat:a", 1, errors.INTERNAL) == []
    assert desk.subscriptions.joined("chat:a", 1, 9) == []
    assert desk.state() is SubscriptionState.JOINING
    assert kinds(desk.subscriptions.joined("chat:a", 2, 9)) == [Answer, Enter]


# Tokens that expire.


@protocol("token.subscription")
def test_subscription_lives_as_long_as_its_token_and_a_grace_time() -> None:
    """The reply says how long; it ends with 2501, so that the SDK subscribes again."""
    desk = Desk(t=claims(ends=60))
    desk.subscribe(token="t")
    answer, _, timer = desk.join()
    assert (result_of(answer).expires, result_of(answer).ttl) == (True, 60)
    assert timer == SubscriptionsExpireIn(60.0 + GRACE)
    desk.clock.advance(60 + GRACE - 0.5)
    assert desk.subscriptions.expire() == [SubscriptionsExpireIn(0.5)]
    desk.clock.advance(0.5)
    leave, push = desk.subscriptions.expire()
    assert (leave, told(push)) == (Leave("chat:a", PLAIN), errors.EXPIRED_SUBSCRIPTION)


@protocol("token.subscription", "command.sub_refresh")
def test_refresh_prolongs_a_subscription_and_gives_the_new_tokens_rights() -> None:
    """The soonest of all decides when to look again; the data of its beginning stay."""
    rights = Capabilities.on("chat:a", frozenset([Capability.PUBLISH]))
    desk = Desk(
        a=claims(ends=10),
        b=claims("chat:b", ends=30),
        new=claims(ends=90, info=Raw(b"1"), capabilities=rights),
    )
    desk.live(token="a").live("chat:b", token="b")
    desk.clock.advance(5)
    answer, timer = desk.refresh("new")
    assert (answer.reply.id, answer.reply.sub_refresh.expires, answer.reply.sub_refresh.ttl) == (7, True, 85)
    assert timer == SubscriptionsExpireIn(25.0 + GRACE)
    grant = desk.subscriptions["chat:a"].grant
    assert (bytes(grant.info), grant.capabilities, grant.expires_at) == (b"1", rights, NOW + 90)
    desk.clock.advance(25 + GRACE)
    assert kinds(desk.subscriptions.expire()) == [Leave, Push, SubscriptionsExpireIn]
    assert list(desk.subscriptions) == ["chat:a"]


def test_refresh_with_a_token_without_end_takes_the_expiry_away() -> None:
    """The timer that is set finds nothing to do."""
    desk = Desk(a=claims(ends=10), new=claims()).live(token="a")
    (answer,) = desk.refresh("new")
    assert (answer.reply.sub_refresh.expires, answer.reply.sub_refresh.ttl) == (False, 0)
    desk.clock.advance(1000)
    assert desk.subscriptions.expire() == []


@protocol("token.subscription", "disconnect.3006", "disconnect.3500")
def test_refresh_that_fails() -> None:
    """Each in its own way, and the subscription is what it was."""
    desk = Desk(
        a=claims(ends=10),
        old=TokenProblem.EXPIRED,
        over=claims(ends=0),
        bad=TokenProblem.INVALID,
        away=TokenProblem.UNAVAILABLE,
        key=KeyWanted("keys"),
        b=claims("chat:b"),
        bob=SubscriptionClaims("bob", "chat:a"),
        other=claims(client="c2"),
    ).live(token="a")
    grant = desk.subscriptions["chat:a"].grant
    assert desk.refresh("old") == errors.SUBSCRIPTION_EXPIRED
    assert desk.refresh("over") == errors.SUBSCRIPTION_EXPIRED
    assert desk.refresh("bad") == errors.INVALID_TOKEN
    assert desk.party.detail == "a subscription token was refused: as the test wants"
    assert desk.refresh("key") == KeyWanted("keys")
    for token in ("b", "bob", "other"):
        assert desk.refresh(token) == errors.INVALID_TOKEN
    assert "another channel" in desk.party.detail
    assert error_of(desk.refresh("away")) == 100
    assert error_of(desk.refresh("b", "chat:b")) == 103
    assert desk.subscriptions["chat:a"].grant is grant


def test_refresh_without_a_channel_is_for_the_tokens() -> None:
    """Python SDKs of 0.5 leave it out."""
    desk = Desk(a=claims(ends=10), new=claims(ends=90)).live(token="a")
    assert kinds(desk.refresh("new", "")) == [Answer, SubscriptionsExpireIn]
    assert desk.subscriptions["chat:a"].grant.expires_at == NOW + 90


def test_subscription_that_expires_while_it_waits_is_answered_before_it_ends() -> None:
    """A client must not be told of an end before the beginning."""
    desk = Desk(t=claims(ends=10))
    desk.subscribe(token="t")
    desk.clock.advance(10 + GRACE)
    leave, answer, push = desk.subscriptions.expire()
    assert (leave, told(push)) == (Leave("chat:a", PLAIN), errors.EXPIRED_SUBSCRIPTION)
    assert result_of(answer).expires is False
    assert desk.party.owed == 0
    assert desk.subscriptions.joined("chat:a", 1, 9) == []


# What the server asks for.


@protocol("connect.subs")
def test_server_subscribes_whatever_the_rights_and_tells_the_client() -> None:
    """With the data; asked again, nothing happens."""
    desk = Desk()
    assert desk.subscriptions.add("$closed:a#bob", Grant(data=Raw(b"{}"))) == [Join("$closed:a#bob", 1)]
    assert desk.subscriptions.add("$closed:a#bob", Grant()) == []
    push, enter = desk.join(channel="$closed:a#bob")
    assert bytes(told(push).data) == b"{}"
    assert enter == Enter("$closed:a#bob", PLAIN)
    assert desk.subscriptions.add("$closed:a#bob", Grant()) == []
    assert desk.party.owed == 0


@pytest.mark.parametrize(
    ("channel", "code"), [("nope:a", 102), ("chat:", 107), ("raw:a", 108), ("stocks:*", 107), ("chat:b", 106)]
)
def test_server_cannot_have_every_channel(channel: str, code: int) -> None:
    """Unknown, nameless, binary for JSON, a pattern, or one too many: the error says which."""
    desk = Desk(config={"client": {"channel_limit": 1}})
    if code == 106:
        desk.live()
    found = desk.subscriptions.add(channel, Grant())
    assert isinstance(found, ReplyError)
    assert found.code == code
    assert channel not in desk.subscriptions


def test_subscription_of_the_server_that_fails_later_is_gone_without_a_word() -> None:
    """The client was never told of it."""
    desk = Desk()
    desk.subscriptions.add("chat:a", Grant())
    assert desk.join(errors.INTERNAL) == []
    assert len(desk.subscriptions) == 0


@protocol("connect.subs")
def test_subscriptions_of_the_connect_command_are_told_in_its_reply() -> None:
    """Nothing is delivered until all are there; one that fails fails the command."""
    desk = Desk(connected=False)
    assert desk.subscriptions.complete
    desk.subscriptions.add("chat:a", Grant(data=Raw(b"1")))
    desk.subscriptions.add("chat:b", Grant())
    assert desk.join() == []
    assert (desk.state(), desk.subscriptions.complete) == (SubscriptionState.READY, False)
    assert desk.join(channel="chat:b") == []
    assert desk.subscriptions.complete
    results, enters = desk.subscriptions.connected()
    assert list(results) == ["chat:a", "chat:b"]
    assert bytes(results["chat:a"].data) == b"1"
    assert enters == [Enter("chat:a", PLAIN), Enter("chat:b", PLAIN)]
    assert desk.state() is SubscriptionState.LIVE

    failing = Desk(connected=False)
    failing.subscriptions.add("chat:a", Grant())
    failing.subscriptions.add("chat:b", Grant())
    assert failing.join(errors.INTERNAL) == errors.INTERNAL
    assert failing.subscriptions.abandon() == [Leave("chat:b", PLAIN)]


@protocol("command.unsubscribe")
def test_server_ends_subscriptions_in_every_state() -> None:
    """The client is told where it knows of the subscription, and answered first where it waits."""
    desk = Desk()
    assert desk.subscriptions.end("chat:a", FINAL) == []
    desk.subscribe()
    leave, answer, push = desk.subscriptions.end("chat:a", FINAL)
    assert (leave, told(push), desk.party.owed) == (Leave("chat:a", PLAIN), FINAL, 0)
    assert result_of(answer) == SubscribeResult()
    desk.subscriptions.add("chat:a", Grant())
    assert desk.subscriptions.end("chat:a", FINAL) == [Leave("chat:a", PLAIN)]
    desk.live()
    leave, push = desk.subscriptions.end("chat:a", FINAL)
    assert (leave, told(push)) == (Leave("chat:a", PLAIN), FINAL)
    early = Desk(connected=False)
    early.subscriptions.add("chat:a", Grant())
    early.join()
    assert early.state() is SubscriptionState.READY
    assert early.subscriptions.end("chat:a", FINAL) == [Leave("chat:a", PLAIN)]
    assert early.subscriptions.connected() == ({}, [])


def test_abandoned_subscriptions_are_left_without_a_word() -> None:
    """In every state, with the traits that they have in the hub."""
    desk = Desk().live(flag=1)
    desk.subscribe("chat:b")
    desk.subscriptions.add("chat:c", Grant())
    assert desk.subscriptions.abandon() == [
        Leave("chat:a", COMPACT),
        Leave("chat:b", PLAIN),
        Leave("chat:c", PLAIN),
    ]
    assert len(desk.subscriptions) == 0


# Presence.


PRESENT: dict[str, Any] = {
    "presence": {"target": "ipv4:127.0.0.1:1"},
    "channel": {
        "namespaces": [
            {
                "name": "room",
                **OPEN,
                "presence": True,
                "join_leave": True,
                "allow_presence_for_subscriber": True,
            },
            {"name": "shy", **OPEN, "presence": True, "join_leave": True},
        ]
    },
}


@protocol("subscribe.join_leave")
@pytest.mark.parametrize(
    ("channel", "wish", "allow", "hears"),
    [
        ("room:a", True, False, True),
        ("room:a", False, False, False),
        ("shy:a", True, False, False),
        ("shy:a", True, True, True),
    ],
)
def test_joins_and_leaves_are_for_who_wishes_them_and_may_know(
    channel: str, wish: bool, allow: bool, hears: bool
) -> None:
    """By the namespace's options, or the capability of the subscription's token."""
    capabilities = Capabilities.on(channel, frozenset({Capability.PRESENCE})) if allow else Capabilities()
    claims = SubscriptionClaims("alice", channel, info=Raw(b"7"), capabilities=capabilities)
    desk = Desk(config=PRESENT, t=claims)
    desk.subscribe(channel, join_leave=wish, token="t")
    (enter,) = [each for each in desk.join(channel=channel) if isinstance(each, Enter)]
    assert enter.attendance == Attendance(counted=True, kept=True, told=True, hears=hears)
    assert enter.info == b"7"
    (leave,) = [each for each in desk.unsubscribe(channel) if isinstance(each, Leave)]
    assert (leave.attendance, leave.info) == (enter.attendance, b"7")


def test_attempt_that_comes_to_nothing_is_not_known_to_presence() -> None:
    """Nobody leaves who never joined."""
    desk = Desk(config=PRESENT)
    desk.subscribe("room:a", join_leave=True)
    (leave,) = [each for each in desk.unsubscribe("room:a") if isinstance(each, Leave)]
    assert leave.attendance is NOBODY


def test_refresh_with_another_info_renews_it_for_presence() -> None:
    """The same info is no news."""
    old = SubscriptionClaims("alice", "room:a", info=Raw(b"1"))
    new = SubscriptionClaims("alice", "room:a", info=Raw(b"2"))
    desk = Desk(config=PRESENT, old=old, new=new)
    desk.subscribe("room:a", token="old")
    assert [each for each in desk.refresh("new", "room:a") if isinstance(each, Renew)] == []
    desk.refresh("old", "room:a")
    desk.join(channel="room:a")
    assert [each for each in desk.refresh("old", "room:a") if isinstance(each, Renew)] == []
    assert [each for each in desk.refresh("new", "room:a") if isinstance(each, Renew)] == [
        Renew("room:a", Attendance(counted=True, kept=True, told=True), b"2")
    ]
