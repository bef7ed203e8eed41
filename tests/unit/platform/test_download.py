from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from pathlib import Path

import pytest

from tests.support.jwks_server import JwksServer, serving
from tests.support.wait import PATIENCE
from tidewire.platform.download import DownloadFailed, download

TLS = Path(__file__).parents[2] / "support" / "tls"
CA = str(TLS / "ca.pem")


def tls() -> ssl.SSLContext:
    """A server's context with the certificate for 127.0.0.1."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "server.pem", TLS / "server-key.pem")
    return context


async def failed(url: str, most_bytes: int = 100, timeout: float = 5, ca_file: str = "") -> tuple[str, str]:
    """Kind and text of the failure."""
    with pytest.raises(DownloadFailed) as error:
        await download(url, timeout=timeout, most_bytes=most_bytes, ca_file=ca_file)
    return error.value.kind, str(error.value)


async def test_a_body_of_the_largest_size() -> None:
    """Asked for once, uncompressed, and without anything of the environment."""
    async with serving(b"x" * 100) as server:
        assert await download(server.url, timeout=PATIENCE, most_bytes=100) == b"x" * 100
        assert b"accept-encoding: identity\r\n" in server.heads[0].lower()
        assert b"authorization" not in server.heads[0].lower()
        assert server.requests == 1


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where keys come from the configuration alone says."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with serving(b"x") as server:
        assert await download(server.url, timeout=PATIENCE, most_bytes=100) == b"x"


async def test_too_much() -> None:
    """Whether the length is told or not; the rest is not read."""
    async with serving(b"x" * 10_000_000) as server:
        assert await failed(server.url) == ("too_large", "over 100 bytes")
        server.headers = {"Content-Length": "", "Transfer-Encoding": "identity"}
        assert (await failed(server.url))[0] in {"too_large", "connection"}


@pytest.mark.parametrize("status", [204, 301, 302, 307, 400, 404, 500, 503])
async def test_other_answers(status: int) -> None:
    """A redirect is one of them: it could lead anywhere."""
    async with serving(b"good") as good, serving(b"") as server:
        server.redirect(good.url)
        server.status = status
        assert await failed(server.url) == ("status", f"HTTP {status}")
        assert good.requests == 0


async def test_a_compressed_answer() -> None:
    """A few bytes could become gigabytes."""
    async with serving(gzip.compress(b"x" * 1000)) as server:
        server.headers = {"Content-Encoding": "gzip"}
        assert (await failed(server.url))[0] == "encoding"


async def test_a_server_that_hangs_or_drips() -> None:
    """The time is for everything together, not for each byte."""
    async with serving(b"x" * 1000) as server:
        server.drips = True
        began = time.monotonic()
        assert await failed(server.url, 10_000, timeout=0.2) == ("timeout", "no answer within 0.2 s")
        server.answering.clear()
        assert await failed(server.url, timeout=0.2) == ("timeout", "no answer within 0.2 s")
        assert time.monotonic() - began < 8  # of the 10 s that it would drip


async def test_nobody_there_and_nonsense() -> None:
    """Each is a failure with its text, never another error."""
    server = JwksServer()
    await server.start()
    url = server.url
    await server.stop()
    assert (await failed(url))[0] == "connection"
    assert (await failed("https://127.0.0.1:1/", ca_file="/nowhere/ca.pem"))[0] == "connection"

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"SSH-2.0-nonsense\r\n\r\n")
        writer.close()

    other = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    async with other:
        assert (await failed(f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}/"))[0] == "connection"


async def test_tls() -> None:
    """The certificate must be of the CA that is given, else of a public one, and for this host."""
    async with serving(b"x", tls()) as server:
        assert await download(server.url, timeout=PATIENCE, most_bytes=100, ca_file=CA) == b"x"
        assert "certificate verify failed" in (await failed(server.url))[1].lower()
        elsewhere = server.url.replace("127.0.0.1", "127.0.0.2")
        assert (await failed(elsewhere, ca_file=CA))[0] == "connection"
        assert server.requests == 1
