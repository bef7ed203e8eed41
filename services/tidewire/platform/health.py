"""What Kubernetes and Prometheus ask a process, on its internal port: /live, /ready and /metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidewire.platform.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from starlette.requests import Request

    from tidewire.platform.metrics import Registry


def internal_app(registry: Registry, unready: Callable[[], str | None]) -> Starlette:
    """Return the internal application. `unready` says why no traffic should come (None: it should).

    /live answers as long as the event loop runs; it asks nothing else, so an outage of a dependency restarts nobody.
    """

    async def live(_request: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(_request: Request) -> Response:
        reason = unready()
        body = {"ready": reason is None} if reason is None else {"ready": False, "reason": reason}
        return JSONResponse(body, status_code=200 if reason is None else 503)

    async def metrics(_request: Request) -> Response:
        return Response(registry.exposition(), media_type=CONTENT_TYPE)

    return Starlette(routes=[Route("/live", live), Route("/ready", ready), Route("/metrics", metrics)])
