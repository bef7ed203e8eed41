from __future__ import annotations

import pytest

from tests.support.config import KEY
from tidewire.edge.config import EdgeConfig
from tidewire.kernel.config import ConfigError, decode
from tidewire.kernel.config_fields import settings_of
from tidewire.storage.config import MigrateConfig


def test_every_setting_of_edges_is_known_in_their_common_file() -> None:
    """As one that a migration reads, or as somebody else's."""
    own = {setting.name for setting in settings_of(MigrateConfig)}
    edges = {setting.name for setting in settings_of(EdgeConfig)} | EdgeConfig.others
    assert own & MigrateConfig.others == set()
    assert edges <= own | MigrateConfig.others


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
