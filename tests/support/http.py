"""One small HTTP/1.1 request at a time, for probes, metrics and refused handshakes: no client library, no pooling."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from tests.support.wait import PATIENCE


class HttpAnswer(msgspec.Struct, frozen=True):
    """A whole answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def request(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    timeout: float = PATIENCE,
    tls: ssl.SSLContext | None = None,
    preface: bytes = b"",
    source: str = "",
) -> HttpAnswer:
    """Send one request on a connection of its own and read until the server closes it.

    `preface` goes before everything else, also before TLS. `source` is the address that it comes from.

    Raises:
        OSError: Nobody answers there, or the answer is not HTTP.
        TimeoutError: It took longer than `timeout` seconds.
    """
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    fields = {"Host": parts.netloc, "Connection": "close", **(headers or {})}
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n"
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(
            parts.hostname, parts.port, local_addr=(source, 0) if source else None
        )
        try:
            writer.write(preface)
            if tls is not None:
                await writer.start_tls(tls, server_hostname=parts.hostname)
            writer.write(head.encode())
            answer = _parse(await _read(reader))
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    return answer


async def only_tells(port: int, *secrets: str) -> None:
    """Check an internal port: three pages that nobody can change, nothing else, and nothing in them of what clients call secret."""
    url = f"http://127.0.0.1:{port}"
    for page in ("/live", "/ready", "/metrics"):
        assert (await request(url + page, method="POST")).status == 405, page
        body = (await request(url + page)).body.decode()
        assert [secret for secret in secrets if secret in body] == [], page
    for path in ("/", "/metrics/x", "/debug", "/%2e%2e/etc/passwd"):
        assert (await request(url + path)).status == 404, path


async def upgrade(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = PATIENCE,
    tls: ssl.SSLContext | None = None,
    preface: bytes = b"",
) -> HttpAnswer:
    """Ask for a WebSocket and return the answer; meant for refusals, an accepted one would never end."""
    wanted = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    fields = {**wanted, **(headers or {})}
    return await request(url, headers=fields, timeout=timeout, tls=tls, preface=preface)


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Read head and body; an answer that switches protocols has no body and no end."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head if head.startswith(b"HTTP/1.1 101") else head + await reader.read()


def _parse(data: bytes) -> HttpAnswer:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise OSError(f"not an HTTP answer: {first[:40]!r}")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if headers.get("transfer-encoding") == "chunked":
        body = _unchunk(body)
    return HttpAnswer(int(rest[:3]), headers, body)


def _unchunk(body: bytes) -> bytes:
    found = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        found += body[:length]
        body = body[length + 2 :] if length else b""
    return found
