from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from tidewire.doctor.host_facts import read_host

FILES = {
    "sys/fs/nr_open": "1048576",
    "sys/fs/file-nr": "2100\t100\t2466174",
    "sys/net/ipv4/ip_local_port_range": "32768\t60999",
    "sys/net/ipv4/ip_local_reserved_ports": "8000,9000-9010",
    "sys/net/core/somaxconn": "4096",
    "sys/net/ipv4/tcp_max_syn_backlog": "2048",
    "sys/net/ipv4/tcp_syncookies": "1",
    "sys/net/ipv4/tcp_mem": "287898\t383866\t575796",
    "sys/net/ipv4/tcp_rmem": "4096\t131072\t33554432",
    "sys/net/ipv4/tcp_wmem": "4096\t16384\t4194304",
    "sys/net/netfilter/nf_conntrack_max": "262144",
    "sys/net/netfilter/nf_conntrack_count": "17",
    "meminfo": "MemTotal:       24683656 kB\nMemAvailable:   1000 kB\nHugePages_Total:       0",
}


def machine(root: Path, **changes: str) -> Path:
    """A /proc with these files."""
    for name, text in {**FILES, **changes}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


def test_every_setting_is_read(tmp_path: Path) -> None:
    """As the kernel writes it."""
    facts = read_host(machine(tmp_path), tmp_path)
    assert (facts.nr_open, facts.files_open, facts.files_max) == (1_048_576, 2_000, 2_466_174)
    assert facts.port_range == (32_768, 60_999)
    assert facts.reserved_ports == ((8_000, 8_000), (9_000, 9_010))
    assert (facts.somaxconn, facts.syn_backlog, facts.syncookies) == (4_096, 2_048, 1)
    assert facts.tcp_mem == (287_898, 383_866, 575_796)
    assert facts.tcp_rmem == (4_096, 131_072, 33_554_432)
    assert facts.tcp_wmem == (4_096, 16_384, 4_194_304)
    assert (facts.conntrack_count, facts.conntrack_max) == (17, 262_144)
    assert facts.memory_available == 1_024_000


def test_what_is_not_there_is_not_known(tmp_path: Path) -> None:
    """No file, or one that is not what it should be."""
    facts = read_host(tmp_path, tmp_path)
    known = {name for name in facts.__struct_fields__ if getattr(facts, name) not in (None, ())}
    assert known - {"clock_synchronised"} == {"soft_files", "hard_files", "page_size", "cgroup", "cpus"}
    odd = {"sys/net/ipv4/tcp_mem": "1 2", "sys/net/core/somaxconn": "many", "meminfo": "MemAvailable: much"}
    facts = read_host(machine(tmp_path, **odd), tmp_path)
    assert (facts.tcp_mem, facts.somaxconn, facts.memory_available) == (None, None, None)


def test_the_real_machine_tells() -> None:
    """At least what every Linux does."""
    facts = read_host()
    assert (facts.soft_files, facts.hard_files) == resource.getrlimit(resource.RLIMIT_NOFILE)
    assert facts.cpus == len(os.sched_getaffinity(0))
    assert facts.memory_available
    assert facts.memory_available > 1 << 20
    assert facts.files_open
    assert facts.files_max
    assert facts.files_open < facts.files_max
    assert facts.clock_synchronised in {True, False, None}


def test_an_unlimited_number_of_files_is_a_large_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This system writes it as -1."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, resource.RLIM_INFINITY))
    facts = read_host(tmp_path, tmp_path)
    assert facts.soft_files == 1024
    assert facts.hard_files > 1 << 60
