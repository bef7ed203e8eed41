"""May the process have what so many connections need? Files, memory, processors, threads, and the right time. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from tidewire.doctor.facts import CgroupFacts, HostFacts
from tidewire.doctor.findings import NOT_TOLD, Finding, fail, ok, rounded, size, skip, warn
from tidewire.platform.open_files import files_for

MIB: Final = 1 << 20
BASE_MEMORY: Final = 64 * MIB
"""Resident memory of an edge without connections; reckoned on the safe side, as are the next two."""
EDGE_BYTES: Final = 8 * 1024
"""An edge's own memory for an idle connection with a token and one subscription: 7.9 KiB over 8,000 of them."""
KERNEL_BYTES: Final = 5 * 1024
"""The kernel's memory for one end of an idle connection: 8.5 to 10 KiB for both ends, over 8,000 and 80,000 of them."""
TLS_BYTES: Final = 18 * 1024
"""What OpenSSL keeps for an idle connection of the edge: 17 KiB (`python -m bench.tls`)."""
BURST: Final = 1.5
"""Memory in use grows by buffers of slow clients and by reconnects: below this factor it is tight."""
SPARE_THREADS: Final = 64
"""Threads that resolve names and read files."""


def advise_host(host: HostFacts, connections: int, *, tls: bool = False) -> Iterator[Finding]:
    """Yield a finding for each check of the machine, for an edge with so many connections."""
    yield _open_files(host, connections)
    yield _all_files(host, connections)
    yield _memory(host, connections, EDGE_BYTES + KERNEL_BYTES + (TLS_BYTES if tls else 0))
    yield _cpu(host)
    yield _threads(host.cgroup)
    yield _clock(host)


def _open_files(host: HostFacts, connections: int) -> Finding:
    name, needed = "open files", files_for(connections)
    found = f"soft {host.soft_files}, hard {host.hard_files}; {connections} connections need {needed}"
    if host.hard_files >= needed:
        return ok(name, found)
    capped = host.nr_open is not None and host.nr_open < needed
    return fail(
        name,
        found,
        "each connection is an open file, and the edge can raise its soft limit to the hard one only: it would lower "
        "client.connection_limit",
        *([f"sysctl -w fs.nr_open={needed}"] if capped else []),
        f"ulimit -n {needed}   (as root, in the shell that starts the edge)",
        f"systemd: LimitNOFILE={needed} in [Service]",
        f"Kubernetes: no field of a pod; on the nodes LimitNOFILE={needed} in containerd's unit",
    )


def _all_files(host: HostFacts, connections: int) -> Finding:
    name = "files of the machine"
    if host.files_open is None or host.files_max is None:
        return skip(name, f"{NOT_TOLD} fs.file-nr")
    needed = host.files_open + files_for(connections)
    found = f"{host.files_open} of {host.files_max} open; {needed} with the connections"
    if needed <= host.files_max:
        return ok(name, found)
    why = "beyond fs.file-max no process of the machine can open a file or accept a connection"
    return fail(name, found, why, f"sysctl -w fs.file-max={rounded(needed * 1.25)}")


def _memory(host: HostFacts, connections: int, each: int) -> Finding:
    name = "memory"
    bounds = [left for left in (host.memory_available, host.cgroup.memory_left) if left is not None]
    if not bounds:
        return skip(name, f"{NOT_TOLD} how much memory is left")
    left = min(bounds)
    needed = BASE_MEMORY + connections * each
    limit = f" of the control group's {size(host.cgroup.memory_max)}" if host.cgroup.memory_max else ""
    found = f"{size(left)} left{limit}; {connections} idle connections take about {size(needed)}"
    if left >= needed * BURST:
        return ok(name, found)
    advice = (
        f"Kubernetes: resources.limits.memory of {math.ceil(needed * BURST / MIB)}Mi or more",
        f"systemd: MemoryMax={math.ceil(needed * BURST / MIB)}M or more",
        f"or fewer connections here: client.connection_limit {max(1, _fitting(left, each))}",
    )
    if left < needed:
        return fail(name, found, "the kernel would kill the edge", *advice)
    why = "messages on their way, slow clients and reconnects come on top (client.queue_max_size for each at most)"
    return warn(name, found, why, *advice)


def _fitting(left: int, each: int) -> int:
    """Return how many connections so much memory carries, with room for bursts."""
    return int((left / BURST - BASE_MEMORY) / each)


def _cpu(host: HostFacts) -> Finding:
    name, quota = "CPU", host.cgroup.cpus
    edges = math.floor(min(host.cpus, quota or host.cpus))
    found = f"{host.cpus} usable" + ("" if quota is None else f", the control group allows {quota:g}")
    if edges >= 1:
        return ok(name, f"{found}; an edge uses one: up to {edges} here")
    return warn(
        name,
        found,
        "an edge uses one core, and one that is throttled makes all of its clients wait at once",
        "Kubernetes: resources.requests.cpu of 1, and no limit of it or a whole number",
        "systemd: CPUQuota=100% or more",
    )


def _threads(cgroup: CgroupFacts) -> Finding:
    name = "threads"
    if cgroup.pids_left is None:
        return ok(name, "not limited by a control group")
    found = f"{cgroup.pids_left} of {cgroup.pids_max} left in the control group"
    if cgroup.pids_left >= SPARE_THREADS:
        return ok(name, found)
    why = f"an edge needs up to {SPARE_THREADS} for names and files, and fails where it cannot start one"
    return warn(name, found, why, "systemd: TasksMax=256", "Kubernetes: podPidsLimit of the kubelet")


def _clock(host: HostFacts) -> Finding:
    name = "clock"
    if host.clock_synchronised is None:
        return skip(name, f"{NOT_TOLD} whether its clock is synchronised")
    if host.clock_synchronised:
        return ok(name, "synchronised, says the kernel")
    return warn(
        name,
        "not synchronised, says the kernel",
        "tokens expire by this clock, and tidewire_publish_to_delivery_seconds compares it with other machines'; a "
        "virtual machine may get its time from the host unseen",
        "systemctl enable --now systemd-timesyncd   (or chrony)",
    )
