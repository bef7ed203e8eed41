from __future__ import annotations

from typing import Any

import pytest

from tidewire.kernel.config import ConfigError, decode
from tidewire.platform.rpc_options import RpcConfig


def problems(settings: dict[str, Any]) -> list[str]:
    """What is wrong with them."""
    with pytest.raises(ConfigError) as caught:
        decode(RpcConfig, settings)
    return [str(problem) for problem in caught.value.problems]


def test_defaults_are_a_server_for_this_machine() -> None:
    """Without TLS, and so at loopback."""
    config = decode(RpcConfig, {})
    assert (config.address, config.health_address, config.tls.cert_file) == ("127.0.0.1", "127.0.0.1", "")


def test_two_listeners_need_two_ports() -> None:
    """Unless the kernel chooses, or they are at two addresses."""
    assert problems({"port": 5, "health_port": 5}) == ["health_port: is rpc.port already"]
    decode(RpcConfig, {"port": 0, "health_port": 0})
    decode(RpcConfig, {"port": 5, "health_port": 5, "health_address": "127.0.0.2"})


@pytest.mark.parametrize(
    ("tls", "problem"),
    [
        ({"cert_file": "a"}, "tls: cert_file and key_file belong together"),
        ({"key_file": "a"}, "tls: cert_file and key_file belong together"),
        ({"client_ca_file": "a"}, "tls.client_ca_file: is of use only with cert_file and key_file"),
        (
            {"cert_file": "a", "key_file": "b", "client_names": ["x"]},
            "tls.client_names: are read from certificates: give client_ca_file, which signs them",
        ),
    ],
)
def test_settings_of_tls_belong_together(tls: dict[str, Any], problem: str) -> None:
    """One without another would protect nothing, and look as if it did."""
    assert problems({"tls": tls}) == [problem]
