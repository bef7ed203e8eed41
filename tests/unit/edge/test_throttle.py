from __future__ import annotations

import gc
import sys

import pytest
from msgspec import Raw

from tests.fakes.core import Core
from tidewire.edge.client_options import TOKEN_COST
from tidewire.edge.throttle import Throttle, cost
from tidewire.edge.wire.commands import (
    Command,
    ConnectRequest,
    HistoryRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    RpcRequest,
    SubRefreshRequest,
    SubscribeRequest,
)
from tidewire.kernel.token_bucket import Allowance

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
        (Command(id=1, subscribe=SubscribeRequest(channel="a", recover=True)), TOKEN_COST),
        (Command(id=1, subscribe=SubscribeRequest(channel="a", token="t", recover=True)), TOKEN_COST),
        (Command(id=1, history=HistoryRequest(channel="a", limit=-1)), TOKEN_COST),
        (Command(id=1, history=HistoryRequest(channel="a", limit=1)), TOKEN_COST),
        (Command(id=1, history=HistoryRequest(channel="a")), 1),
        (Command(id=1, presence=PresenceRequest(channel="a")), TOKEN_COST),
        (Command(id=1, presence_stats=PresenceStatsRequest(channel="a")), TOKEN_COST),
        (Command(id=1, rpc=RpcRequest(method="tw.user_status")), TOKEN_COST),
        (Command(id=1, rpc=RpcRequest(method="add")), 1),
    ],
)
def test_signatures_and_reads_count_more_and_pongs_not_at_all(command: Command, counts: int) -> None:
    """Whether the token is good, or anything is there to be read, is not known yet."""
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


def test_state_of_a_connection_is_small() -> None:
    """There are very many: two times and a number, no object of the garbage collector's."""
    assert sys.getsizeof(Throttle()) <= 40
    assert not gc.is_tracked(Throttle())


@pytest.mark.parametrize(("channels", "burst"), [(2, 500), (128, 1290)])
def test_burst_is_a_reconnect_or_a_second_whichever_is_more(channels: int, burst: int) -> None:
    """Few channels are no reason to refuse what a client says about them in one go."""
    core = Core(client={"channel_limit": channels})
    assert core.rules.command_rate == Allowance(rate=500, burst=burst)
