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


def test_its_ports_are_those_of_no_other_service() -> None:
    """All three run on one machine with a file that names none."""
    own = decode(RateLimitConfig, {}).rate_limit_service
    assert (own.rpc.port, own.rpc.health_port, own.internal_port) == (9643, 9644, 9120)
