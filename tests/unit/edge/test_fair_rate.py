from __future__ import annotations

import pytest

from tests.support.protocol import protocol
from tidewire.edge.fair_rate import FairRate
from tidewire.kernel.token_bucket import Allowance

ALLOWANCE = Allowance(rate=100, burst=200)
GREEDY = "192.0.2.66"


def taken(rate: FairRate, address: str, now: float, tries: int = 1000) -> int:
    """How many tokens an address gets that asks so often at once."""
    return sum(rate.take(address, ALLOWANCE, now) for _ in range(tries))


@protocol("handshake.rate")
def test_one_address_never_takes_what_the_others_need() -> None:
    """It asks all the time, for ten seconds; ten others that come each second find their tokens."""
    rate = FairRate()
    for tick in range(100):
        taken(rate, GREEDY, tick / 10)
        if tick % 10 == 0:
            others = [f"192.0.2.{number}" for number in range(10)]
            assert [taken(rate, other, tick / 10, 1) for other in others] == [1] * 10


def test_it_leaves_a_fifth_and_the_next_a_fifth_of_that() -> None:
    """Of IPv6 a /64 is one address."""
    rate = FairRate()
    assert [taken(rate, each, 0) for each in (GREEDY, "2001:db8::1", "2001:db8::2")] == [160, 32, 0]


def test_address_that_is_alone_gets_the_whole_rate() -> None:
    """An office behind one address comes back as fast as anybody, but for a part of the burst."""
    rate = FairRate()
    assert sum(taken(rate, GREEDY, tick / 10) for tick in range(100)) == pytest.approx(1000, abs=200)


@protocol("handshake.rate")
def test_all_together_get_no_more_than_the_rate() -> None:
    """However many addresses they have."""
    rate = FairRate()
    assert sum(taken(rate, f"10.0.{number >> 8}.{number & 255}", 0, 1) for number in range(1000)) == 200
    assert taken(rate, "", 0) == 0
    assert taken(rate, "", 0.1) == 10


def test_nobody_in_particular_may_take_it_all() -> None:
    """A socket without an address, or of a proxy that does not say for whom it comes."""
    assert taken(FairRate(), "", 0) == 200


def test_what_is_kept_is_bounded_and_forgotten() -> None:
    """Addresses cost an attacker with IPv6 nothing."""
    rate = FairRate()
    for number in range(20_000):
        rate.take(f"2001:db8:{number >> 8:x}:{number & 255:x}::1", ALLOWANCE, number / 10_000)
    assert 200 <= len(rate) <= 400
    rate.take(GREEDY, ALLOWANCE, 10)
    assert len(rate) == 1
