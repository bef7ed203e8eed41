from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from tests.chaos import faults
from tests.chaos.story import story

SHORT = [
    faults.kill_an_edge,
    faults.kill_a_history_service,
    faults.kill_a_leader,
    faults.freeze_an_edge,
    faults.cut_clients,
]
"""One of each kind; `make chaos` has them all, with ten times as many clients."""


@pytest.mark.timeout(600)
async def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """In any order: who was told that nothing is missing has everything, once and in order."""
    seed = int(os.environ.get("CHAOS_SEED", "0")) or Random().randrange(1, 1_000_000)
    print(f"\nCHAOS_SEED={seed}")
    order = Random(seed).sample(SHORT, len(SHORT))
    await story(tmp_path, order, seed=seed, readers=12, writers=8, frozen=3.0, say=print)
