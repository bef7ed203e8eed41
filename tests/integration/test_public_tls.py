"""TLS on the public port of real edges: handshakes, attacks on them, and certificates that are replaced."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.certificates import write_certificate
from tests.support.edges import EdgeProcess, edge_config, mapping, token
from tests.support.http import request, upgrade
from tests.support.nats_server import NatsServer
from tests.support.raw_client import RawClient, joined
from tests.support.wait import eventually

GARBAGE = bytes(range(0x20, 0x80)) * 8
TRACES = ("library.log", "process.failed")
"""Events that carry a stack of ours or of a library."""


class Papers(msgspec.Struct, frozen=True):
    """The files of an edge's certificate."""

    cert: Path
    key: Path

    def renew(self, days: float = 30) -> None:
        """Write a new certificate with a new key."""
        write_certificate(self.cert, [datetime.now(UTC) + timedelta(days=days)], self.key)

    @property
    def settings(self) -> dict[str, Any]:
        """What the edge is told of them."""
        return {"cert_file": str(self.cert), "key_file": str(self.key)}

    def client(self, **versions: ssl.TLSVersion) -> ssl.SSLContext:
        """A client that trusts the certificate as it is now."""
        context = ssl.create_default_context(cafile=str(self.cert))
        for name, version in versions.items():
            setattr(context, name, version)
        return context


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    """A good certificate."""
    found = Papers(tmp_path / "edge.crt", tmp_path / "edge.key")
    found.renew()
    return found


@contextlib.contextmanager
def running(
    folder: Path, tls: Mapping[str, Any], *, workers: int = 0, **changes: Any
) -> Iterator[EdgeProcess]:
    """An edge with TLS, which must end without having written a stack."""
    with NatsServer(folder / "nats", config=mapping()) as server:
        config = edge_config(server.url, {"http": {"tls": dict(tls)}, **changes})
        with EdgeProcess(folder, config, workers=workers) as edge:
            yield edge
            assert [line for line in edge.lines if line["event"] in TRACES or "exception" in line] == []


async def handshakes(edge: EdgeProcess, outcome: str) -> float:
    """How many TLS handshakes ended so."""
    return (await edge.metrics()).value("tidewire_tls_handshakes_total", outcome=outcome)


async def counted(edge: EdgeProcess, outcome: str, number: float = 1) -> None:
    """Wait until so many have, and no socket is left."""

    async def found() -> bool:
        metrics = await edge.metrics()
        count = metrics.value("tidewire_tls_handshakes_total", outcome=outcome)
        return count == number and metrics.value("tidewire_sockets") == 0

    await eventually(found, 5, f"{number} x {outcome}:\n{edge.log}")


async def test_clients_are_served_over_both_versions(tmp_path: Path, papers: Papers) -> None:
    """WebSocket and plain HTTP; the connection's line tells the version."""
    with running(tmp_path, papers.settings) as edge:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            tls = papers.client(maximum_version=version)
            heard: list[bytes] = []
            client = await joined(edge.ws_url, token(), "live:x", on_push=heard.append, tls=tls)
            text = "long" * 15_000
            assert "publish" in await client.command(publish={"channel": "live:x", "data": text})
            await eventually(lambda heard=heard, text=text: any(text.encode() in push for push in heard))
            await client.close()
        await eventually(lambda: len(edge.logged("connection.closed")) == 2)
        assert [line["tls"] for line in edge.logged("connection.closed")] == ["TLSv1.2", "TLSv1.3"]
        page = await request(f"{edge.base_url}/", tls=papers.client())
        assert (page.status, b"WebSocket clients connect" in page.body) == (404, True)
        assert (
            await upgrade(edge.websocket_url, headers={"Origin": "https://evil"}, tls=papers.client())
        ).status == 403
        await counted(edge, "ok", 4)
        (line,) = edge.logged("tls.certificate")
        assert line["names"] == ["127.0.0.1"]
