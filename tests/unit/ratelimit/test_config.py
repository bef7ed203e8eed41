from __future__ import annotations

from typing import Any

from tests.support.ratelimit import CONFIG
from tidewire.edge.config import EdgeConfig
from tidewire.kernel.config import decode
from tidewire.ratelimit.config import RateLimitConfig


def test_the_configuration_of_the_tests_is_good() -> None:
    """Both read it."""
    decode(RateLimitConfig, CONFIG)
    limits: dict[str, Any] = {"rate_limits": CONFIG["rate_limits"]}
    decode(EdgeConfig, {"client": {"token": {"hmac_secret_key": "k" * 32}}, **limits})
