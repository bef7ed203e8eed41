"""A crowd publishes and reads while one fault comes after the other; then everything must be accounted for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from tests.chaos.crowd import LONG, Crowd, Size, node_processes
from tests.chaos.faults import Fault, Scene
from tests.chaos.mesh import running_mesh
from tests.chaos.truth import tell_stored
from tests.support.continuity import Continuity
from tests.support.wait import eventually


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
        running_mesh(folder) as (mesh, balancer),
        node_processes(size.readers + size.writers) as hosts,
    ):
        crowd = Crowd(balancer.ws_url, size, log)
        scene = Scene(mesh, balancer, crowd, log, Random(seed), frozen)
        await crowd.begin(hosts)
        for fault in faults:
            say(fault.__name__)
            began = time.monotonic()
            await fault(scene)
            await crowd.calm()
            say(f"  over after {time.monotonic() - began:.1f} s: {crowd.outcomes}")
        await crowd.end_writing()
        await crowd.all_subscribed()
        await tell_stored(mesh, log)
        await eventually(lambda: not log.behind(), LONG, "everybody has everything")
        await crowd.end_reading()
        say(
            f"{log.figures}, {crowd.outcomes['unknown']} of unknown outcome; "
            f"longest time without an acknowledgement {crowd.longest_silence:.1f} s, "
            f"farthest behind {crowd.farthest_behind:.1f} s"
        )
        log.check()
        assert crowd.surprises == []
