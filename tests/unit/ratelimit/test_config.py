from __future__ import annotations

from typing import Any

import pytest

from tests.support.ratelimit import CONFIG
from tidewire.edge.config import EdgeConfig
from tidewire.kernel.config import ConfigError, decode
from tidewire.ratelimit.config import OTHERS, ServiceConfig


def test_the_settings_of_edges_pass() -> None:
    """All that the same file may hold, and nothing else."""
    edges = {*EdgeConfig.__struct_fields__, *EdgeConfig.others}
    assert edges - set(ServiceConfig.__struct_fields__) == OTHERS
    decode(ServiceConfig, {name: {"anything": 1} for name in OTHERS})
    with pytest.raises(ConfigError, match="unknown setting"):
        decode(ServiceConfig, {"ratelimits": {}})


def test_the_configuration_of_the_tests_is_good() -> None:
    """Both read it."""
    decode(ServiceConfig, CONFIG)
    limits: dict[str, Any] = {"rate_limits": CONFIG["rate_limits"]}
    decode(EdgeConfig, {"client": {"token": {"hmac_secret_key": "k" * 32}}, **limits})


def test_its_ports_are_those_of_no_other_service() -> None:
    """All three run on one machine with a file that names none."""
    own = decode(ServiceConfig, {}).rate_limit_service
    assert (own.rpc.port, own.rpc.health_port, own.internal_port) == (9643, 9644, 9120)
