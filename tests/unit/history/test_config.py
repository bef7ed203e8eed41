from __future__ import annotations

import pytest

from tidewire.edge.config import EdgeConfig
from tidewire.history.config import OTHERS, HistoryConfig
from tidewire.kernel.config import ConfigError, decode


def test_the_settings_of_edges_pass() -> None:
    """All that the same file may hold, and nothing else."""
    edges = {*EdgeConfig.__struct_fields__, *EdgeConfig.others}
    assert edges - set(HistoryConfig.__struct_fields__) == OTHERS
    decode(HistoryConfig, {name: {"anything": 1} for name in OTHERS})
    with pytest.raises(ConfigError, match="unknown setting"):
        decode(HistoryConfig, {"historyservice": {}})
