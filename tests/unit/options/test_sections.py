from __future__ import annotations

import pytest

from tidewire.edge.config import EdgeConfig
from tidewire.history.config import HistoryConfig
from tidewire.kernel.config import ConfigError, Section, decode
from tidewire.options.sections import SECTIONS
from tidewire.presence.config import PresenceConfig
from tidewire.ratelimit.config import RateLimitConfig
from tidewire.storage.config import MigrateConfig

CONFIGS = [EdgeConfig, HistoryConfig, PresenceConfig, RateLimitConfig, MigrateConfig]


@pytest.mark.parametrize("config_type", CONFIGS)
def test_every_name_of_the_common_file_is_a_process_s_own_or_another_s(config_type: type[Section]) -> None:
    """All that the file may hold, and nothing else."""
    own = set(config_type.__struct_fields__)
    assert own & config_type.others == set()
    assert own | config_type.others == SECTIONS


@pytest.mark.parametrize("config_type", CONFIGS[1:])
def test_what_is_another_s_may_be_anything(config_type: type[Section]) -> None:
    """A slip is told all the same."""
    others = {name: {"anything": 1} for name in config_type.others}
    assert decode(config_type, others) == config_type()
    with pytest.raises(ConfigError, match="chanel: unknown setting"):
        decode(config_type, {**others, "chanel": {}})
