"""Settings of a client of gRPC services: where the replicas of one service are, and how patient the client is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final

from msgspec import Meta, field

from tidewire.kernel.config import PATH, Duration, Problem, Section, duration
from tidewire.kernel.retries import RetryPolicy

_PORT: Final = r":[0-9]{1,5}"
_IPV4: Final = rf"[0-9.]+{_PORT}"
_IPV6: Final = rf"\[[0-9A-Fa-f:.]+\]{_PORT}"
TARGET: Final = (
    rf"^(dns:///([-A-Za-z0-9._]+|\[[0-9A-Fa-f:.]+\]){_PORT}|ipv4:{_IPV4}(,{_IPV4})*|ipv6:{_IPV6}(,{_IPV6})*)$"
)
"""gRPC's naming, of it what needs no further setup; a bare host would be a second way to write `dns:///`."""


def authorities_first(tls: RpcClientTls) -> Iterator[Problem]:
    """Each of these settings is of use only with those before it."""
    if bool(tls.cert_file) != bool(tls.key_file):
        yield Problem("", "cert_file and key_file belong together")
    if (tls.cert_file or tls.server_name) and not tls.ca_file:
        yield Problem("ca_file", "is missing: without it there is no TLS")


class RpcClientTls(Section, frozen=True, kw_only=True):
    """TLS towards a service: on where authorities are given. Every reload reads the files again."""

    checks = (authorities_first,)

    ca_file: Annotated[
        str,
        Meta(
            description="PEM file of the authorities, one of which must have signed the servers' certificates. Empty: no TLS.",
            extra=PATH,
        ),
    ] = ""
    cert_file: Annotated[
        str,
        Meta(
            description="PEM file of our own certificate (ECDSA or RSA), for servers that ask for one (mutual TLS).",
            extra=PATH,
        ),
    ] = ""
    key_file: Annotated[str, Meta(description="PEM file of its key, without a password.", extra=PATH)] = ""
    server_name: Annotated[
        str,
        Meta(
            max_length=253,
            description="The name that the servers' certificates must have. Empty: the host in `target`.",
        ),
    ] = ""


def target_is_named(client: RpcClientConfig) -> Iterator[Problem]:
    """What gRPC takes for something else would fail only with the first call."""
    if not re.fullmatch(TARGET, client.target):
        yield Problem(
            "target", "expected dns:///host:port, or ipv4:address:port and more, separated by commas"
        )


def lists_are_named(client: RpcClientConfig) -> Iterator[Problem]:
    """A list of addresses has no host that certificates could be compared with."""
    if client.tls.ca_file and not client.tls.server_name and not client.target.startswith("dns:"):
        yield Problem("tls.server_name", "is needed where target lists addresses")


class RpcClientConfig(Section, frozen=True, kw_only=True):
    """A service that is called by gRPC: calls are spread over its healthy replicas."""

    checks = (target_is_named, lists_are_named)

    target: Annotated[
        str,
        Meta(
            description="Where the replicas are: `dns:///history:9443` for every address of a name (a headless Service on "
            "Kubernetes), or `ipv4:10.0.0.1:9443,10.0.0.2:9443`. Names are looked up anew when a connection ends.",
        ),
    ]
    tls: Annotated[RpcClientTls, Meta(description="TLS towards the service.")] = field(
        default_factory=RpcClientTls
    )
    timeout: Annotated[
        Duration,
        Meta(
            description="The deadline of every call, its retries included; a caller can only ask for less.",
            extra={"at_least": "10ms", "at_most": "1m"},
        ),
    ] = duration("2s")
    max_in_flight: Annotated[
        int,
        Meta(ge=1, le=100_000, description="Most calls at once. With more, calls fail before they are made."),
    ] = 1000
    attempts: Annotated[
        int,
        Meta(
            ge=1,
            le=5,
            description="Most attempts of a call that may be repeated (idempotent) and came to nothing (UNAVAILABLE).",
        ),
    ] = 3
    retry_ratio: Annotated[
        float,
        Meta(ge=0, le=1, description="Retries are at most this part of calls: 0.1 = one for ten of them."),
    ] = 0.1
    retry_burst: Annotated[
        int, Meta(ge=1, le=10_000, description="Retries that may come at once, after a time without.")
    ] = 50
    retry_pause: Annotated[
        Duration,
        Meta(
            description="Longest pause before the first retry; it doubles with each, and a random part of it is waited.",
            extra={"at_least": "1ms", "at_most": "10s"},
        ),
    ] = duration("50ms")
    retry_longest_pause: Annotated[
        Duration, Meta(description="What it doubles to at most.", extra={"at_least": "1ms", "at_most": "10s"})
    ] = duration("500ms")
    max_request_size: Annotated[int, Meta(ge=1024, le=1 << 30, description="Most bytes of a request.")] = (
        4194304
    )
    max_reply_size: Annotated[int, Meta(ge=1024, le=1 << 30, description="Most bytes of a reply.")] = 4194304
    keepalive_interval: Annotated[
        Duration,
        Meta(
            description="How often a silent connection is tried. Servers take it for an attack below 5s.",
            extra={"at_least": "5s", "at_most": "1h"},
        ),
    ] = duration("20s")
    keepalive_timeout: Annotated[
        Duration,
        Meta(
            description="How long the answer may take before the connection counts as lost.",
            extra={"at_least": "1s", "at_most": "1m"},
        ),
    ] = duration("5s")
    close_timeout: Annotated[
        Duration,
        Meta(
            description="How long calls may still take on a channel that is closed, at the end or after a reload of TLS.",
            extra={"at_most": "1m"},
        ),
    ] = duration("5s")


def retry_policy(client: RpcClientConfig) -> RetryPolicy:
    """Return what a configuration says about retries."""
    return RetryPolicy(
        client.attempts,
        client.retry_ratio,
        client.retry_burst,
        client.retry_pause,
        client.retry_longest_pause,
    )
