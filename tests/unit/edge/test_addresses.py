from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewire.edge.addresses import Addresses, network

ADDRESSES = [
    "192.0.2.1",
    "192.0.2.2",
    "2001:db8::1",
    "2001:db8::2",
    "2001:db8:0:1::1",
    "::ffff:192.0.2.1",
    "",
]


@pytest.mark.parametrize(
    ("address", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("::1", "0:0:0:1::1", False),
    ],
)
def test_client_is_an_ipv4_address_or_an_ipv6_network(address: str, other: str, same: bool) -> None:
    """Who has a /64, and every site has, could change its address for each connection."""
    assert (network(address) == network(other)) is same


def test_nobody_in_particular_is_not_counted() -> None:
    """A socket without an address, or a proxy of ours that has not said yet for whom it comes."""
    addresses = Addresses()
    addresses.enter("")
    addresses.upgrade("")
    assert (addresses.connections(""), addresses.unfinished(""), len(addresses)) == (0, 0, 0)
    addresses.leave("", upgraded=True)


def test_who_never_came_cannot_leave() -> None:
    """A count would be below zero: a mistake of ours, that must be seen."""
    addresses = Addresses()
    with pytest.raises(KeyError):
        addresses.leave("192.0.2.1", upgraded=False)
    addresses.enter("192.0.2.1")
    with pytest.raises(KeyError):
        addresses.leave("192.0.2.1", upgraded=True)


@given(st.lists(st.tuples(st.sampled_from(ADDRESSES), st.integers(0, 2), st.booleans())))
def test_counts_are_those_of_the_sockets_that_are_there(steps: list[tuple[str, int, bool]]) -> None:
    """After any coming and going; addresses without a socket take no room."""
    addresses = Addresses()
    there: list[tuple[str, bool, bool]] = []
    for address, action, upgraded in steps:
        if action:
            addresses.enter(address)
            authenticated = upgraded and action == 2
            if upgraded:
                addresses.upgrade(address)
            if authenticated:
                addresses.authenticate(address)
            there.append((address, upgraded, authenticated))
        elif there:
            gone, was_upgraded, was_authenticated = there.pop(0)
            addresses.leave(gone, upgraded=was_upgraded, authenticated=was_authenticated)
    connections = Counter(network(each) for each, upgraded, _ in there if each and upgraded)
    unfinished = Counter(network(each) for each, _, authenticated in there if each and not authenticated)
    for address in filter(None, ADDRESSES):
        assert addresses.connections(address) == connections[network(address)]
        assert addresses.unfinished(address) == unfinished[network(address)]
    assert len(addresses) == len({*connections, *unfinished})
    for each, upgraded, authenticated in there:
        addresses.leave(each, upgraded=upgraded, authenticated=authenticated)
    assert len(addresses) == len(addresses._connections) == len(addresses._authenticated) == 0
