"""What the public port serves besides WebSocket: nothing, or the pages of a dev mesh.

The dev endpoints hand out tokens to anyone who can reach the port. The configuration admits them on loopback only, and
they answer only requests for a loopback host, so that no other site can reach them by rebinding its name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

MAX_USER = 64
MAX_BODY = 1024
LOOPBACK_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
SDK = Path("node_modules/centrifuge/dist")


def public_app(
    pages: Path | None, node: str, edges: list[str], issue: Callable[[str], str] | None
) -> Starlette:
    """Return the public application. `issue` makes a connection token for a user name; None: no such endpoint."""
    if pages is None:
        return Starlette(routes=[Route("/", _nothing_here)])

    async def info(_request: Request) -> Response:
        return JSONResponse({"node": node, "edges": edges})

    async def token(request: Request) -> Response:
        return JSONResponse({"token": issue(await _user(request))}) if issue else Response(status_code=404)

    routes: list[BaseRoute] = [
        Route("/dev/info", info),
        Route("/dev/token", token, methods=["POST"]),
        Mount("/vendor", StaticFiles(directory=pages.parent / SDK, check_dir=False)),
        Mount("/", StaticFiles(directory=pages, html=True)),
    ]
    return Starlette(
        routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_HOSTS)]
    )


async def _user(request: Request) -> str:
    """Return the user name of a token request, {"user": "..."}; raises HTTPException 400 with what is wrong."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"at most {MAX_BODY} bytes")
    try:
        user = json.loads(bytes(body))["user"]
    except (ValueError, KeyError, TypeError) as error:
        raise HTTPException(400, 'send {"user": "name"}') from error
    if not isinstance(user, str) or not 0 < len(user) <= MAX_USER:
        raise HTTPException(400, f"a user name has 1 to {MAX_USER} characters")
    return user


async def _nothing_here(_request: Request) -> Response:
    return PlainTextResponse(
        "Tidewire edge: connect by WebSocket at /connection/websocket.\n", status_code=404
    )
