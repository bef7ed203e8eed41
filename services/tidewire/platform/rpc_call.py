"""One method of a service as its client calls it: with a deadline, a bound, retries that have a budget, and a count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from tidewire.kernel.call_errors import (
    CANCELLED,
    ELSEWHERE,
    NOT_SYNCED,
    REASON_KEY,
    UNAVAILABLE,
    CallError,
    Reason,
    reason_of,
)
from tidewire.kernel.retries import MOST_MOVES, NoRetry
from tidewire.platform import rpc_tracing
from tidewire.platform.rpc_library import grpc
from tidewire.platform.rpc_telemetry import OK
from tidewire.platform.tracing import Kind

if TYPE_CHECKING:
    from tidewire.kernel.trace_context import TraceContext
    from tidewire.platform.rpc_client import RpcClient
    from tidewire.platform.tracing import Span

CALLER: Final = "tw-caller"
"""Metadata of a call: what the calling process is called, as a token of a subject. It proves nothing: whoever calls may say
what it likes."""
ASIDE: Final = (ELSEWHERE, NOT_SYNCED)
"""Reasons for which the next replica is asked at no cost."""

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class Method(Generic[Request, Reply]):
    """A unary method, called like a function. `repeatable`: carrying it out twice does no more than once."""

    def __init__(
        self,
        client: RpcClient,
        path: str,
        serialize: Callable[[Request], bytes] | None,
        deserialize: Callable[[bytes], Reply] | None,
        *,
        repeatable: bool,
    ) -> None:
        self._client = client
        self._path = path
        self._serialize = serialize
        self._deserialize = deserialize
        self._repeatable = repeatable
        self._call: Any = None

    def bind(self, channel: grpc.aio.Channel) -> None:
        """Make the attempts from now on over this channel."""
        self._call = channel.unary_unary(self._path, self._serialize, self._deserialize)

    async def __call__(
        self, request: Request, *, timeout: float | None = None, parent: TraceContext | None = None
    ) -> Reply:
        """Return the reply, within `timeout` seconds or the client's own, whichever is less.

        `parent` is the sampled trace that the call belongs to. Raises CallError.
        """
        client = self._client
        began, span, status = client.now(), self._begin(parent), CANCELLED.status
        client.in_flight += 1
        try:
            client.admit()
            left = client.timeout if timeout is None else min(timeout, client.timeout)
            reply = await self._attempts(request, began + left, parent if span is None else span.context)
            status = OK
            return reply
        except CallError as error:
            status = error.reason.status
            raise
        finally:
            client.in_flight -= 1
            client.metrics.ended(self._path, status, client.now() - began)
            if span is not None:
                span.end(_number(status))

    def _begin(self, parent: TraceContext | None) -> Span | None:
        tracer = self._client.tracer
        if parent is None or tracer is None:
            return None
        name, attributes = self._path.removeprefix("/"), rpc_tracing.attributes(self._path)
        return tracer.begin(name, Kind.CLIENT, attributes, self._client.now(), parent)

    async def _attempts(self, request: Request, deadline: float, parent: TraceContext | None) -> Reply:
        client, attempt, elsewhere = self._client, 1, 0
        metadata = client.introduction + rpc_tracing.sent(parent)
        client.retries.called()
        while True:
            left = deadline - client.now()
            try:
                return await self._attempt(request, left, metadata)
            except CallError as error:
                if error.reason in ASIDE and self._repeatable and elsewhere < MOST_MOVES:
                    elsewhere += 1
                    client.metrics.retries.inc(1, (self._path, error.reason.name))
                    pause = client.retries.aside()
                else:
                    wait = self._pause(error.reason, attempt, deadline - client.now())
                    if wait is None:
                        raise
                    attempt, pause = attempt + 1, wait
            await asyncio.sleep(pause)

    def _pause(self, reason: Reason, attempt: int, left: float) -> float | None:
        """Return the seconds before another attempt; None: there is none."""
        if reason is not UNAVAILABLE or not self._repeatable:
            return None
        pause = self._client.retries.pause(attempt, left)
        outcome = pause.value if isinstance(pause, NoRetry) else "retried"
        self._client.metrics.retries.inc(1, (self._path, outcome))
        return None if isinstance(pause, NoRetry) else pause

    async def _attempt(self, request: Request, left: float, metadata: rpc_tracing.Pairs) -> Reply:
        try:
            reply: Reply = await self._call(request, timeout=left, metadata=metadata)
            return reply
        except grpc.aio.AioRpcError as error:
            raise _failed(error) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise CallError(CANCELLED, "the channel was closed before the reply came") from None
        except grpc.aio.UsageError:
            raise CallError(CANCELLED, "the client is closed") from None


def _failed(error: grpc.aio.AioRpcError) -> CallError:
    trailers = dict(error.trailing_metadata() or ())
    name = trailers.get(REASON_KEY)
    return CallError(
        reason_of(error.code().name, name if isinstance(name, str) else None), error.details() or ""
    )


def _number(status: str) -> int:
    number: int = grpc.StatusCode[status].value[0]
    return number
