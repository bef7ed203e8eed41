"""How many processors this process may use."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cpus(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Return the number of processors that it may run on, or fewer where a control group (v2) allows less time, at least 1.

    A quota of one and a half processors counts as two: the half is worth a process that can use it.
    """
    allowed = len(os.sched_getaffinity(0))
    return max(1, min([allowed, *map(math.ceil, _quotas(cgroups, membership))]))


def _quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    """The limits of the process's control group and of all those around it, in processors."""
    group = _group(membership)
    for folder in (group, *group.parents):
        with contextlib.suppress(OSError, ValueError):
            quota, period = (cgroups / folder / "cpu.max").read_text().split()
            if quota != "max":
                yield int(quota) / int(period)


def _group(membership: Path) -> PurePosixPath:
    with contextlib.suppress(OSError):
        for line in membership.read_text().splitlines():
            if line.startswith("0::"):
                return PurePosixPath(line[3:].lstrip("/"))
    return PurePosixPath()
