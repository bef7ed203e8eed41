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


@pytest.mark.parametrize(
    ("share", "problem"),
    [([16], "there is no partition 16"), ([-1], "there is no partition -1"), ([1, 1], "1 is there already")],
)
def test_a_share_is_of_the_partitions(share: list[int], problem: str) -> None:
    """Each once; none of them is all."""
    with pytest.raises(ConfigError, match=problem):
        decode(HistoryConfig, {"history_service": {"partitions": share}})
    assert decode(HistoryConfig, {}).served == tuple(range(16))
    assert decode(HistoryConfig, {"history_service": {"partitions": [3]}}).served == (3,)
