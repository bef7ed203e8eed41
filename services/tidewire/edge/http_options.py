"""Settings of the two listeners: where they are, TLS, and which proxies are believed."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Annotated, Final, Literal

from msgspec import Meta, field

from tidewire.kernel.config import PATH, RESTART, Problem, Section
from tidewire.options import centrifugo_names
from tidewire.platform.certificates import TlsFiles

_FIXED_PATH: Final = {**PATH, **RESTART}


def certificate_with_key(tls: TlsConfig) -> Iterator[Problem]:
    """A certificate is of no use without its key, and the other settings are of none without a certificate."""
    if bool(tls.cert_file) != bool(tls.key_file):
        yield Problem("", "cert_file and key_file belong together")
    if tls.client_ca_file and not tls.cert_file:
        yield Problem("client_ca_file", "is of use only with cert_file and key_file")


class TlsConfig(Section, frozen=True, kw_only=True):
    """TLS on the public listener: on where a certificate is given. Every reload reads the files again."""

    checks = (certificate_with_key,)
    hints = centrifugo_names.TLS
    reloadable = True

    cert_file: Annotated[
        str,
        Meta(
            description="PEM file of the certificate, the authorities that signed it behind it. Empty: no TLS. To go "
            "from one to the other needs a restart.",
            extra=PATH,
        ),
    ] = ""
    key_file: Annotated[
        str, Meta(description="PEM file of the certificate's key, without a password.", extra=PATH)
    ] = ""
    client_ca_file: Annotated[
        str,
        Meta(
            description="PEM file of authorities: only clients with a certificate that one of them signed get through "
            "the handshake. Who they are is still for their token to say. Empty: no client is asked for one.",
            extra=PATH,
        ),
    ] = ""
    min_version: Annotated[
        Literal["1.2", "1.3"],
        Meta(description='The oldest version of TLS that is spoken, in quotes: `"1.2"` or `"1.3"`.'),
    ] = "1.2"


def tls_files(tls: TlsConfig) -> TlsFiles | None:
    """Return what to read for a configuration; None where TLS is off."""
    if not tls.cert_file:
        return None
    return TlsFiles(tls.cert_file, tls.key_file, tls.client_ca_file, tls.min_version)


def listeners_differ(http: HttpConfig) -> Iterator[Problem]:
    """Two listeners cannot share a port."""
    if http.port and http.port == http.internal_port and http.address == http.internal_address:
        yield Problem("internal_port", "is http.port already")


def proxies_are_networks(http: HttpConfig) -> Iterator[Problem]:
    """A mistake here lets anyone say who he is."""
    for index, network in enumerate(http.trusted_proxies):
        try:
            everybody = not ip_network(network).prefixlen
        except ValueError as error:
            yield Problem(f"trusted_proxies[{index}]", f"expected a network such as 10.0.0.0/8: {error}")
            continue
        if everybody:
            yield Problem(
                f"trusted_proxies[{index}]", f"{network} is everybody: any client could be whoever it likes"
            )


def proxies_are_known(http: HttpConfig) -> Iterator[Problem]:
    """With the PROXY protocol nobody else may connect."""
    if http.proxy_protocol and not http.trusted_proxies:
        yield Problem(
            "proxy_protocol", "needs trusted_proxies: anybody else that sends the header would be believed"
        )


def header_is_a_list(http: HttpConfig) -> Iterator[Problem]:
    """What is no list of addresses cannot be read as one."""
    if http.client_address_header.lower() == "forwarded":
        yield Problem("client_address_header", "Forwarded (RFC 7239) is not read: use X-Forwarded-For")


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:  # a name, which may be resolved to anything
        return False


def tokens_stay_here(http: HttpConfig) -> Iterator[Problem]:
    """Who can reach the port can be anyone."""
    if http.issue_tokens and not _is_loopback(http.address):
        yield Problem(
            "issue_tokens", f"is for loopback addresses such as 127.0.0.1 only, and address is {http.address}"
        )


class HttpConfig(Section, frozen=True, kw_only=True):
    """The two listeners: the public one for clients, the internal one for probes and metrics."""

    checks = (
        listeners_differ,
        proxies_are_networks,
        proxies_are_known,
        header_is_a_list,
        tokens_stay_here,
    )
    reloadable = True

    address: Annotated[
        str,
        Meta(
            min_length=1,
            description="IP address of the public listener; `0.0.0.0` = every IPv4 address.",
            extra=RESTART,
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Meta(ge=0, le=65535, description="Port of the public listener; 0 = any free port.", extra=RESTART),
    ] = 8000
    internal_address: Annotated[
        str,
        Meta(
            min_length=1,
            description="IP address of the internal listener (`/live`, `/ready`, `/metrics`). Do not expose it to "
            "the internet.",
            extra=RESTART,
        ),
    ] = "127.0.0.1"
    internal_port: Annotated[
        int,
        Meta(ge=0, le=65535, description="Port of the internal listener; 0 = any free port.", extra=RESTART),
    ] = 9000
    tls: Annotated[TlsConfig, Meta(description="TLS on the public listener.")] = field(
        default_factory=TlsConfig
    )
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            max_length=256,
            description="Networks of the proxies before the edges, such as `10.0.0.0/8` or `2001:db8::/32`: what they say "
            "about a client's address is believed, and nobody else. Never a network that clients are in.",
        ),
    ] = ()
    proxy_protocol: Annotated[
        bool,
        Meta(
            description="Whether each connection begins with a PROXY header (version 1 or 2), as HAProxy, Envoy, nginx and "
            "network balancers send it. Connections from outside `trusted_proxies`, or without the header, are closed.",
            extra=RESTART,
        ),
    ] = False
    client_address_header: Annotated[
        str,
        Meta(
            pattern="^[-A-Za-z0-9]{1,64}$",
            description="The header in which trusted proxies give the client's address, each adding its peer on the right: "
            "the last address that is no trusted proxy's is the client's. From anyone else it is ignored.",
            extra={"hint": "a header's name, such as X-Forwarded-For"},
        ),
    ] = "X-Forwarded-For"
    pages: Annotated[
        str,
        Meta(
            description="Folder of static pages that the public listener serves at `/`, such as the start page. "
            "Empty: no pages.",
            extra=_FIXED_PATH,
        ),
    ] = ""
    issue_tokens: Annotated[
        bool,
        Meta(
            description="For a dev mesh only: `POST /dev/token` hands a connection token for any user name to whoever "
            "asks. Refused unless `address` is a loopback address.",
            extra=RESTART,
        ),
    ] = False

    @property
    def scheme(self) -> str:
        """`https` where the public listener speaks TLS, else `http`."""
        return "https" if self.tls.cert_file else "http"
