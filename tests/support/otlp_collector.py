"""A stand-in for an OpenTelemetry collector: takes OTLP over HTTP on loopback and keeps the decoded spans."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

PATH = "/v1/traces"


class Received(msgspec.Struct, frozen=True):
    """A span as it came; ids are hexadecimal, `parent` is "" for a root, times Unix nanoseconds."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    state: str
    failed: bool
    start: int
    end: int
    attributes: Mapping[str, str | int]
    resource: Mapping[str, str | int]

    @property
    def node(self) -> object:
        """Which edge it is from."""
        return self.resource["service.instance.id"]


class OtlpCollector:
    """A context manager. `status` is what exports are answered with; spans are kept only with 200."""

    def __init__(self) -> None:
        self.status = 200
        self.requests: list[dict[str, str]] = []
        """Header fields of each export, names in lower case."""
        self.spans: list[Received] = []
        self._release = threading.Event()
        self._release.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def endpoint(self) -> str:
        """Where spans are sent."""
        return f"http://127.0.0.1:{self._server.server_port}{PATH}"

    def named(self, name: str) -> list[Received]:
        """Return the spans of a name."""
        return [span for span in self.spans if span.name == name]

    def hold(self) -> None:
        """Answer nothing until `release`."""
        self._release.clear()

    def release(self) -> None:
        """Answer again."""
        self._release.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                """Take one export."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector._take(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                """Say nothing."""

        return Handler

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.requests.append({**headers, ":path": path})
        self._release.wait()
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if self.status == 200:
            self.spans += [
                _received(span, _attributes(resource.resource.attributes))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]


def _received(span: Span, resource: Mapping[str, str | int]) -> Received:
    return Received(
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        state=span.trace_state,
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        resource=resource,
    )


def _attributes(pairs: list[KeyValue]) -> dict[str, str | int]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
