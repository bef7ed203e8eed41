from __future__ import annotations

import pytest

from tests.support.config import KEY
from tidewire.kernel.config import ConfigError, decode
from tidewire.storage.config import MigrateConfig


def test_a_migration_needs_no_key_and_finds_slips_in_what_it_reads() -> None:
    """The edges' part may hold anything."""
    assert decode(MigrateConfig, {**KEY, "http": {"port": "x"}}) == MigrateConfig()
    with pytest.raises(ConfigError, match="chanel: unknown setting; did you mean channel"):
        decode(MigrateConfig, {"chanel": {}})
    with pytest.raises(ConfigError, match="there is no profile 'x'"):
        decode(
            MigrateConfig,
            {
                "channel": {
                    "without_namespace": {"history_size": 1, "history_ttl": "1s", "storage_profile": "x"}
                }
            },
        )
