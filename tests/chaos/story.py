"""A crowd publishes and reads while one fault comes after the other; then everything must be accounted for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from random import Random

from tests.chaos.crowd import LONG, Crowd, Size, node_processes
from tests.chaos.faults import Fault, Scene
from tests.chaos.mesh import running_mesh
from tests.chaos.truth import tell_stored
from tests.support.balancer import Balancer
from tests.support.continuity import Continuity
from tests.support.wait import eventually

CUT_PAUSE = 1.0
CUT_SHARE = 0.02


async def story(
    folder: Path,
    faults: Sequence[Fault],
    *,
    seed: int,
    size: Size,
    frozen: float,
    say: Callable[[str], None],
) -> None:
    """Tell it with this seed; raises AssertionError where anything is missing, repeated, reordered or wrongly promised."""
    log = Continuity()
    async with (
        running_mesh(folder, Random(seed)) as (mesh, balancer),
        node_processes(size.readers + size.writers) as hosts,
    ):
        crowd = Crowd(balancer.ws_url, size, log)
        scene = Scene(mesh, balancer, crowd, log, Random(seed), frozen)
        try:
            await crowd.begin(hosts)
            async with _restless(balancer, Random(seed)):
                await _befall(scene, faults, say)
            await crowd.end_writing()
            await crowd.all_subscribed()
            await tell_stored(mesh, log)
            with contextlib.suppress(AssertionError):  # the check says what is missing
                await eventually(lambda: not log.behind(), LONG)
        finally:
            await crowd.end_reading()
    say(
        f"{log.figures}, {crowd.outcomes['unknown']} of unknown outcome; "
        f"longest time without an acknowledgement {crowd.longest_silence:.1f} s, "
        f"farthest behind {crowd.farthest_behind:.1f} s"
    )
    log.check()
    assert crowd.surprises == []


async def _befall(scene: Scene, faults: Sequence[Fault], say: Callable[[str], None]) -> None:
    for fault in faults:
        say(fault.__name__)
        began = time.monotonic()
        await fault(scene)
        await scene.crowd.calm()
        say(f"  over after {time.monotonic() - began:.1f} s: {scene.crowd.outcomes}")


@contextlib.asynccontextmanager
async def _restless(balancer: Balancer, dice: Random) -> AsyncIterator[None]:
    """Clients lose their connections all the time, whatever else happens."""

    async def cut() -> None:
        while True:
            await asyncio.sleep(CUT_PAUSE)
            balancer.cut(CUT_SHARE, dice)

    cutting = asyncio.create_task(cut())
    try:
        yield
    finally:
        cutting.cancel()
