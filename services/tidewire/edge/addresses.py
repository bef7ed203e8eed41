"""How many sockets each client address has. Pure; as large as there are sockets, and empty without any."""

from __future__ import annotations

from ipaddress import IPv6Address


def network(address: str) -> str:
    """Return what counts as one client: an IPv4 address itself, of IPv6 the /64, which is the least that a site is given."""
    if ":" not in address:
        return address
    whole = IPv6Address(address.partition("%")[0])
    if whole.ipv4_mapped is not None:
        return str(whole.ipv4_mapped)
    return f"{int(whole) >> 64:x}/64"


class Tally:
    """A number for each key; keys without one take no room."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def __getitem__(self, key: str) -> int:
        return self._counts.get(key, 0)

    def add(self, key: str) -> None:
        """One more."""
        self._counts[key] = self._counts.get(key, 0) + 1

    def remove(self, key: str) -> None:
        """One less; KeyError where there is none."""
        left = self._counts[key] - 1
        if left:
            self._counts[key] = left
        else:
            del self._counts[key]


class Addresses:
    """Sockets by client address: those that became connections, those of them that are authenticated, and the others.

    Each method takes an IP address as text; "" is that of nobody in particular, and not counted.
    """

    __slots__ = ("_authenticated", "_connections", "_sockets")

    def __init__(self) -> None:
        self._sockets = Tally()
        self._connections = Tally()
        self._authenticated = Tally()

    def __len__(self) -> int:
        return len(self._sockets)

    def enter(self, address: str) -> None:
        """A socket came, or is known now to be this client's."""
        if address:
            self._sockets.add(network(address))

    def upgrade(self, address: str) -> None:
        """One of the address's sockets became a connection."""
        if address:
            self._connections.add(network(address))

    def authenticate(self, address: str) -> None:
        """One of the address's connections has shown a token."""
        if address:
            self._authenticated.add(network(address))

    def leave(self, address: str, *, upgraded: bool, authenticated: bool = False) -> None:
        """A socket went; KeyError for one that never entered."""
        if not address:
            return
        key = network(address)
        self._sockets.remove(key)
        if upgraded:
            self._connections.remove(key)
        if authenticated:
            self._authenticated.remove(key)

    def connections(self, address: str) -> int:
        """Return how many connections the address has."""
        return self._connections[network(address)] if address else 0

    def unfinished(self, address: str) -> int:
        """Return how many sockets the address has of whom nobody knows who they are: in their handshake, or on pages."""
        if not address:
            return 0
        key = network(address)
        return self._sockets[key] - self._authenticated[key]
