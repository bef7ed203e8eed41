"""Settings of a service's gRPC server, the same for every service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, field

from tidewire.kernel.config import PATH, Duration, Problem, Section, duration


def certificate_with_key(tls: RpcTls) -> Iterator[Problem]:
    """Each of these settings is of use only with those before it."""
    if bool(tls.cert_file) != bool(tls.key_file):
        yield Problem("", "cert_file and key_file belong together")
    if tls.client_ca_file and not tls.cert_file:
        yield Problem("client_ca_file", "is of use only with cert_file and key_file")
    if tls.client_names and not tls.client_ca_file:
        yield Problem("client_names", "are read from certificates: give client_ca_file, which signs them")


class RpcTls(Section, frozen=True, kw_only=True):
    """TLS of a gRPC server: on where a certificate is given. Every reload reads the files again."""

    checks = (certificate_with_key,)

    cert_file: Annotated[
        str,
        Meta(
            description="PEM file of the server's certificate (ECDSA or RSA), the authorities that signed it behind it. "
            "Empty: no TLS.",
            extra=PATH,
        ),
    ] = ""
    key_file: Annotated[
        str, Meta(description="PEM file of the certificate's key, without a password.", extra=PATH)
    ] = ""
    client_ca_file: Annotated[
        str,
        Meta(
            description="PEM file of authorities: only clients with a certificate that one of them signed can connect "
            "(mutual TLS). Empty: anybody who reaches the port can call.",
            extra=PATH,
        ),
    ] = ""
    client_names: Annotated[
        tuple[str, ...],
        Meta(
            max_length=256,
            description="Who may call, by the names in their certificates (subject alternative names: DNS, URI or IP "
            "address, compared as they are). Empty: everybody with a certificate of `client_ca_file`.",
        ),
    ] = ()


def listeners_differ(rpc: RpcConfig) -> Iterator[Problem]:
    """Two listeners cannot share a port."""
    if rpc.port and rpc.port == rpc.health_port and rpc.address == rpc.health_address:
        yield Problem("health_port", "is rpc.port already")


RpcPort = Annotated[int, Meta(ge=0, le=65535, description="Port; 0 = any free port.")]
HealthPort = Annotated[
    int,
    Meta(
        ge=0,
        le=65535,
        description="Port that speaks `grpc.health.v1.Health` without TLS and nothing else, for probes that have no "
        "certificate; 0 = any free port.",
    ),
]


class RpcConfig(Section, frozen=True, kw_only=True):
    """The gRPC server of a service, and its health port for probes."""

    checks = (listeners_differ,)

    address: Annotated[
        str, Meta(min_length=1, description="IP address to listen at; `0.0.0.0` = every IPv4 address.")
    ] = "127.0.0.1"
    port: RpcPort = 9443
    health_address: Annotated[str, Meta(min_length=1, description="IP address of the health port.")] = (
        "127.0.0.1"
    )
    health_port: HealthPort = 9444
    tls: Annotated[RpcTls, Meta(description="TLS on `port`.")] = field(default_factory=RpcTls)
    reflection: Annotated[
        bool, Meta(description="Whether tools such as grpcurl can list the services and their messages.")
    ] = True
    max_call_duration: Annotated[
        Duration,
        Meta(
            description="The longest time that a call may take, whatever its own deadline. A call without a deadline is "
            "refused.",
            extra={"at_least": "100ms", "at_most": "10m"},
        ),
    ] = duration("30s")
    max_in_flight: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Most calls at once, of all clients. With more: RESOURCE_EXHAUSTED.",
        ),
    ] = 1000
    max_connection_streams: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Most calls at once on one connection; further ones wait at the client, until their deadline.",
        ),
    ] = 1000
    max_request_size: Annotated[int, Meta(ge=1024, le=1 << 30, description="Most bytes of a request.")] = (
        4194304
    )
    max_reply_size: Annotated[int, Meta(ge=1024, le=1 << 30, description="Most bytes of a reply.")] = 4194304
    max_connection_age: Annotated[
        Duration,
        Meta(
            description="When a client is told to connect anew, a tenth earlier or later: so new replicas get their part of "
            "the calls. No call fails by it.",
            extra={"at_least": "1s", "at_most": "24h"},
        ),
    ] = duration("10m")
    max_connection_age_grace: Annotated[
        Duration,
        Meta(
            description="How long the calls on such a connection may still take.",
            extra={"at_least": "1s", "at_most": "10m"},
        ),
    ] = duration("30s")
    keepalive_interval: Annotated[
        Duration,
        Meta(
            description="How often a silent connection is tried. Clients may do the same, every 5s at most.",
            extra={"at_least": "1s", "at_most": "1h"},
        ),
    ] = duration("20s")
    keepalive_timeout: Annotated[
        Duration,
        Meta(
            description="How long the answer may take before the connection counts as lost.",
            extra={"at_least": "1s", "at_most": "1m"},
        ),
    ] = duration("5s")
    drain_delay: Annotated[
        Duration,
        Meta(
            description="How long a server that is told to stop goes on as before, though its health says NOT_SERVING.",
            extra={"at_most": "5m"},
        ),
    ] = duration("1s")
    drain_timeout: Annotated[
        Duration,
        Meta(description="How long the calls that it has then may take.", extra={"at_most": "10m"}),
    ] = duration("10s")
