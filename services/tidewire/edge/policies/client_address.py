"""Whose connection is this? The client's address behind proxies, whom we believe only if they are known. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, Protocol

import msgspec

MOST_HOPS: Final = 16
"""Addresses of a header that are looked at, from the right."""
LONGEST: Final = 45
"""Characters of an address (IPv6 with an IPv4 tail)."""


class HeaderFields(Protocol):
    """The header fields of a request."""

    def get_all(self, key: str) -> Sequence[str]:
        """Return every value of a field, in order; names are case-insensitive."""


class Forwarded(msgspec.Struct, frozen=True):
    """The client's address, and what became of the header: `absent`, `used`, `ignored` (of a stranger), `malformed`."""

    address: str
    outcome: str


class TrustedProxies:
    """Networks of proxies, and the header in which they give the address of their peer."""

    __slots__ = ("_header", "_networks")

    def __init__(self, networks: Sequence[str] = (), header: str = "") -> None:
        """Take networks (CIDR); raises ValueError for what is none."""
        self._networks = tuple(ip_network(network) for network in networks)
        self._header = header

    def trusts(self, address: str) -> bool:
        """Return whether a canonical address is a proxy's."""
        if not self._networks or not address:
            return False
        parsed = ip_address(address)
        return any(parsed in network for network in self._networks)

    def client(self, peer: str, headers: HeaderFields) -> Forwarded:
        """Return the client's address for a request of `peer`.

        Each proxy adds its own peer on the right, so that the list is true from the right to the first address that is
        no proxy's, which is the client's; what stands left of it the client may have made up. An entry that is no
        address ends the walk, and the nearest address that is known counts.
        """
        values = headers.get_all(self._header) if self._header else ()
        if not values:
            return Forwarded(peer, "absent")
        if not self.trusts(peer):
            return Forwarded(peer, "ignored")
        nearest = peer
        for entry in reversed(",".join(values).rsplit(",", MOST_HOPS)[-MOST_HOPS:]):
            address = canonical(_without_port(entry.strip()))
            if address is None:
                return Forwarded(nearest, "malformed")
            nearest = address
            if not self.trusts(address):
                break
        return Forwarded(nearest, "used")


NOBODY: Final = TrustedProxies()
"""Believes no proxy."""


def canonical(text: str) -> str | None:
    """Return the one way to write an IP address, an IPv4 address mapped into IPv6 as IPv4; None for what is none."""
    return None if len(text) > LONGEST or "%" in text else canonical_form(text)


@lru_cache(maxsize=1024)  # of proxies, and of clients that come several times at once
def canonical_form(text: str) -> str | None:
    """Return what `canonical` does, of a text of bounded length."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _without_port(text: str) -> str:
    """`192.0.2.1:443`, `[2001:db8::1]:443` and `[2001:db8::1]` are written by some proxies."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        return host if bracket and (not rest or _is_port(rest)) else text
    host, colon, port = text.partition(":")
    return host if colon and _is_port(f":{port}") else text


def _is_port(text: str) -> bool:
    return text.startswith(":") and text[1:].isascii() and text[1:].isdigit() and len(text) <= 6
