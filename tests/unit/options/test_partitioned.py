from __future__ import annotations

from typing import Any

import pytest

from tidewire.history.config import HistoryConfig
from tidewire.kernel.config import ConfigError, decode
from tidewire.options.partitioned import PartitionedConfig
from tidewire.presence.config import PresenceConfig

pytestmark = pytest.mark.parametrize("config_type", [HistoryConfig, PresenceConfig])


def served(config_type: type[PartitionedConfig], **service: Any) -> tuple[int, ...]:
    """What a process with these settings of its own serves."""
    return decode(config_type, {"nats": {"partitions": 4}, config_type.section: service}).served


def test_it_serves_all_partitions_or_its_share(config_type: type[PartitionedConfig]) -> None:
    """As configured."""
    assert served(config_type) == (0, 1, 2, 3)
    assert served(config_type, partitions=[2, 0]) == (2, 0)


@pytest.mark.parametrize(
    ("share", "problem"),
    [
        ([4], r"partitions\[0\]: there is no partition 4: nats.partitions is 4"),
        ([1, 1], r"partitions\[1\]: 1 is there already"),
        ([-1], r"partitions\[0\]: there is no partition -1"),
    ],
)
def test_a_share_is_of_what_there_is(
    config_type: type[PartitionedConfig], share: list[int], problem: str
) -> None:
    """Each once; it is told beside what else is wrong."""
    with pytest.raises(ConfigError, match=rf"{config_type.section}\.{problem}"):
        served(config_type, partitions=share)
    other = {"log": {"level": "loud"}, config_type.section: {"partitions": share}, "nats": {"partitions": 4}}
    with pytest.raises(ConfigError, match=problem):
        decode(config_type, other)
