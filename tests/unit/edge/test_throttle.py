from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec import Raw

from tests.fakes.core import Client, Core, Turns
from tests.fakes.edge import believing, edge_config, token
from tests.support.protocol import protocol
from tidewire.edge.client_options import TOKEN_COST
from tidewire.edge.intake import TOKENS_AT_ONCE
from tidewire.edge.policies.claims import ConnectionClaims
from tidewire.edge.policies.tokens import KeyWanted, TokenProblem
from tidewire.edge.throttle import Throttle, cost
from tidewire.edge.wire.commands import (
    Command,
    ConnectRequest,
    PublishRequest,
    RefreshRequest,
    SubRefreshRequest,
    SubscribeRequest,
)
from tidewire.kernel import errors
from tidewire.kernel.token_bucket import Allowance

if TYPE_CHECKING:
    from tidewire.edge.policies.tokens import TokenVerifier

NOW = 1000.0
PONG = Command()


def publishes(count: int) -> list[Command]:
    """Commands that count as one."""
    return [Command(id=n + 2, publish=PublishRequest(channel="a", data=Raw(b"1"))) for n in range(count)]


@pytest.mark.parametrize(
    ("command", "counts"),
    [
        (PONG, 0),
        (Command(id=1), 1),
        (publishes(1)[0], 1),
        (Command(id=1, subscribe=SubscribeRequest(channel="a")), 1),
        (Command(id=1, connect=ConnectRequest()), 1),
        (Command(id=1, subscribe=SubscribeRequest(channel="a", token="t")), TOKEN_COST),
        (Command(id=1, connect=ConnectRequest(token="t")), TOKEN_COST),
        (Command(id=1, refresh=RefreshRequest(token="t")), TOKEN_COST),
        (Command(id=1, sub_refresh=SubRefreshRequest(channel="a", token="t")), TOKEN_COST),
    ],
)
def test_signatures_count_more_and_pongs_not_at_all(command: Command, counts: int) -> None:
    """Whether the token is good is not known yet."""
    assert cost(command) == counts


def test_what_fits_is_taken_and_what_does_not_is_told_when_it_would() -> None:
    """In order; the wait is until all of the refused would fit."""
    throttle, allowance = Throttle(), Allowance(rate=10, burst=20)
    sifted = throttle.sift(publishes(25), allowance, NOW)
    assert [len(sifted.admitted), len(sifted.refused), sifted.abuse] == [20, 5, False]
    assert sifted.wait == pytest.approx(0.5)
    assert not throttle.sift(publishes(5), allowance, NOW + 0.5).refused
    assert throttle.refused == 5


def test_pongs_pass_an_empty_bucket_and_dear_commands_leave_room_for_cheap_ones() -> None:
    """A refused token costs no other command its place."""
    throttle, allowance = Throttle(), Allowance(rate=10, burst=20)
    throttle.sift(publishes(18), allowance, NOW)
    dear = Command(id=9, subscribe=SubscribeRequest(channel="a", token="t"))
    cheap = publishes(2)
    sifted = throttle.sift([dear, PONG, *cheap, PONG], allowance, NOW)
    assert (sifted.admitted, sifted.refused) == ([PONG, *cheap, PONG], [dear])


def test_as_many_refusals_as_commands_are_borne() -> None:
    """So many at once, and so many a second: who sends twice the rate is not closed, who sends more is."""
    allowance = Allowance(rate=10, burst=20)
    throttle = Throttle()
    assert not throttle.sift(publishes(40), allowance, NOW).abuse
    assert throttle.sift(publishes(1), allowance, NOW).abuse
    twice, thrice = Throttle(), Throttle()
    for second in range(60):
        assert not twice.sift(publishes(20), allowance, NOW + second).abuse
    assert any(thrice.sift(publishes(30), allowance, NOW + second).abuse for second in range(60))


# In a session.


def publish(number: int, channel: str = "chat:a") -> dict[str, Any]:
    """A publish command."""
    return {"id": number, "publish": {"channel": channel, "data": number}}


def slow_core(**client: Any) -> Core:
    """An edge on which a client may send sixteen commands at once, and two a second."""
    return Core(client={"command_rate_limit": 2, "command_rate_burst": 16, **client})


def codes(client: Client) -> list[int]:
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


def test_state_of_a_connection_is_small() -> None:
    """There are very many: two times and a number, no object of the garbage collector's."""
    assert sys.getsizeof(Throttle()) <= 40
    assert not gc.is_tracked(Throttle())


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


@pytest.mark.parametrize(("channels", "burst"), [(2, 500), (128, 1290)])
def test_burst_is_a_reconnect_or_a_second_whichever_is_more(channels: int, burst: int) -> None:
    """Few channels are no reason to refuse what a client says about them in one go."""
    core = Core(client={"channel_limit": channels})
    assert core.rules.command_rate == Allowance(rate=500, burst=burst)


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
