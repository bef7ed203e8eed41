"""Addresses that proxies forward. Input: values of the header, each on a line."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from tidewire.edge.policies.client_address import MOST_HOPS, TrustedProxies, canonical

LONGEST = 160
PEER = "192.0.2.9"
NETWORKS = ("192.0.2.0/24", "2001:db8::/32")
HEADER = "X-Forwarded-For"
_NETWORKS = [ip_network(network) for network in NETWORKS]
PROXIES = TrustedProxies(NETWORKS, HEADER)


class Fields:
    """The header fields of a request that has only this one."""

    def __init__(self, values: list[str]) -> None:
        self._values = values

    def get_all(self, key: str) -> list[str]:
        """See client_address.HeaderFields."""
        return self._values if key == HEADER else []


def check(data: bytes) -> None:
    """Demand an address in its one form: of the first hop from the right that is no proxy's, and never from left of it."""
    values = data.decode("latin-1").split("\n")
    found = PROXIES.client(PEER, Fields(values))
    address = ip_address(found.address)
    assert str(address) == found.address
    assert "%" not in found.address
    assert getattr(address, "ipv4_mapped", None) is None
    assert TrustedProxies((), HEADER).client(PEER, Fields(values)).address == PEER
    nearest = PEER
    for entry in reversed(",".join(values).split(",")[-MOST_HOPS:]):
        hop = canonical(_bare(entry.strip()))
        if hop is None:
            break
        nearest = hop
        if not any(ip_address(hop) in network for network in _NETWORKS):
            break
    assert found.address == nearest
    assert found.outcome == ("malformed" if hop is None else "used")


def _bare(entry: str) -> str:
    """Return an entry without brackets and port, which only an address in brackets or one of IPv4 has."""
    host, mark, port = entry.rpartition(":")
    has_port = bool(mark) and port.isascii() and port.isdigit() and len(port) <= 5
    if has_port and (host.count(":") == 0 or (host.startswith("[") and host.endswith("]"))):
        entry = host
    inner = entry[1:-1]
    return inner if entry.startswith("[") and entry.endswith("]") and "]" not in inner else entry


SEEDS = [
    b"198.51.100.7",
    b"198.51.100.7, 192.0.2.1 ,2001:db8::1",
    b"evil, 198.51.100.7:443\n[2001:db8::1]:8443, [2001:db8::2]",
    b"::ffff:198.51.100.7, 192.0.2.1",
    b"fe80::1%eth0, 192.0.2.1",
    b"198.51.100.007, ::ffff:1",
    b"unknown, 192.0.2.1:65536, _hidden",
    b",,",
    b"",
    b"1.1.1.1," * 18 + b"192.0.2.1",
    b"192.0.2.1," * 15 + b"192.0.2.2",
]
