"""What Kubernetes and Prometheus ask a process, on its internal port: /live, /ready and /metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidewire.platform.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from starlette.requests import Request

    from tidewire.platform.metrics import Registry

SNAPSHOT = "/snapshot"
"""Where a worker gives its metrics as data (`Registry.snapshot`)."""

T = TypeVar("T")
Why = Callable[[], Awaitable["str | None"]]
"""Says what is wrong; None: nothing."""


def internal_app(registry: Registry, unready: Callable[[], str | None]) -> Starlette:
    """Return the internal application. `unready` says why no traffic should come (None: it should).

    /live answers as long as the event loop runs; it asks nothing else, so an outage of a dependency restarts nobody.
    """
    return health_app(_alive, _soon(unready), _soon(registry.exposition))


def worker_app(registry: Registry, unready: Callable[[], str | None]) -> Starlette:
    """Return what a worker tells the process that has the internal port; the same, but its metrics as a snapshot."""
    return Starlette(
        routes=[
            *_probes(_alive, _soon(unready)),
            _page(SNAPSHOT, _soon(registry.snapshot), "application/msgpack"),
        ]
    )


def health_app(dead: Why, unready: Why, exposition: Callable[[], Awaitable[bytes]]) -> Starlette:
    """Return an internal application that may have to ask others for its answers."""
    return Starlette(routes=[*_probes(dead, unready), _page("/metrics", exposition, CONTENT_TYPE)])


def _probes(dead: Why, unready: Why) -> list[Route]:
    return [_probe("live", dead), _probe("ready", unready)]


def _probe(name: str, problem: Why) -> Route:
    async def answer(_request: Request) -> Response:
        reason = await problem()
        body = {name: reason is None} if reason is None else {name: False, "reason": reason}
        return JSONResponse(body, status_code=200 if reason is None else 503)

    return Route(f"/{name}", answer)


def _page(path: str, content: Callable[[], Awaitable[bytes]], media_type: str) -> Route:
    async def answer(_request: Request) -> Response:
        return Response(await content(), media_type=media_type)

    return Route(path, answer)


async def _alive() -> str | None:
    """Nothing is wrong with a process that comes to this line."""
    return None


def _soon(value: Callable[[], T]) -> Callable[[], Awaitable[T]]:
    async def ask() -> T:
        return value()

    return ask
