"""What tests of the edge's configuration share."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tidewire.edge.config import EdgeConfig
from tidewire.kernel.config import ConfigError, decode

KEY = {"client": {"token": {"hmac_secret_key": "k" * 32}}}
"""The least configuration: a key to check tokens with."""


def problems(mapping: Mapping[str, object]) -> list[str]:
    """The lines that decoding `mapping` gives, which must fail."""
    with pytest.raises(ConfigError) as error:
        decode(EdgeConfig, mapping)
    return [str(problem) for problem in error.value.problems]


def client(**settings: object) -> dict[str, object]:
    """A configuration with these client settings beside a key."""
    return {"client": {**KEY["client"], **settings}}


def token(**settings: object) -> dict[str, object]:
    """A configuration with these token settings."""
    return {"client": {"token": settings}}
