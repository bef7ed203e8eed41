"""10,000 clients that are cut at once are all back, and the edge that takes them in goes on serving meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checker import Checker
from tests.support.edges import mapping
from tests.support.herd import running_herd
from tests.support.herd_scenarios import comebacks
from tests.support.nats_server import NatsServer

CLIENTS = 10_000
LAG = 1.0
"""Seconds: no tick of the loop may be later by the edge's own work. `python -m bench.herd` prints what it is."""


@pytest.mark.alone
@pytest.mark.timeout(500)
async def test_10000_clients_cut_at_once_are_all_back_while_the_loop_keeps_pace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After kill -9, after a drain, and after a start at the same port; then each hears what is published, once."""
    checker = Checker()
    with NatsServer(tmp_path / "nats", config=mapping()) as nats:
        async with running_herd() as herd:
            async for comeback in comebacks(tmp_path, nats.url, herd, CLIENTS, checker):
                with capsys.disabled():
                    print(f"\n{comeback}", end="", flush=True)
                assert len(comeback.times) == CLIENTS
                assert comeback.largest_lag <= comeback.allowed_lag(LAG)
    checker.check()
