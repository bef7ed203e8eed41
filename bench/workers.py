"""Several workers on one port: the memory of all processes together, before the first client, and how soon they are ready.

Memory is proportional set size (`Pss` of /proc/<pid>/smaps_rollup): a page that processes share counts once. The time is
from the start of the first worker to `workers.ready`, by the log's own time stamps.
"""

from __future__ import annotations

import re
import tempfile
from datetime import datetime
from pathlib import Path

from tests.support.edges import EdgeProcess, edge_config, mapping
from tests.support.nats_server import NatsServer

WORKERS = (0, 2, 4, 8)
"""0: an edge by itself, without a supervisor."""
KIB_IN_MIB = 1024


def pss(pid: int) -> float:
    """Return a process's proportional set size in MiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)
    if found is None:
        raise AssertionError("the kernel does not tell Pss")
    return int(found[1]) / KIB_IN_MIB


def processes(edge: EdgeProcess, workers: int) -> dict[str, int]:
    """Return the processes of an edge, by what they are."""
    if not workers:
        return {"edge": edge.pid}
    names = [*map(str, range(1, workers + 1)), "internal"]
    return {"supervisor": edge.pid, **{name: edge.worker_pid(name) for name in names}}


def ready_after(edge: EdgeProcess) -> float:
    """Return the seconds from the first worker's start until all were ready."""
    first = next(line for line in edge.logged("worker.started") if line["worker"] == "1")
    (ready,) = edge.logged("workers.ready")
    began, ended = (datetime.fromisoformat(line["timestamp"]) for line in (first, ready))
    return (ended - began).total_seconds()


def main() -> None:
    """Start each number of workers once, and print a line for each."""
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder) / "nats", config=mapping()) as nats:
        for workers in WORKERS:
            place = Path(folder) / str(workers)
            with EdgeProcess(place, edge_config(nats.url), workers=workers) as edge:
                sizes = {name: pss(pid) for name, pid in processes(edge, workers).items()}
                parts = ", ".join(f"{name} {size:.1f}" for name, size in sizes.items())
                after = f", ready after {ready_after(edge):.2f} s" if workers else ""
                print(f"{workers} workers  {sum(sizes.values()):6.1f} MiB{after}  ({parts})", flush=True)


if __name__ == "__main__":
    main()
