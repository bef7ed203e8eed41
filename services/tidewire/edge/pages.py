"""What the public port serves besides WebSocket where `http.pages` is set: the pages of a dev mesh.

The dev endpoints hand out tokens to anyone who can reach the port. The configuration admits them on loopback only, and
they answer only requests for a loopback host, so that no other site can reach them by rebinding its name.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from tidewire.kernel.errors import TidewireError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    Endpoint = Callable[[Request], Awaitable[Response]]

MAX_USER = 64
"""Characters of a user name."""
MAX_BODY = 1024
"""Bytes of a token request."""
BODY_TIMEOUT = 5.0
"""Seconds for the body of a token request to arrive."""
SDK = Path("node_modules/centrifuge/dist")
"""The official SDK, beside the folder of the pages: /vendor/centrifuge.js."""
DEV = "/dev"

_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?", re.ASCII | re.IGNORECASE)
_NAMES = ("127.0.0.1", "localhost")
"""The names that a Content-Security-Policy can hold; it has no syntax for IPv6 addresses."""
_CONNECT_HERE = "Tidewire edge: WebSocket clients connect at /connection/websocket.\n"


class TokenRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /dev/token."""

    user: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_USER)]


def public_app(
    pages: Path, node: str, scheme: str, ports: Sequence[int], issue: Callable[[str], str] | None
) -> Starlette:
    """Return the public application: the files of `pages`, the SDK, and what a page needs to know of its dev mesh.

    `scheme` (http or https) and `ports` are those of the mesh's edges. `issue` makes a connection token for a user name and raises
    TidewireError with one sentence; None: no such endpoint.
    """
    folder = pages.resolve()
    dev: list[BaseRoute] = [Route("/info", _info(node, scheme, ports, tokens=issue is not None))]
    if issue is not None:
        dev.append(Route("/token", _token(issue), methods=["POST"]))
    routes: list[BaseRoute] = [
        Mount(DEV, routes=dev),
        Mount("/vendor", _Files(folder.parent / SDK, "the Centrifuge SDK is not there: run `make setup`")),
        Mount("/", _Files(folder, f"http.pages names a folder that is not there: {pages}", html=True)),
    ]
    headers = Middleware(_Headers, policy=content_security_policy(scheme, ports))
    return Starlette(routes=routes, middleware=[headers], exception_handlers={404: _not_found})


def content_security_policy(scheme: str, ports: Sequence[int]) -> str:
    """Return the policy of the pages: everything from this edge, connections to the edges on `ports` of this machine."""
    schemes = scheme, scheme.replace("http", "ws")
    edges = [f"{each}://{name}:{port}" for port in ports for name in _NAMES for each in schemes]
    return "; ".join(
        [
            "default-src 'self'",
            " ".join(["connect-src 'self'", *edges]),
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "object-src 'none'",
        ]
    )


def _info(node: str, scheme: str, ports: Sequence[int], *, tokens: bool) -> Endpoint:
    """GET: {node, edges, tokens}; edges are base URLs under the name that the request used.

    Pages of the mesh's other edges may read it, to show the name of each edge.
    """

    async def info(request: Request) -> Response:
        host = _loopback(request)
        edges = [f"{scheme}://{host}:{port}" for port in ports]
        answer = JSONResponse({"node": node, "edges": edges, "tokens": tokens}, headers={"Vary": "Origin"})
        origin = request.headers.get("origin", "")
        if origin in {f"{scheme}://{name}:{port}" for name in (host, *_NAMES) for port in ports}:
            answer.headers["Access-Control-Allow-Origin"] = origin
        return answer

    return info


def _token(issue: Callable[[str], str]) -> Endpoint:
    """POST {"user": name}: {"token": a connection token}."""

    async def token(request: Request) -> Response:
        _loopback(request)
        user = await _user(request)
        try:
            return JSONResponse({"token": issue(user)})
        except TidewireError as error:
            raise HTTPException(501, str(error)) from error

    return token


class _Files(StaticFiles):
    """Static files of a folder that may be absent, now or later: then every request gets `missing`, not an error."""

    def __init__(self, folder: Path, missing: str, *, html: bool = False) -> None:
        super().__init__(directory=folder, html=html, check_dir=False)
        self._folder = folder
        self._missing = missing

    async def check_config(self) -> None:
        """Called before a file is looked up, until it passes once."""
        if not await asyncio.to_thread(self._folder.is_dir):
            raise HTTPException(404, self._missing)


class _Headers:
    """Adds the pages' headers to every response: what they may load, no guessing of types, no stale copies."""

    def __init__(self, app: ASGIApp, policy: str) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = self._policy
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cache-Control"] = "no-store" if scope["path"].startswith(f"{DEV}/") else "no-cache"
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _loopback(request: Request) -> str:
    """Return the loopback name that the request is for; raises HTTPException 403 for any other host."""
    match = _LOOPBACK.fullmatch(request.headers.get("host", ""))
    if match is None:
        raise HTTPException(403, "this answers on 127.0.0.1, localhost and [::1] only")
    return match[1].lower()


async def _user(request: Request) -> str:
    """Return the user name of a token request; raises HTTPException with what is wrong."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise HTTPException(413, f"a token request has at most {MAX_BODY} bytes")
        user = msgspec.json.decode(body, type=TokenRequest).user
    except TimeoutError as error:
        raise HTTPException(408, "the body of the request did not arrive") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise HTTPException(400, f'send {{"user": "name"}} with 1 to {MAX_USER} characters') from error
    if not user.isprintable():
        raise HTTPException(400, "a user name has printable characters only")
    return user


async def _not_found(_request: Request, error: Exception) -> Response:
    """Answer 404 with what is missing, if known, and with what this port is for."""
    detail = error.detail if isinstance(error, HTTPException) else ""
    return PlainTextResponse(f"{detail}.\n{_CONNECT_HERE}", status_code=404)
