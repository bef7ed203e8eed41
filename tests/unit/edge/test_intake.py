from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.fakes.core import Client as EdgeClient
from tests.fakes.core import Core, Turns
from tests.fakes.edge import believing, edge_config, token
from tests.fakes.sessions import CONNECT, PUBLISH, Client, kinds, owner
from tests.support.protocol import protocol
from tidewire.edge.backlog import MAX_BYTES
from tidewire.edge.effects import (
    Answer,
    Close,
    Dropped,
    Effect,
    Enter,
    FetchKeys,
    Identified,
    Join,
    Leave,
    Opened,
    Ping,
    Publish,
    Published,
)
from tidewire.edge.intake import TOKENS_AT_ONCE
from tidewire.edge.policies.claims import ConnectionClaims, SubscriptionClaims
from tidewire.edge.policies.tokens import KeyWanted, TokenProblem
from tidewire.edge.session_state import SessionState
from tidewire.kernel import errors

if TYPE_CHECKING:
    from tidewire.edge.policies.tokens import TokenVerifier


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


@protocol("ping.pong", "close.owed")
def test_pong_counts_while_a_reply_is_owed_to_a_draining_client() -> None:
    """It is no command, and not counted as one that was dropped."""
    client = Client().connect()
    client.frame({"id": 5, "publish": {"channel": "chat:a", "data": 1}})
    client.session.ping()
    client.session.retire(errors.SHUTDOWN)
    assert client.frame({}) == []
    assert client.session.check_pong() == []


# Keys that have to be fetched, and other commands that wait.


@protocol("connect.subs", "connect.optimistic")
def test_what_stands_behind_a_connect_that_waits_is_carried_out_in_order_behind_its_reply() -> None:
    """In the same frame and in later ones."""
    client = Client(tokens={"t": owner("chat:s")})
    client.frame(CONNECT, {"id": 2, "subscribe": {"channel": "chat:a"}})
    assert client.frame(PUBLISH, {"id": 6, "subscribe": {"channel": "chat:s"}}) == []
    assert kinds(client.joined("chat:s")) == [Answer, Enter, Opened, Join, Publish, Answer]
    assert [reply.get("error", {}).get("code") for reply in client.replies()] == [None, 105]


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


# Commands that come too fast.


def publish(number: int, channel: str = "chat:a") -> dict[str, Any]:
    """A publish command."""
    return {"id": number, "publish": {"channel": channel, "data": number}}


def slow_core(**client: Any) -> Core:
    """An edge on which a client may send sixteen commands at once, and two a second."""
    return Core(client={"command_rate_limit": 2, "command_rate_burst": 16, **client})


def codes(client: EdgeClient) -> list[int]:
    """The codes of what the client was answered; 0 is success."""
    return [reply.get("error", {}).get("code", 0) for reply in client.heard()]


@protocol("command.rate", "error.111", "disconnect.3013")
def test_commands_over_the_rate_get_111_and_who_goes_on_is_closed() -> None:
    """Ten of sixteen were for connect. What is carried out is answered as ever; the refusal says when to try again."""
    core = slow_core()
    client = core.client()
    client.say(*[publish(number) for number in range(2, 10)])
    assert len(core.broker.published) == 6
    refused = client.heard()
    assert [(each["id"], each["error"]["code"]) for each in refused] == [(8, 111), (9, 111)]
    assert refused[0]["error"]["message"] == "too many requests: try again in 1.0 s"
    assert refused[0]["error"]["temporary"]
    core.clock.advance(1)
    client.say(publish(10), publish(11))
    assert (len(core.broker.published), codes(client)) == (8, [])
    client.say(*[publish(number) for number in range(12, 30)])
    assert (client.closed, len(core.broker.published)) == (3013, 8)
    assert core.metrics.of("commands_throttled") == [("refused", 2), ("closed", 18)]
    assert client.connection.session.throttled == 20


@protocol("command.rate")
@pytest.mark.parametrize("channels", [128, 300])
def test_sdk_that_comes_back_with_all_its_subscriptions_is_not_refused(channels: int) -> None:
    """By default, in one frame, each with a token, as the JavaScript SDK does."""
    core = Core(client={"channel_limit": channels, "inflight_limit": channels})
    client = core.client(None)
    names = [f"chat:{number}" for number in range(channels)]
    subscribes = [
        {"id": number + 2, "subscribe": {"channel": name, "token": token("alice", channel=name), "flag": 1}}
        for number, name in enumerate(names)
    ]
    client.say({"id": 1, "connect": {"token": token("alice")}}, *subscribes)
    for name in names:
        core.broker.confirm(name)
    assert codes(client) == [0] * (channels + 1)
    client.say(publish(1000))
    assert codes(client) == [111]


@protocol("command.rate")
def test_pongs_are_never_refused() -> None:
    """Otherwise a busy client would be closed for its silence."""
    core = slow_core()
    client = core.client()
    client.say(*[publish(number) for number in range(2, 9)])
    core.run(13)
    client.say(*[publish(number) for number in range(20, 40)])
    client.raw(b"{}")
    core.run(9)
    assert client.closed == 0


@protocol("command.rate")
def test_send_has_no_answer_to_refuse_it_with() -> None:
    """It is dropped and counted: a reply without an id would be a ping."""
    core = Core(client={"command_rate_limit": 2, "command_rate_burst": 16}, send={"enabled": True})
    client = core.client()
    client.say(*[{"send": {"data": number}} for number in range(8)])
    assert (len(core.broker.sent), client.frames()) == (6, [])
    assert core.metrics.of("commands_dropped") == [(1,), (1,)]


def test_what_was_refused_behind_a_connect_that_fails_is_dropped_silently() -> None:
    """As all that stands behind it in the frame."""
    core = slow_core()
    client = core.client(None)
    client.say({"id": 1, "connect": {"token": token("alice", exp=1)}}, *[publish(n) for n in range(2, 12)])
    assert [(each["id"], each["error"]["code"]) for each in client.heard()] == [(1, 109)]
    assert client.heard() == core.metrics.of("commands_dropped") == []


def test_draining_edge_still_closes_with_its_own_code() -> None:
    """A client on its way out is owed replies, however fast it sends."""
    core = slow_core()
    client = core.client()
    client.say(publish(2))
    core.dispatcher.retire(client.connection, errors.SHUTDOWN)
    client.say(*[publish(number) for number in range(3, 100)])
    assert client.closed == 0
    core.broker.published[0][3](None)
    assert (codes(client), client.closed) == ([0], 3001)


def test_commands_that_wait_have_paid_when_they_came() -> None:
    """Those behind a key that is fetched, and the one that waits for it, are judged later, and counted once."""
    core = slow_core()
    tokens = believing(core.rules, t=KeyWanted("source"))
    client = core.client(None)
    client.say({"id": 1, "connect": {"token": "t"}}, *[publish(number) for number in range(2, 9)])
    assert codes(client) == [111]
    tokens.verdicts["t"] = ConnectionClaims("alice")
    core.keys.wanted[0][1]()
    assert (len(core.broker.published), codes(client)) == (6, [0])
    client.say(publish(9))
    assert codes(client) == [111]


def test_without_a_limit_nothing_is_kept_for_it_and_a_reload_may_begin_to_limit() -> None:
    """Connections that live, too."""
    core = Core(client={"command_rate_limit": 0, "inflight_limit": 5000})
    client = core.client()
    client.say(*[publish(number) for number in range(2, 1000)])
    assert len(core.broker.published) == 998
    assert client.connection.session._throttle is None
    core.rules.configure(edge_config(client={"command_rate_limit": 2, "command_rate_burst": 16}))
    core.broker.published.clear()
    client.say(*[publish(number) for number in range(1000, 1020)])
    assert client.connection.session.throttled == 4


# Many tokens in one frame.


class CountedTokens:
    """A verifier that finds every token bad, and counts them."""

    why = "bad"

    def __init__(self) -> None:
        self.checked = 0

    def connection(self, _token: str) -> ConnectionClaims:
        self.checked += 1
        return ConnectionClaims("alice")

    def subscription(self, _token: str) -> TokenProblem:
        self.checked += 1
        return TokenProblem.INVALID


def token_frame(count: int) -> list[dict[str, Any]]:
    """A connect command and subscribe commands that only a signature can refuse."""
    subscribes = [
        {"id": number + 2, "subscribe": {"channel": "chat:a", "token": "t"}} for number in range(count)
    ]
    return [{"id": 1, "connect": {"token": "t"}}, *subscribes]


@pytest.mark.parametrize("rate", [0, 200])
def test_tokens_of_one_frame_are_checked_a_few_at_a_time_and_all_others_are_served_between(rate: int) -> None:
    """In order, each once; with a rate no more of them than its burst holds. Pongs and other clients do not wait."""
    turns = Turns()
    core = Core(client={"command_rate_limit": rate}, later=turns.later)
    neighbour = core.client("bob")
    tokens = CountedTokens()
    core.rules.tokens = cast("TokenVerifier", tokens)
    client = core.client(None)
    client.say(*token_frame(100))
    found = []
    while turns:
        assert tokens.checked - len(found) <= TOKENS_AT_ONCE
        found += [reply["id"] for reply in client.heard()]
        neighbour.say(publish(len(found)))
        assert core.broker.published[-1][0] == "chat:a"
        core.clock.costs = 0.003  # one step fills a slice
        turns.turn()
        core.clock.costs = 0.0
    found += [reply["id"] for reply in client.heard()]
    assert (found, tokens.checked) == (list(range(1, 102)), 101)


def test_flood_of_bad_tokens_is_bounded_by_the_burst() -> None:
    """Before the limit one frame of 64 KiB held some 200, all of which were checked at once."""
    core = Core(client={"inflight_limit": 1000})
    tokens = CountedTokens()
    core.rules.tokens = cast("TokenVerifier", tokens)
    client = core.client(None)
    client.say(*token_frame(199))
    assert tokens.checked == 129
    assert codes(client).count(111) == 200 - 129


def test_connection_that_ends_while_its_tokens_wait_is_forgotten() -> None:
    """Nothing is checked for it any more."""
    turns = Turns()
    core = Core(later=turns.later)
    tokens = CountedTokens()
    core.rules.tokens = cast("TokenVerifier", tokens)
    client = core.client(None)
    client.say(*token_frame(50))
    core.dispatcher.lost(client.connection)
    turns.turn()
    assert (tokens.checked, len(turns), len(core.dispatcher.connections)) == (TOKENS_AT_ONCE, 0, 0)


def test_close_behind_as_many_tokens_as_are_checked_at_once_leaves_nothing_waiting() -> None:
    """What stands behind it is dropped, not kept."""
    turns = Turns()
    core = Core(later=turns.later)
    core.rules.tokens = cast("TokenVerifier", CountedTokens())
    client = core.client(None)
    frame = token_frame(TOKENS_AT_ONCE + 5)
    frame.insert(TOKENS_AT_ONCE, {"id": 99, "subscribe": {"channel": ""}})
    client.say(*frame)
    assert (client.closed, len(turns)) == (3501, 0)


@pytest.mark.parametrize("more", [0, 1])
def test_the_first_token_too_many_waits(more: int) -> None:
    """As many as may be checked at once are, with nobody's turn in between."""
    turns = Turns()
    core = Core(later=turns.later)
    tokens = CountedTokens()
    core.rules.tokens = cast("TokenVerifier", tokens)
    core.client(None).say(*token_frame(TOKENS_AT_ONCE - 1 + more))
    assert (tokens.checked, len(turns)) == (TOKENS_AT_ONCE, more)
