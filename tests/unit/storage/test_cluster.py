from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tidewire.platform.jetstream import JetStreamError
from tidewire.storage import cluster
from tidewire.storage.cluster import read_cluster
from tidewire.storage.found import Found
from tidewire.storage.wanted import Wanted


class Leaderless:
    """A cluster that answers once it has been asked in vain some times: until then it has no leader."""

    def __init__(self, deaf: int) -> None:
        self.deaf = deaf
        self.asked = 0

    async def call(self, name: str, request: object) -> dict[str, Any]:
        """See JetStream."""
        self.asked += 1
        if self.asked <= self.deaf:
            await asyncio.sleep(0.05)
            raise JetStreamError(503, 0, f"{name}: no answer within 0.05 s")
        return {"streams": None, "total": 0}


@pytest.mark.parametrize(("deaf", "answered"), [(0, True), (3, True), (6, False)])
async def test_a_cluster_that_is_about_to_have_a_leader_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, deaf: int, answered: bool
) -> None:
    """Such as one that has just been started: what it was asked before is never answered."""
    monkeypatch.setattr(cluster, "ASK_AGAIN", 0.01)
    js: Any = Leaderless(deaf)
    if answered:
        assert await read_cluster(js, Wanted(2, {}, {})) == Found({})
        assert js.asked == deaf + 1
    else:
        with pytest.raises(JetStreamError, match="no answer"):
            await read_cluster(js, Wanted(2, {}, {}))
