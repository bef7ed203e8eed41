"""Gets one small document over HTTP, bounded in time and size, from a server that may be slow, broken or hostile."""

from __future__ import annotations

import asyncio
import ssl
from functools import lru_cache

import httpx

HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "tidewire"}


class DownloadFailed(Exception):
    """There is no document; `kind` is one of timeout, connection, status, too_large, encoding."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


async def download(url: str, *, timeout: float, most_bytes: int, ca_file: str = "") -> bytes:
    """Return the body of a 200 answer to GET within `timeout` seconds in all; raises DownloadFailed.

    Redirects are not followed, proxies and credentials of the environment not used. `ca_file`: the CA that must have
    signed the server's certificate, "" = the public ones.
    """
    try:
        async with (
            asyncio.timeout(timeout),
            httpx.AsyncClient(verify=_trust(ca_file), trust_env=False, timeout=timeout) as client,
            client.stream("GET", url, headers=HEADERS) as response,
        ):
            return await _body(response, most_bytes)
    except (TimeoutError, httpx.TimeoutException):
        raise DownloadFailed("timeout", f"no answer within {timeout:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise DownloadFailed("connection", str(error) or type(error).__name__) from error


async def _body(response: httpx.Response, most_bytes: int) -> bytes:
    if response.status_code != httpx.codes.OK:
        raise DownloadFailed("status", f"HTTP {response.status_code}")
    if response.headers.get("content-encoding", "identity") != "identity":  # a bomb otherwise
        raise DownloadFailed("encoding", "the answer is compressed, which was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > most_bytes:
            raise DownloadFailed("too_large", f"over {most_bytes} bytes")
    return bytes(body)


def _trust(ca_file: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file) if ca_file else _public_cas()


@lru_cache(1)  # reading them takes tens of milliseconds, on the loop
def _public_cas() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)
