"""Settings of the connection to NATS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, field

from tidewire.kernel.config import PATH, Duration, Problem, Secret, Section, duration, secret
from tidewire.kernel.nats_config import inbox_prefix
from tidewire.platform.nats_types import LinkOptions

ANONYMOUS = "edge"
"""The name that the inbox of an edge without a NATS user is called by."""


def key_with_certificate(tls: NatsTls) -> Iterator[Problem]:
    """A client certificate is of no use without its key, and the other way round."""
    if bool(tls.cert_file) != bool(tls.key_file):
        yield Problem("", "cert_file and key_file belong together")


class NatsTls(Section, frozen=True, kw_only=True):
    """TLS towards NATS, used when a URL begins with `tls://` or the server asks for it."""

    checks = (key_with_certificate,)

    ca_file: Annotated[
        str,
        Meta(
            description="PEM file of the authorities that may have signed the server's certificate. Empty: those of "
            "the system.",
            extra=PATH,
        ),
    ] = ""
    cert_file: Annotated[str, Meta(description="PEM file of the client certificate.", extra=PATH)] = ""
    key_file: Annotated[str, Meta(description="PEM file of the client certificate's key.", extra=PATH)] = ""


def nats_urls(nats: NatsConfig) -> Iterator[Problem]:
    """Only what the NATS link can use; a password in a URL would end in logs."""
    for index, url in enumerate(nats.urls):
        try:
            parts = urlsplit(url)
            usable = parts.scheme in {"nats", "tls"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            yield Problem(f"urls[{index}]", "expected nats://host:port or tls://host:port")
        elif "@" in parts.netloc:
            yield Problem(f"urls[{index}]", "no user or password in a URL: use nats.user and nats.password")


def one_way_to_log_in(nats: NatsConfig) -> Iterator[Problem]:
    """Which of two credentials counts would be a guess."""
    if nats.user and nats.credentials_file:
        yield Problem("credentials_file", "give either user and password or credentials_file")
    if bool(nats.user) != bool(nats.password):
        yield Problem("password" if nats.user else "user", "user and password belong together")


class NatsConfig(Section, frozen=True, kw_only=True):
    """The connection to NATS."""

    checks = (nats_urls, one_way_to_log_in)

    urls: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description="Servers of one NATS cluster, `nats://host:port` or `tls://host:port`; one of them is enough "
            "to find the others.",
        ),
    ] = ("nats://127.0.0.1:4222",)
    user: Annotated[str, Meta(description="NATS user name; empty = none.")] = ""
    password: Annotated[Secret, Meta(description="Password of `nats.user`.")] = secret()
    credentials_file: Annotated[
        str, Meta(description="A NATS credentials file (JWT and nkey seed); empty = none.", extra=PATH)
    ] = ""
    tls: Annotated[NatsTls, Meta(description="TLS towards NATS.")] = field(default_factory=NatsTls)
    partitions: Annotated[
        int,
        Meta(
            ge=1,
            le=1024,
            description="Number of partitions of all channels. It must be the number in the subject mapping of the "
            "NATS account (`tidewire nats-config` prints it): an edge that finds another refuses to start.",
        ),
    ] = 16
    connect_timeout: Annotated[
        Duration,
        Meta(
            description="How long one attempt to reach a NATS server may take.",
            extra={"at_least": "100ms", "at_most": "1m"},
        ),
    ] = duration("5s")
    max_pending: Annotated[
        int,
        Meta(
            ge=1024,
            description="Most bytes that may wait to be sent to NATS. With more, publishers get a temporary error.",
        ),
    ] = 8388608
    publish_timeout: Annotated[
        Duration,
        Meta(
            description="How long a publish may wait for NATS before its client gets a temporary error. Less than "
            "4s, since the SDKs give up on a command after 5s.",
            extra={"at_least": "100ms", "below": "4s"},
        ),
    ] = duration("3.5s")


def link_options(nats: NatsConfig, node: str, service: str = ANONYMOUS) -> LinkOptions:
    """Return the options of a service's link, which without a NATS user has inboxes in the service's name."""
    return LinkOptions(
        urls=tuple(nats.urls),
        user=nats.user,
        password=nats.password.reveal(),
        credentials_file=nats.credentials_file,
        tls_ca_file=nats.tls.ca_file,
        tls_cert_file=nats.tls.cert_file,
        tls_key_file=nats.tls.key_file,
        connect_timeout=nats.connect_timeout,
        max_pending=nats.max_pending,
        name=f"tidewire-{service} {node}",
        inbox_prefix=inbox_prefix(nats.user or service),
    )
