from __future__ import annotations

from typing import Any

import pytest

from tidewire.kernel.config import ConfigError, decode
from tidewire.kernel.retries import RetryPolicy
from tidewire.platform.rpc_client_options import RpcClientConfig, retry_policy


def problems(settings: dict[str, Any]) -> list[str]:
    """What is wrong with them."""
    with pytest.raises(ConfigError) as caught:
        decode(RpcClientConfig, settings)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "target",
    [
        "dns:///history:9443",
        "dns:///history.tidewire.svc.cluster.local:9443",
        "dns:///[::1]:9443",
        "ipv4:10.0.0.1:9443",
        "ipv4:10.0.0.1:9443,10.0.0.2:9443",
        "ipv6:[::1]:9443,[fe80::1]:9443",
    ],
)
def test_targets(target: str) -> None:
    """As gRPC names them."""
    assert decode(RpcClientConfig, {"target": target}).target == target


@pytest.mark.parametrize(
    "target",
    [
        "",
        "history:9443",
        "history",
        "dns:history:9443",
        "dns://8.8.8.8/history:9443",
        "dns:///history",
        "dns:///history:9443\n",
        "dns:///a:1,b:2",
        "ipv4:10.0.0.1",
        "ipv4:10.0.0.1:1,",
        "ipv6:::1:9443",
        "unix:/tmp/x",
        "xds:///history",
    ],
)
def test_what_is_no_target(target: str) -> None:
    """Only the first call would tell otherwise."""
    assert problems({"target": target}) == [
        "target: expected dns:///host:port, or ipv4:address:port and more, separated by commas"
    ]


@pytest.mark.parametrize(
    ("tls", "problem"),
    [
        ({"ca_file": "a", "cert_file": "b"}, "tls: cert_file and key_file belong together"),
        (
            {"cert_file": "a", "key_file": "b"},
            "tls.ca_file: is missing: without it there is no TLS",
        ),
        ({"server_name": "x"}, "tls.ca_file: is missing: without it there is no TLS"),
    ],
)
def test_settings_of_tls_belong_together(tls: dict[str, Any], problem: str) -> None:
    """A certificate that is configured and not used would be a surprise."""
    assert problems({"target": "dns:///x:1", "tls": tls}) == [problem]


def test_a_list_of_addresses_has_no_name() -> None:
    """So the certificate's must be given."""
    settings: dict[str, Any] = {"target": "ipv4:10.0.0.1:1", "tls": {"ca_file": "a"}}
    assert problems(settings) == ["tls.server_name: is needed where target lists addresses"]
    settings["tls"]["server_name"] = "history"
    assert decode(RpcClientConfig, settings).tls.server_name == "history"


def test_what_is_said_about_retries() -> None:
    """One for ten calls, three attempts."""
    assert retry_policy(decode(RpcClientConfig, {"target": "dns:///x:1"})) == RetryPolicy(
        3, 0.1, 50, 0.05, 0.5
    )
