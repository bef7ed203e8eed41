from __future__ import annotations

from typing import Any

import pytest

from tidewire.edge.config import EdgeConfig
from tidewire.edge.http_options import HttpConfig, tls_files
from tidewire.kernel.config import ConfigError, decode
from tidewire.platform.certificates import TlsFiles


def problems(**http: Any) -> list[str]:
    """What is wrong with these settings."""
    try:
        decode(EdgeConfig, {"client": {"token": {"hmac_secret_key": "k" * 32}}, "http": http})
    except ConfigError as error:
        return list(map(str, error.problems))
    return []


@pytest.mark.parametrize(
    ("http", "problem"),
    [
        ({"tls": {"cert_file": "a"}}, "http.tls: cert_file and key_file belong together"),
        ({"tls": {"key_file": "a"}}, "http.tls: cert_file and key_file belong together"),
        (
            {"tls": {"client_ca_file": "a"}},
            "http.tls.client_ca_file: is of use only with cert_file and key_file",
        ),
        ({"tls": {"min_version": "1.1"}}, "http.tls.min_version: "),
        ({"tls": {"min_version": 1.2}}, "http.tls.min_version: expected str, got float; put it in quotes"),
        ({"trusted_proxies": ["10.0.0.0/8", "10.0.0.1/8"]}, "http.trusted_proxies[1]: expected a network"),
        ({"trusted_proxies": ["proxy"]}, "http.trusted_proxies[0]: expected a network"),
        ({"trusted_proxies": ["0.0.0.0/0"]}, "http.trusted_proxies[0]: 0.0.0.0/0 is everybody"),
        ({"trusted_proxies": ["10.0.0.1", "::/0"]}, "http.trusted_proxies[1]: ::/0 is everybody"),
        ({"proxy_protocol": True}, "http.proxy_protocol: needs trusted_proxies"),
        (
            {"client_address_header": "Forwarded"},
            "http.client_address_header: Forwarded (RFC 7239) is not read",
        ),
        ({"client_address_header": "X Real"}, "http.client_address_header: "),
    ],
)
def test_mistake_is_named(http: dict[str, Any], problem: str) -> None:
    """In one line, with its path."""
    (found,) = problems(**http)
    assert found.startswith(problem)


def test_good_settings() -> None:
    """Single addresses are networks, too."""
    tls = {"cert_file": "a", "key_file": "b", "min_version": "1.3"}
    proxies = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]
    assert (
        problems(tls=tls, trusted_proxies=proxies, proxy_protocol=True, client_address_header="X-Real-IP")
        == []
    )


def test_files_to_read() -> None:
    """None where TLS is off."""
    config = decode(HttpConfig, {"tls": {"cert_file": "a", "key_file": "b", "client_ca_file": "c"}})
    assert tls_files(config.tls) == TlsFiles("a", "b", "c", "1.2")
    assert tls_files(HttpConfig().tls) is None
