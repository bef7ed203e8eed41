"""Who a client is behind proxies: PROXY headers and forwarded addresses on the public port of real edges."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import write_certificate
from tests.support.edges import EdgeProcess, edge_config, mapping, token
from tests.support.http import request, upgrade
from tests.support.nats_server import NatsServer
from tests.support.raw_client import RawClient
from tests.support.wait import PATIENCE, eventually
from tidewire.edge.proxy_protocol import SIGNATURE

CLIENT = "198.51.100.7"
VERSION_1 = f"PROXY TCP4 {CLIENT} 192.0.2.99 4711 443\r\n".encode()
VERSION_2 = (
    SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 12) + bytes([198, 51, 100, 7, 192, 0, 2, 99, 18, 103, 1, 187])
)
TOO_LONG = SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 4000) + b"a" * 4000
LOOPBACK = ["127.0.0.0/8"]


@contextlib.contextmanager
def running(folder: Path, *, patience: str = "20s", **http: Any) -> Iterator[EdgeProcess]:
    """An edge, which must not write a stack; `patience` is how long it waits for a header and a request."""
    with NatsServer(folder / "nats", config=mapping()) as server:
        config = edge_config(server.url, {"http": http, "client": {"handshake_timeout": patience}})
        with EdgeProcess(folder, config) as edge:
            yield edge
            assert [line for line in edge.lines if "exception" in line] == []


async def counted(edge: EdgeProcess, name: str, **outcomes: float) -> None:
    """Wait until so many ended so."""

    async def found() -> bool:
        metrics = await edge.metrics()
        return all(metrics.value(name, outcome=outcome) == number for outcome, number in outcomes.items())

    await eventually(found, message=f"{name} {outcomes}:\n{edge.log}")


async def exchange(edge: EdgeProcess, data: bytes, *, end: bool = False) -> bytes:
    """Send bytes, and perhaps the end of the stream, and return what comes until the edge closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    try:
        writer.write(data)
        if end:
            writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionResetError):
                return await reader.read()
        return b""
    finally:
        writer.close()


async def has_no_sockets(edge: EdgeProcess) -> bool:
    """Whether all are closed."""
    return (await edge.metrics()).value("tidewire_sockets") == 0


class Announced(RawClient):
    """A client whose proxy sends a header first."""

    header = VERSION_1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self.header)
        super().connection_made(transport)


@pytest.mark.parametrize("header", [VERSION_1, VERSION_2])
async def test_client_behind_a_proxy_is_known_by_its_own_address(tmp_path: Path, header: bytes) -> None:
    """In the line of its connection."""
    with running(tmp_path, proxy_protocol=True, trusted_proxies=LOOPBACK) as edge:
        client = Announced(edge.ws_url)
        client.header = header
        await client.open()
        await client.connect(token())
        await client.close()
        await eventually(lambda: edge.logged("connection.closed"))
        assert edge.logged("connection.closed")[0]["peer"] == f"{CLIENT}:4711"
        await counted(edge, "tidewire_proxy_headers_total", used=1)


async def test_header_stands_before_tls(tmp_path: Path) -> None:
    """As a balancer sends it that passes TLS through. Within TLS it is no request."""
    cert = tmp_path / "cert"
    write_certificate(cert, [datetime.now(UTC) + timedelta(days=1)], tmp_path / "key")
    tls = {"cert_file": str(cert), "key_file": str(tmp_path / "key")}
    with running(tmp_path, proxy_protocol=True, trusted_proxies=LOOPBACK, tls=tls) as edge:
        context = ssl.create_default_context(cafile=str(cert))
        for header in (VERSION_1, VERSION_2):
            assert (await request(edge.base_url, tls=context, preface=header)).status == 404
        with pytest.raises(OSError):
            await request(edge.base_url, tls=context)
        await counted(edge, "tidewire_proxy_headers_total", used=2, malformed=1)
        edge.configure({"http": {"proxy_protocol": False}})
        edge.hang_up()
        await eventually(lambda: edge.logged("config.reload_refused"))


async def test_attacks_by_a_proxys_neighbour_are_closed_and_counted(tmp_path: Path) -> None:
    """From an address that is trusted: cut off, too long, of a wrong length, with bad addresses, none at all, too slow."""
    with running(tmp_path, patience="3s", proxy_protocol=True, trusted_proxies=LOOPBACK) as edge:
        bad = [
            b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n",
            TOO_LONG,
            SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 3) + b"abc",
            b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 99999\r\n",
            b"PROXY " + b"x" * 200,
        ]
        for data in bad:
            assert await exchange(edge, data) == b""
        assert await exchange(edge, VERSION_2[:20], end=True) == b""
        await counted(edge, "tidewire_proxy_headers_total", malformed=len(bad), incomplete=1)
        assert await exchange(edge, VERSION_1[:20]) == b""  # and never goes on
        await counted(edge, "tidewire_proxy_headers_total", malformed=len(bad), incomplete=2)
        await counted(edge, "tidewire_handshakes_total", timeout=1)
        assert len(edge.logged("proxy.refused")) == 1
        await eventually(lambda: has_no_sockets(edge))


async def test_stranger_is_not_let_in(tmp_path: Path) -> None:
    """However good its header is."""
    with running(tmp_path, proxy_protocol=True, trusted_proxies=["10.0.0.0/8"]) as edge:
        for _ in range(3):
            assert await exchange(edge, VERSION_1 + b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n") == b""
        await counted(edge, "tidewire_proxy_headers_total", untrusted=3)
        assert [line["outcome"] for line in edge.logged("proxy.refused")] == ["untrusted"]


@pytest.mark.parametrize("header", [VERSION_1, VERSION_2])
async def test_without_the_setting_a_header_is_a_bad_request(tmp_path: Path, header: bytes) -> None:
    """Whoever sends it."""
    with running(tmp_path, trusted_proxies=LOOPBACK) as edge:
        answer = await exchange(edge, header + b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")


async def test_forwarded_address_is_believed_of_proxies_only(tmp_path: Path) -> None:
    """And which are proxies can change by a reload."""
    headers = {"X-Forwarded-For": f"203.0.113.1, {CLIENT}", "Origin": "https://evil.example"}
    with running(tmp_path, trusted_proxies=["10.0.0.0/8"]) as edge:
        await upgrade(edge.websocket_url, headers=headers)
        await counted(edge, "tidewire_forwarded_addresses_total", ignored=1)
        assert edge.logged("handshake.refused")[0]["peer"].startswith("127.0.0.1:")
        assert edge.logged("proxy.address_not_used")[0]["outcome"] == "ignored"
        edge.configure({"http": {"trusted_proxies": LOOPBACK}})
        edge.hang_up()
        await eventually(lambda: edge.logged("config.reloaded"))
        await upgrade(edge.websocket_url, headers={**headers, "Host": "a"})
        await counted(edge, "tidewire_forwarded_addresses_total", used=1)
        await upgrade(edge.websocket_url, headers={**headers, "X-Forwarded-For": "somebody"})
        await counted(edge, "tidewire_forwarded_addresses_total", malformed=1)
