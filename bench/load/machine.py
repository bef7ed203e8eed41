"""What the machine says of a process: CPU, private memory; and where and how urgently it runs."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

_TICKS = os.sysconf("SC_CLK_TCK")
SETTLED = 0.3
"""Seconds in which a settled process uses less than `QUIET` of CPU."""
QUIET = 0.03
LOOPS = 1_000_000


def cpu_seconds(pid: int) -> float:
    """Return the CPU time, user and system, that a process has used, to 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def private_bytes(pid: int) -> int:
    """Return the memory that no other process shares."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(
        int(kib) for kib in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB$", text, re.MULTILINE)
    )


def open_files(pid: int) -> int:
    """Return how many descriptors a process has."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def wait_settled(pids: list[int], timeout: float = 20.0) -> None:
    """Block until the processes are idle, or for `timeout` seconds."""
    end = time.monotonic() + timeout
    used = sum(map(cpu_seconds, pids))
    while time.monotonic() < end:
        time.sleep(SETTLED)
        before, used = used, sum(map(cpu_seconds, pids))
        if used - before <= QUIET:
            return


def bind(pid: int, cpu: int | None) -> None:
    """Bind every thread of a process to one processor; None leaves them."""
    if cpu is not None:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {cpu})


def loop_seconds() -> float:
    """Return the CPU seconds that a fixed loop takes: the mean over the processors on which this process may run.

    Where processors are shared with other machines (their second threads, for one), the same work takes more CPU-seconds at
    one time than at another: this says by how much.
    """
    allowed = os.sched_getaffinity(0)
    try:
        return fmean(map(_loop_on, allowed))
    finally:
        os.sched_setaffinity(0, allowed)


def _loop_on(cpu: int) -> float:
    os.sched_setaffinity(0, {cpu})
    began, total = time.thread_time(), 0
    for number in range(LOOPS):
        total += number & 7
    return time.thread_time() - began


@contextlib.contextmanager
def niceness(nice: int) -> Iterator[None]:
    """Let this process, those that it starts, and its session run with this niceness for a while.

    Where the kernel groups processes by session (sched_autogroup), niceness counts only inside the group, and the group
    has one of its own.

    Raises:
        PermissionError: A niceness below 0 needs root.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    group = Path("/proc/self/autogroup")
    if nice:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        group.write_text(str(nice))
    try:
        yield
    finally:
        if nice:
            group.write_text(str(before))
            os.setpriority(os.PRIO_PROCESS, 0, before)


def description() -> dict[str, object]:
    """Return what a reader must know of the machine."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "processors": len(os.sched_getaffinity(0)),
        "model": model[1] if model else platform.machine(),
        "GiB": round(int(memory[1]) / 1024**2, 1) if memory else None,
        "kernel": platform.release(),
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }
