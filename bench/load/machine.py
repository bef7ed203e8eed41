"""What the machine says of a process: CPU, private memory; and where and how urgently it runs."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
SETTLED = 0.3
"""Seconds in which a settled process uses less than `QUIET` of CPU."""
QUIET = 0.03


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


def wait_settled(pids: list[int], timeout: float = 20.0) -> None:
    """Block until the processes are idle, or for `timeout` seconds."""
    end = time.monotonic() + timeout
    used = sum(map(cpu_seconds, pids))
    while time.monotonic() < end:
        time.sleep(SETTLED)
        before, used = used, sum(map(cpu_seconds, pids))
        if used - before <= QUIET:
            return


def place(pid: int, cpu: int | None, nice: int) -> None:
    """Bind every thread of a process to one processor (None: leave it) and set its niceness.

    Raises:
        PermissionError: A negative niceness needs root.
    """
    for thread in [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]:
        if cpu is not None:
            os.sched_setaffinity(thread, {cpu})
        if nice:
            os.setpriority(os.PRIO_PROCESS, thread, nice)


def description() -> dict[str, object]:
    """Return what a reader must know of the machine."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "processors": len(os.sched_getaffinity(0)),
        "model": model[1] if model else platform.machine(),
        "memory_gib": round(int(memory[1]) / 1024**2, 1) if memory else None,
        "kernel": platform.release(),
        "load": [round(load, 1) for load in os.getloadavg()],
    }
