"""Settings of tracing, the same for every service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final
from urllib.parse import urlsplit

from msgspec import Meta

from tidewire.kernel.config import PATH, SHARED, Duration, Problem, Secret, Section, duration, secret

_HEADER: Final = re.compile(
    r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e](?:[ \t\x21-\x7e]*[\x21-\x7e])?)[ \t]*"
)
"""A field name (RFC 9110, 5.6.2) and a value in visible ASCII."""


def endpoint_is_a_url(tracing: TracingConfig) -> Iterator[Problem]:
    """Only what the exporter can use; a password in a URL would end in logs."""
    if not tracing.endpoint:
        return
    try:
        parts = urlsplit(tracing.endpoint)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        yield Problem("endpoint", "expected http://host:port/path or https://host:port/path")
    elif "@" in parts.netloc:
        yield Problem("endpoint", "no user or password in a URL: use tracing.headers")
    elif parts.path in {"", "/"}:
        yield Problem(
            "endpoint", f"names no path: collectors listen at {parts.scheme}://{parts.netloc}/v1/traces"
        )


def headers_are_lines(tracing: TracingConfig) -> Iterator[Problem]:
    """The problem names the line, never what stands there."""
    for number, line in enumerate(tracing.headers.reveal().splitlines(), 1):
        if line.strip() and _HEADER.fullmatch(line.strip()) is None:
            yield Problem("headers", f"line {number}: expected Name: value, in visible ASCII")


def batch_fits_queue(tracing: TracingConfig) -> Iterator[Problem]:
    """A batch is taken from the queue."""
    if tracing.batch_size > tracing.queue_size:
        yield Problem("batch_size", f"is more than queue_size, which is {tracing.queue_size}")


class TracingConfig(Section, frozen=True, kw_only=True):
    """OpenTelemetry traces of commands and deliveries, exported by OTLP. The variables `OTEL_*` are not read."""

    checks = (endpoint_is_a_url, headers_are_lines, batch_fits_queue)

    endpoint: Annotated[
        str,
        Meta(
            description="Where spans are sent: the whole URL of a collector's OTLP/HTTP receiver for traces, usually "
            "`http://host:4318/v1/traces`. Empty: no tracing at all."
        ),
    ] = ""
    sample_ratio: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="The share of clients' commands that are traced: `0` none, `1` every one. A trace that comes by "
            "NATS with the flag `sampled` is continued whatever this says.",
        ),
    ] = 0.01
    max_spans_per_second: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Most spans that begin in a second, and a second's worth at once: so many for clients' commands, "
            "and as many again for traces that come by NATS, whose flag any publisher can set. What is over it is "
            "dropped and counted (`rate_limited`).",
            extra=SHARED,
        ),
    ] = 500
    headers: Annotated[
        Secret,
        Meta(
            description="Headers of every export, one `Name: value` a line, such as `Authorization: Bearer ...`."
        ),
    ] = secret()
    ca_file: Annotated[
        str,
        Meta(
            description="PEM file of the authorities that may have signed the collector's certificate. Empty: the public ones.",
            extra=PATH,
        ),
    ] = ""
    export_timeout: Annotated[
        Duration,
        Meta(
            description="How long one export may take, tries after a temporary failure included. Then its spans are "
            "dropped and counted (`failed`).",
            extra={"at_least": "100ms", "at_most": "1m"},
        ),
    ] = duration("5s")
    flush_interval: Annotated[
        Duration,
        Meta(
            description="How long a span may wait for its batch to fill.",
            extra={"at_least": "10ms", "at_most": "1m"},
        ),
    ] = duration("5s")
    flush_timeout: Annotated[
        Duration,
        Meta(
            description="How long the end of the process may wait for the last spans to be sent.",
            extra={"at_most": "1m"},
        ),
    ] = duration("2s")
    queue_size: Annotated[
        int,
        Meta(
            ge=1,
            le=65_536,
            description="Most spans that wait to be sent. With more, new ones are dropped and counted (`queue_full`).",
        ),
    ] = 2048
    batch_size: Annotated[int, Meta(ge=1, le=8192, description="Most spans in one export.")] = 512
    service_name: Annotated[
        str, Meta(min_length=1, max_length=255, description="`service.name` of the spans.")
    ] = "tidewire-edge"
    service_namespace: Annotated[
        str, Meta(max_length=255, description="`service.namespace` of the spans; empty = none.")
    ] = ""


def header_fields(headers: Secret) -> dict[str, str]:
    """Return the fields of `tracing.headers`, which the checks have passed."""
    found = (_HEADER.fullmatch(line.strip()) for line in headers.reveal().splitlines() if line.strip())
    return {field[1]: field[2] for field in found if field is not None}
