from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers

from tidewire.edge.policies.client_address import MOST_HOPS, NOBODY, Forwarded, TrustedProxies, canonical

PROXY, OTHER_PROXY, CLIENT = "10.0.0.1", "10.0.0.2", "192.0.2.7"
PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8:ff::/48"], "X-Forwarded-For")


def client(*values: str, peer: str = PROXY, proxies: TrustedProxies = PROXIES) -> Forwarded:
    """The verdict on a request with these headers."""
    return proxies.client(peer, Headers([("x-forwarded-for", value) for value in values]))


@pytest.mark.parametrize(
    ("values", "address"),
    [
        ([CLIENT], CLIENT),
        ([f"198.51.100.1, {CLIENT}"], CLIENT),
        ([f"{CLIENT}, {OTHER_PROXY}"], CLIENT),
        ([CLIENT, OTHER_PROXY], CLIENT),
        ([f"198.51.100.1,{CLIENT} ,\t{OTHER_PROXY}"], CLIENT),
        ([OTHER_PROXY], OTHER_PROXY),
        ([f"{CLIENT}:50000"], CLIENT),
        (["[2001:DB8::0:7]:50000"], "2001:db8::7"),
        (["[2001:db8::7]"], "2001:db8::7"),
        (["2001:db8::7, 2001:db8:ff::1"], "2001:db8::7"),
        ([f"::ffff:{CLIENT}"], CLIENT),
        ([f"{CLIENT}, ::ffff:10.9.9.9"], CLIENT),
        ([f"nonsense, {CLIENT}"], CLIENT),
    ],
)
def test_last_address_that_is_no_proxy_is_the_client(values: list[str], address: str) -> None:
    """Whatever a client itself wrote stands left of it."""
    assert client(*values) == Forwarded(address, "used")


@pytest.mark.parametrize("peer", [CLIENT, "", "2001:db8:fe::1", "11.0.0.1"])
def test_stranger_is_not_believed(peer: str) -> None:
    """He would choose whose limits he uses up."""
    assert client("198.51.100.1", peer=peer) == Forwarded(peer, "ignored")
    assert client("198.51.100.1", peer=PROXY, proxies=NOBODY) == Forwarded(PROXY, "absent")


@pytest.mark.parametrize(
    ("value", "nearest"),
    [
        ("", PROXY),
        ("unknown", PROXY),
        (f"{CLIENT}, unknown", PROXY),
        (f"{CLIENT}, unknown, {OTHER_PROXY}", OTHER_PROXY),
        ("192.0.2.07", PROXY),
        ("fe80::1%eth0", PROXY),
        ("192.0.2.7:port", PROXY),
        ("192.0.2.7:123456", PROXY),
        ("[192.0.2.7", PROXY),
        ("[::1]x", PROXY),
        ("1" * 100, PROXY),
    ],
)
def test_entry_that_is_no_address_ends_the_walk(value: str, nearest: str) -> None:
    """What stands left of it nobody vouches for."""
    assert client(value) == Forwarded(nearest, "malformed")


def test_without_the_header_the_peer_is_the_client() -> None:
    """Such as a health check of the proxy."""
    assert client() == Forwarded(PROXY, "absent")


def test_walk_is_bounded() -> None:
    """However long the list is."""
    long = ", ".join([CLIENT] + [f"10.1.{number // 256}.{number % 256}" for number in range(2000)])
    found = client(long)
    assert found == Forwarded(f"10.1.{(2000 - MOST_HOPS) // 256}.{(2000 - MOST_HOPS) % 256}", "used")


def test_another_header_can_be_configured() -> None:
    """And then the usual one says nothing."""
    proxies = TrustedProxies(["10.0.0.0/8"], "CF-Connecting-IP")
    headers = Headers([("X-Forwarded-For", "198.51.100.1"), ("cf-connecting-ip", CLIENT)])
    assert proxies.client(PROXY, headers) == Forwarded(CLIENT, "used")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("2001:0DB8:0:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:c000:207", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7 ", None),
        ("192.0.2", None),
        ("", None),
    ],
)
def test_an_address_has_one_name(text: str, address: str | None) -> None:
    """Otherwise a client would have as many limits as its address has names."""
    assert canonical(text) == address


class AnyText:
    """Header fields whose values may be anything."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_all(self, key: str) -> list[str]:
        return [self.text]


@given(st.text(max_size=200) | st.text("0123456789abcdef:.[], %", max_size=60))
def test_any_header_gives_an_address(text: str) -> None:
    """And never an exception."""
    assert canonical(PROXIES.client(PROXY, AnyText(text)).address) is not None
