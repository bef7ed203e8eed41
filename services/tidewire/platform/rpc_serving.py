"""What stands around every method of a gRPC server: who may call, its bounds, its errors, its trace and its count."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from tidewire.kernel.call_errors import (
    BAD_REQUEST,
    BUSY,
    CANCELLED,
    DEADLINE_EXCEEDED,
    INTERNAL,
    NO_DEADLINE,
    REASON_KEY,
    UNKNOWN_CLIENT,
    CallError,
)
from tidewire.kernel.seldom import Seldom
from tidewire.platform import rpc_tracing
from tidewire.platform.rpc_library import grpc
from tidewire.platform.rpc_telemetry import OK, UNKNOWN_METHOD, RpcServerMetrics
from tidewire.platform.tracing import Kind

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.kernel.clock import Clock
    from tidewire.platform.rpc_options import RpcConfig
    from tidewire.platform.tracing import Span, Tracer

Context = Any
"""grpc.aio.ServicerContext[bytes, bytes]"""
Handler = Any
"""grpc.RpcMethodHandler[bytes, bytes]"""

_NAMES: Final = "x509_subject_alternative_name"


class Serving(grpc.aio.ServerInterceptor):
    """Wraps each method that takes one request and gives one reply.

    Methods with streams, of which our services have none, pass as they are: those of health and reflection.
    """

    def __init__(
        self,
        config: RpcConfig,
        metrics: RpcServerMetrics,
        log: FilteringBoundLogger,
        clock: Clock,
        tracer: Tracer | None,
    ) -> None:
        self._most = config.max_in_flight
        self._longest = float(config.max_call_duration)
        self._names = frozenset(name.encode() for name in config.tls.client_names)
        self._metrics = metrics
        self._log = log
        self._now = clock.monotonic
        self._seldom = Seldom(clock.monotonic)
        self._tracer = tracer
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[Any]],
        handler_call_details: Any,  # noqa: ANN401 - as grpc.aio has it
    ) -> Handler:
        """Return what answers a call; None for a method that nobody has, which gRPC answers itself."""
        method = handler_call_details.method
        if method in self._wrapped:
            return self._wrapped[method]
        handler = await continuation(handler_call_details)
        if handler is None:
            self._metrics.ended(UNKNOWN_METHOD, "UNIMPLEMENTED", 0)
        elif handler.unary_unary is not None:
            handler = self._wrapped[method] = self._wrap(method, handler)
        return handler

    def _wrap(self, method: str, handler: Handler) -> Handler:
        async def serve(request: bytes, context: Context) -> bytes:
            began, span, status = self._now(), self._begin(method, context), INTERNAL.status
            try:
                self._admit(context)
                reply = await self._reply(method, handler, request, context)
                status = OK
                return reply
            except CallError as error:
                status, refused = error.reason.status, error
            except grpc.aio.AbortError:
                status = context.code().name
                raise
            except asyncio.CancelledError:
                status = CANCELLED.status
                raise
            finally:
                self._end(method, status, began, span)
            trailer = ((REASON_KEY, refused.reason.name),)
            await context.abort(grpc.StatusCode[status], refused.message, trailer)
            raise AssertionError("a call that was aborted goes on")

        return grpc.unary_unary_rpc_method_handler(serve)

    def _begin(self, method: str, context: Context) -> Span | None:
        self._metrics.in_flight += 1
        parent = rpc_tracing.received(context.invocation_metadata())
        rpc_tracing.current.set(parent)
        if parent is None or self._tracer is None:
            return None
        name, attributes = method.removeprefix("/"), rpc_tracing.attributes(method)
        span = self._tracer.begin(name, Kind.SERVER, attributes, self._now(), parent)
        if span is not None:
            rpc_tracing.current.set(span.context)
        return span

    def _end(self, method: str, status: str, began: float, span: Span | None) -> None:
        self._metrics.in_flight -= 1
        self._metrics.ended(method, status, self._now() - began)
        if span is not None:
            span.end(grpc.StatusCode[status].value[0])

    def _admit(self, context: Context) -> None:
        """Raise CallError unless the call is one that the server takes."""
        if self._metrics.in_flight > self._most:
            raise CallError(BUSY, "the server has rpc.max_in_flight calls")
        if context.time_remaining() is None:
            raise CallError(NO_DEADLINE, "a call without a deadline is not taken: give it one")
        if self._names and self._names.isdisjoint(context.auth_context().get(_NAMES, ())):
            raise CallError(UNKNOWN_CLIENT, "no name of the client's certificate is in rpc.tls.client_names")

    async def _reply(self, method: str, handler: Handler, request: bytes, context: Context) -> bytes:
        """Return the reply's bytes; raises CallError for whatever goes wrong."""
        try:
            async with asyncio.timeout(self._longest) as limit:
                reply = await handler.unary_unary(_read(handler, request), context)
                if isinstance(reply, bytes):  # it is written already
                    return reply
                written: bytes = handler.response_serializer(reply)
                return written
        except (CallError, grpc.aio.AbortError):
            raise
        except Exception as error:  # noqa: BLE001 - logged, and no word of it goes to the peer
            if isinstance(error, TimeoutError) and limit.expired():
                raise CallError(DEADLINE_EXCEEDED, "it took longer than rpc.max_call_duration") from None
            if self._seldom.allows(method):
                self._log.exception("rpc.failed", method=method)
            raise CallError(INTERNAL) from None


def _read(handler: Handler, request: bytes) -> Any:  # noqa: ANN401 - each method has its own type
    if handler.request_deserializer is None:
        return request
    try:
        return handler.request_deserializer(request)
    except Exception:  # noqa: BLE001 - whatever a codec raises
        raise CallError(BAD_REQUEST, "the request cannot be decoded") from None
