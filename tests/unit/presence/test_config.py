from __future__ import annotations

from typing import Any

import pytest

from tidewire.kernel.config import ConfigError, decode
from tidewire.presence.config import PresenceConfig


def config(**service: Any) -> PresenceConfig:
    """With these settings of its own."""
    return decode(PresenceConfig, {"nats": {"partitions": 4}, "presence_service": service})


def test_it_serves_all_partitions_or_its_share() -> None:
    """As configured."""
    assert config().served == (0, 1, 2, 3)
    assert config(partitions=[2, 0]).served == (2, 0)


@pytest.mark.parametrize(
    ("partitions", "problem"),
    [([4], "there is no partition 4"), ([1, 1], "1 is there already"), ([-1], "there is no partition -1")],
)
def test_a_share_is_of_what_there_is(partitions: list[int], problem: str) -> None:
    """Each once."""
    with pytest.raises(ConfigError, match=problem):
        config(partitions=partitions)


def test_its_ports_are_not_those_of_the_history_service() -> None:
    """Both run on one machine with a file that names none, also where another setting of the server is named."""
    own = config(rpc={"address": "127.0.0.2"})
    assert (own.presence_service.rpc.port, own.presence_service.rpc.health_port) == (9543, 9544)
    assert own.presence_service.internal_port == 9110


def test_settings_of_others_are_passed_over() -> None:
    """It is one file for all."""
    others = {"client": {}, "history": {}, "presence": {}, "dev": {}, "storage": {}, "history_service": {}}
    assert decode(PresenceConfig, {**others, "workers": 2}).served
