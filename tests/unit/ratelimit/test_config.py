from __future__ import annotations

from typing import Any

import pytest

from tests.support.ratelimit import CONFIG
from tidewire.edge.config import EdgeConfig
from tidewire.kernel.config import ConfigError, decode
from tidewire.ratelimit.config import OTHERS, RateLimitConfig


def test_the_settings_of_edges_pass() -> None:
    """All that the same file may hold, and nothing else."""
    edges = {*EdgeConfig.__struct_fields__, *EdgeConfig.others}
    assert edges - set(RateLimitConfig.__struct_fields__) == OTHERS
    decode(RateLimitConfig, {name: {"anything": 1} for name in OTHERS})
    with pytest.raises(ConfigError, match="unknown setting"):
        decode(RateLimitConfig, {"ratelimits": {}})


def test_the_configuration_of_the_tests_is_good() -> None:
    """Both read it."""
    decode(RateLimitConfig, CONFIG)
    limits: dict[str, Any] = {"rate_limits": CONFIG["rate_limits"]}
    decode(EdgeConfig, {"client": {"token": {"hmac_secret_key": "k" * 32}}, **limits})
