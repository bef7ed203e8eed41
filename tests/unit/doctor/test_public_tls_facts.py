from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.certificates import write_certificate
from tidewire.doctor.facts import ListenerFacts, PublicTlsFacts
from tidewire.doctor.public_tls_facts import EVERY_ADDRESS, reachable, read_public_tls
from tidewire.edge.http_options import HttpConfig, tls_files
from tidewire.kernel.config import decode
from tidewire.platform.certificates import read_identity
from tidewire.platform.http import Listener, listen
from tidewire.platform.rotation import Rotation
from tidewire.platform.tls import TlsPort, TlsSocket

RUNNING = ListenerFacts(setting="http.port", port=1, problem="is taken", edge_runs=True)
NOW = datetime.now(UTC)


def config(folder: Path, port: int = 1) -> HttpConfig:
    """An edge's listener with TLS."""
    tls = {"cert_file": str(folder / "cert"), "key_file": str(folder / "key")}
    return decode(HttpConfig, {"tls": tls, "port": port})


def renew(folder: Path) -> None:
    """Write a certificate."""
    write_certificate(folder / "cert", [NOW + timedelta(days=1)], folder / "key")


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Listener]:
    """A port with the certificate of the files, as they are now."""
    renew(tmp_path)
    files = tls_files(config(tmp_path).tls)
    assert files is not None
    context = read_identity(files, NOW.timestamp()).context
    line = Rotation(lambda: None)
    port = TlsPort(line, line, lambda *_: None)
    listener = await listen(lambda: TlsSocket(context, asyncio.Protocol(), port), "127.0.0.1", 0, "http.port")
    yield listener
    listener.close()


async def test_without_tls_there_is_nothing_to_read() -> None:
    """Clients come without, or it ends before the edge."""
    assert await read_public_tls(HttpConfig(), RUNNING) is None


async def test_certificate_that_an_edge_would_refuse(tmp_path: Path) -> None:
    """In the words that it would say."""
    facts = await read_public_tls(config(tmp_path), RUNNING)
    assert facts == PublicTlsFacts(problem=f"cert_file {tmp_path / 'cert'} is not there, or no regular file")


async def test_running_edge_is_asked_what_it_shows(tmp_path: Path, edge: Listener) -> None:
    """After a renewal without a reload it is another one."""
    here = config(tmp_path, edge.port)
    assert await read_public_tls(here, RUNNING) == PublicTlsFacts(names=("127.0.0.1",), in_force=True)
    renew(tmp_path)
    assert await read_public_tls(here, RUNNING) == PublicTlsFacts(names=("127.0.0.1",), in_force=False)
    idle = ListenerFacts(setting="http.port", port=1)
    assert await read_public_tls(here, idle) == PublicTlsFacts(names=("127.0.0.1",))


async def test_edge_that_does_not_show_it(tmp_path: Path) -> None:
    """To all but its proxies."""
    renew(tmp_path)
    assert await read_public_tls(config(tmp_path), RUNNING) == PublicTlsFacts(names=("127.0.0.1",))


def test_every_address_is_reached_at_loopback() -> None:
    """Others are what they are."""
    assert [reachable(each) for each in (*EVERY_ADDRESS, "192.0.2.1")] == ["127.0.0.1", "::1", "192.0.2.1"]
