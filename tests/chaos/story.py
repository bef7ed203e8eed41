"""A crowd publishes and reads while one fault comes after the other; then everything must be accounted for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from tests.chaos.crowd import Crowd, node_processes
from tests.chaos.faults import Fault, Scene
from tests.chaos.mesh import running_mesh
from tests.support.continuity import Continuity
from tests.support.wait import eventually

CHANNELS = [f"chat:room-{number}" for number in range(4)]


async def story(
    folder: Path,
    faults: Sequence[Fault],
    *,
    seed: int,
    readers: int,
    writers: int,
    frozen: float,
    say: Callable[[str], None],
) -> None:
    """Tell it with this seed; raises AssertionError where anything is missing, repeated, reordered or wrongly promised."""
    dice = Random(seed)
    log = Continuity()
    async with (
        running_mesh(folder) as (mesh, balancer),
        node_processes(readers + writers) as hosts,
    ):
        crowd = Crowd(balancer.ws_url, CHANNELS, log)
        scene = Scene(mesh, balancer, dice, frozen)
        await crowd.begin(hosts, readers, writers, pause=20, window=4)
        for fault in faults:
            say(f"{fault.__name__}")
            began = time.monotonic()
            await fault(scene)
            say(f"  over after {time.monotonic() - began:.1f} s: {crowd.outcomes}")
            await _calm(crowd)
        await crowd.end_writing()
        await crowd.all_subscribed(readers)
        count = await mesh.read_streams(log)
        await eventually(lambda: not log.behind(), 60, "everybody has everything")
        say(
            f"{count} stored; {log.counts}; longest time without an ack {crowd.longest_gap:.1f} s; {crowd.outcomes}"
        )
        log.check()
        assert crowd.surprises == []


async def _calm(crowd: Crowd) -> None:
    """Go on once the mesh works again: there are new acknowledgements."""
    before = crowd.outcomes["acknowledged"]
    await eventually(lambda: crowd.outcomes["acknowledged"] >= before + 50, 60, "acknowledgements again")
    await asyncio.sleep(0)
