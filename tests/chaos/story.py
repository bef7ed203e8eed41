"""A crowd publishes and reads while one fault comes after the other; then everything must be accounted for."""

from __future__ import annotations

import contextlib
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
    log, dice = Continuity(), Random(seed)
    async with (
        running_mesh(folder, dice) as (mesh, balancer),
        node_processes(size.readers + size.writers) as hosts,
    ):
        crowd = Crowd(balancer.ws_url, size, log)
        scene = Scene(mesh, balancer, crowd, log, dice, frozen)
        try:
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
