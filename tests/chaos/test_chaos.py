from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from tests.chaos.crowd import Size
from tests.chaos.faults import CHEAP
from tests.chaos.story import story


@pytest.mark.alone
@pytest.mark.timeout(600)
async def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """In any order: who was told that nothing is missing has everything, once and in order. `make chaos` has all faults."""
    seed = int(os.environ.get("CHAOS_SEED", "0")) or Random().randrange(1, 1_000_000)
    print(f"\nCHAOS_SEED={seed}")
    order = Random(seed).sample(CHEAP, len(CHEAP))
    await story(
        tmp_path,
        order,
        seed=seed,
        size=Size(readers=12, writers=10, pause=100, burst=2),
        frozen=2.0,
        say=print,
    )
