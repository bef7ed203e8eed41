"""What is measured: stands (who is connected how) and the rows that each of them gives."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from bench.load import servers
from bench.load.servers import PREFIX, Server

TIDEWIRE = "tidewire"
LIMIT = "C limit"
SOCKETIO = "Socket.IO on Node"
CONNECT, MEMORY = "connect", "memory"
SECURE_CONNECT, SECURE_MEMORY = "connect over TLS", "memory over TLS"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table for each server.

    Either `rate` deliveries per second are due by a schedule, or each of `publishers` keeps `window` publications in
    flight, on `spread` channels in turn. `counts` names what is counted per CPU-second. Where nobody subscribes `rate` is of
    publications.
    """

    name: str
    rate: float = 0
    window: int = 0
    publishers: int = 1
    spread: int = 1
    counts: str = "deliveries"
    payload: int = 128


class Stand(msgspec.Struct, frozen=True):
    """Connections that stay for several rows; without channels they do not subscribe.

    `further` servers are measured with this stand only; with `servers` these are measured instead of all others.
    """

    name: str
    connections: int
    channels: int
    rows: tuple[Row, ...]
    further: Mapping[str, Server] = {}
    servers: Mapping[str, Server] | None = None

    def scaled(self, factor: int) -> Stand:
        """Return the stand with so many times fewer connections, channels and publishers."""
        rows = [
            msgspec.structs.replace(
                row,
                publishers=max(1, row.publishers // factor),
                rate=row.rate if self.channels else row.rate / factor,
            )
            for row in self.rows
        ]
        return msgspec.structs.replace(
            self,
            connections=self.connections // factor,
            channels=max(1, self.channels // factor) if self.channels else 0,
            rows=tuple(rows),
        )

    def order(self, row: Row) -> dict[str, float | str]:
        """Return the generator's order for a row."""
        order: dict[str, float | str] = {
            "publishers": row.publishers,
            "prefix": PREFIX,
            "payload": row.payload,
            "spread": row.spread,
        }
        if row.window:
            return {**order, "window": row.window}
        return {**order, "rate": row.rate * self.channels / self.connections if self.channels else row.rate}


STANDS = (
    Stand(
        "one channel of 10k",
        10_000,
        1,
        (
            Row(name="50k/s", rate=50_000),
            Row(name="1 in flight", window=1),
            Row(name="16 in flight", window=16),
        ),
    ),
    Stand(
        "one channel of 1k",
        1_000,
        1,
        (
            Row(name="50k/s", rate=50_000),
            Row(name="16 in flight", window=16),
        ),
    ),
    Stand(
        "one channel of 1k, 2 KiB each",
        1_000,
        1,
        (Row(name="20k/s", rate=20_000, payload=2048),),
        {"tidewire, compressed": servers.compressing},
    ),
    Stand(
        "1k channels of 10",
        10_000,
        1_000,
        (
            Row(name="20k/s", rate=20_000, publishers=1_000),
            Row(name="64 in flight", window=1, publishers=64),
        ),
    ),
    Stand(
        "acked publishes",
        100,
        0,
        (
            Row(name="1 in flight", window=1, publishers=100, counts="acks"),
            Row(name="16 in flight", window=16, publishers=100, counts="acks"),
        ),
    ),
)

SERVERS: dict[str, Server] = {TIDEWIRE: servers.tidewire, LIMIT: servers.limit}
"""Those that every stand is measured with; ratios are to `LIMIT`."""
PEERS: dict[str, Server] = {
    SOCKETIO: servers.socketio_node,
    "python-socketio": servers.python_socketio,
}
"""Those that are measured beside them where they are installed."""
BARE: dict[str, Server] = {"bare ServerProtocol": servers.bare_upgrade}
"""What handshakes are held against: it only upgrades."""

SECURE: dict[str, Server] = {TIDEWIRE: servers.tidewire_tls, LIMIT: servers.limit_tls}
"""The same with TLS 1.3."""
SECURE_STAND = Stand(
    "one channel of 10k over TLS",
    10_000,
    1,
    (Row(name="20k/s", rate=20_000),),
    servers={**SECURE, "tidewire without TLS": servers.tidewire},
)
"""Beside it the plain edge at the same rate: what TLS costs."""


class Size(msgspec.Struct, frozen=True):
    """How many connections a row of connects makes, and between which numbers memory's slope is taken."""

    connects: int
    memory_from: int
    memory_to: int

    def scaled(self, factor: int) -> Size:
        """Return so many times fewer."""
        return Size(self.connects // factor, self.memory_from // factor, self.memory_to // factor)


PLAIN_SIZE = Size(connects=5_000, memory_from=1_000, memory_to=5_000)
SECURE_SIZE = Size(connects=2_000, memory_from=500, memory_to=3_000)
