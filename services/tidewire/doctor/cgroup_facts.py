"""Reads the limits of the control groups that this process is in, version 1 and 2.

A limit of a group above holds as well, so each file is looked for on the way up to the mount. In a container the path
of /proc/self/cgroup may be the host's and not exist; the mount then shows the container's own group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tidewire.doctor.facts import CgroupFacts

UNLIMITED: Final = 1 << 60
"""What version 1 has instead of "max" is a little below 2^63."""

Parsed = Callable[[Path], float | None]


def read_cgroups(proc: Path, sys: Path) -> CgroupFacts:
    """Return the tightest limits; a machine without control groups has none."""
    mount = sys / "fs/cgroup"
    paths = _paths(proc)
    memory = list(_groups(mount, paths, "memory"))
    cpu = list(_groups(mount, paths, "cpu"))
    pids = list(_groups(mount, paths, "pids"))
    return CgroupFacts(
        memory_max=_whole(_tightest(memory, _memory_max)),
        memory_left=_whole(_tightest(memory, _memory_left)),
        cpus=_tightest(cpu, _cpus),
        pids_max=_whole(_tightest(pids, lambda group: _number(group / "pids.max"))),
        pids_left=_whole(_tightest(pids, _pids_left)),
    )


def _paths(proc: Path) -> dict[str, str]:
    """Return the group of each controller, "" for that of version 2 (cgroups(7))."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return {}
    fields = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    return {controller: path for _, controllers, path in fields for controller in controllers.split(",")}


def _groups(mount: Path, paths: dict[str, str], controller: str) -> Iterator[Path]:
    """Yield the folders that may limit a controller: the process's group and those above it."""
    for top, path in ((mount / controller, paths.get(controller)), (mount, paths.get(""))):
        if path is None:
            continue
        group = top / path.strip("/")
        yield group
        yield from (above for above in group.parents if above.is_relative_to(top))


def _tightest(groups: list[Path], read: Parsed) -> float | None:
    return min((found for group in groups if (found := read(group)) is not None), default=None)


def _memory_max(group: Path) -> float | None:
    version_2 = _number(group / "memory.max")
    return version_2 if version_2 is not None else _number(group / "memory.limit_in_bytes")


def _memory_left(group: Path) -> float | None:
    most = _memory_max(group)
    used = _number(group / "memory.current")
    used = used if used is not None else _number(group / "memory.usage_in_bytes")
    if most is None or used is None:
        return None
    return max(0, most - used + _file_cache(group))


def _file_cache(group: Path) -> int:
    """Return what the kernel takes back before it kills anybody."""
    fields = dict(line.split(" ", 1) for line in _text(group / "memory.stat").splitlines() if " " in line)
    return int(fields.get("total_inactive_file", fields.get("inactive_file", "0")))


def _cpus(group: Path) -> float | None:
    quota, _, period = _text(group / "cpu.max").partition(" ")
    if not period:
        quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _pids_left(group: Path) -> float | None:
    most, used = _number(group / "pids.max"), _number(group / "pids.current")
    return None if most is None or used is None else max(0, most - used)


def _number(file: Path) -> int | None:
    """Return a limit; None where there is none."""
    text = _text(file)
    return int(text) if text.isdigit() and int(text) < UNLIMITED else None


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)
