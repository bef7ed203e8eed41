"""Which NATS servers there are and in what order to try them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

from tidewire.platform.nats_types import LinkError

MAX_DISCOVERED = 64
"""Servers that a cluster may announce beyond the configured ones; more would only be tried in vain."""


class Server(msgspec.Struct, frozen=True):
    """One server: how to connect to it, and the name its certificate must carry ("" = its host)."""

    url: str
    address: str
    """`host:port`, which tells servers apart and is safe to show."""
    tls_name: str = ""

    @property
    def tls(self) -> bool:
        """Whether the URL asks for TLS."""
        return self.url.startswith("tls://")

    @property
    def shown(self) -> str:
        """The URL without user and password."""
        return f"{self.url.partition('://')[0]}://{self.address}"


def parse_server(url: str) -> Server:
    """Read `nats://` or `tls://` URLs, or a bare `host[:port]`; the port is 4222 when left out.

    Raises:
        LinkError: It is none of these; the sentence never repeats the URL, which may hold a password.
    """
    full = url if "://" in url else f"nats://{url}"
    try:
        parts = urlsplit(full)
        host, port = parts.hostname, parts.port or 4222
    except ValueError:
        raise LinkError("a NATS URL has no valid host and port", final=True) from None
    if parts.scheme not in {"nats", "tls"}:
        raise LinkError(f"a NATS URL starts with nats:// or tls://, not {parts.scheme}://", final=True)
    if not host:
        raise LinkError("a NATS URL names no host", final=True)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    userinfo, at, _ = parts.netloc.rpartition("@")
    return Server(f"{parts.scheme}://{userinfo}{at}{address}", address)


class ServerList:
    """The configured servers and those that the cluster announced, the last used one always tried last."""

    def __init__(self, urls: Iterable[str]) -> None:
        self._configured = [parse_server(url) for url in urls]
        if not self._configured:
            raise LinkError("no NATS URL is configured", final=True)
        self._discovered: list[Server] = []
        self._last = self._configured[0]
        self._order = random.SystemRandom()

    def used(self, server: Server) -> None:
        """Remember which server the link talks to."""
        self._last = server

    def discover(self, addresses: Iterable[str]) -> None:
        """Replace the announced servers by these `host:port`, reached as the current one is."""
        known = {server.address for server in self._configured}
        scheme, _, rest = self._last.url.partition("://")
        userinfo, at, _ = rest.rpartition("@")
        tls_name = self._last.tls_name or (urlsplit(self._last.url).hostname or "")
        fresh = [address for address in dict.fromkeys(addresses) if address not in known]
        self._discovered = [
            Server(f"{scheme}://{userinfo}{at}{address}", address, tls_name)
            for address in fresh[:MAX_DISCOVERED]
        ]

    def candidates(self) -> list[Server]:
        """Return every server once, shuffled so that clients spread, with the last used one at the end."""
        servers = [*self._configured, *self._discovered]
        self._order.shuffle(servers)
        return sorted(servers, key=lambda server: server.address == self._last.address)
