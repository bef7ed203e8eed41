"""Facts of a machine, an edge and a NATS server on which a doctor finds nothing."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from tidewire.doctor.facts import CgroupFacts, EdgeFacts, Facts, HostFacts, ListenerFacts, NatsFacts
from tidewire.doctor.findings import Finding

GIB = 1 << 30
NOW = 2_000_000_000.0
DAY = 86_400.0

HOST = HostFacts(
    soft_files=1024,
    hard_files=1 << 20,
    nr_open=1 << 20,
    files_open=2_000,
    files_max=2_400_000,
    port_range=(10_240, 65_535),
    somaxconn=4096,
    syn_backlog=4096,
    syncookies=0,
    tcp_mem=(190_000, 250_000, 380_000),
    page_size=4096,
    tcp_rmem=(4096, 131_072, 6_291_456),
    tcp_wmem=(4096, 16_384, 4_194_304),
    conntrack_count=100,
    conntrack_max=262_144,
    memory_available=8 * GIB,
    cgroup=CgroupFacts(memory_max=8 * GIB, memory_left=4 * GIB, cpus=2.0, pids_max=1000, pids_left=990),
    cpus=4,
    clock_synchronised=True,
)
EDGE = EdgeFacts(
    connection_limit=50_000,
    needed_payload=135_168,
    partitions=16,
    nats_user="edge",
    own_keys=1,
    listeners=(
        ListenerFacts(setting="http.port", port=8000),
        ListenerFacts(setting="http.internal_port", port=9000),
    ),
)
NATS = NatsFacts(
    server="nats://n1:4222",
    version="2.15.1",
    jetstream=True,
    max_payload=262_144,
    mapped=16,
    may_forge=False,
    skew=0.01,
    skew_error=0.001,
)
FACTS = Facts(now=NOW, host=HOST, edge=EDGE, nats=(NATS,))


def host(**changes: Any) -> HostFacts:
    """The machine, but for some facts."""
    return replace(HOST, **changes)


def named(findings: list[Finding], check: str) -> Finding:
    """The one finding of a check."""
    (found,) = (finding for finding in findings if finding.check == check)
    return found
