"""Reads what the kernel tells of this machine and this process: /proc, /sys, and three questions to the system."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path
from typing import Final

from tidewire.doctor.cgroup_facts import read_cgroups
from tidewire.doctor.facts import HostFacts, Triple

UNSYNCHRONISED: Final = 0x40
"""STA_UNSYNC of adjtimex(2)."""


def read_host(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> HostFacts:
    """Return the facts; what this system does not tell is None there."""
    kernel = proc / "sys"
    soft, hard = (_files(limit) for limit in resource.getrlimit(resource.RLIMIT_NOFILE))
    opened, files_max = _open_files(kernel)
    ports = _numbers(kernel / "net/ipv4/ip_local_port_range")
    return HostFacts(
        soft_files=soft,
        hard_files=hard,
        nr_open=_number(kernel / "fs/nr_open"),
        files_open=opened,
        files_max=files_max,
        port_range=(ports[0], ports[1]) if len(ports) == 2 else None,
        reserved_ports=_ranges(_text(kernel / "net/ipv4/ip_local_reserved_ports")),
        somaxconn=_number(kernel / "net/core/somaxconn"),
        syn_backlog=_number(kernel / "net/ipv4/tcp_max_syn_backlog"),
        syncookies=_number(kernel / "net/ipv4/tcp_syncookies"),
        tcp_mem=_triple(kernel / "net/ipv4/tcp_mem"),
        page_size=resource.getpagesize(),
        tcp_rmem=_triple(kernel / "net/ipv4/tcp_rmem"),
        tcp_wmem=_triple(kernel / "net/ipv4/tcp_wmem"),
        conntrack_count=_number(kernel / "net/netfilter/nf_conntrack_count"),
        conntrack_max=_number(kernel / "net/netfilter/nf_conntrack_max"),
        memory_available=_memory_available(proc / "meminfo"),
        cgroup=read_cgroups(proc, sys),
        cpus=_cpus(),
        clock_synchronised=_clock_synchronised(),
    )


def _files(limit: int) -> int:
    """An unlimited number is written as -1 by this system and as the most by others."""
    return (1 << 63) - 1 if limit == resource.RLIM_INFINITY else limit


def _open_files(kernel: Path) -> tuple[int | None, int | None]:
    """Return open files of the machine, which `fs.file-nr` gives with those that are free again, and the most."""
    numbers = _numbers(kernel / "fs/file-nr")
    return (numbers[0] - numbers[1], numbers[2]) if len(numbers) == 3 else (None, None)


def _memory_available(file: Path) -> int | None:
    fields = dict(line.split(":", 1) for line in _text(file).splitlines() if ":" in line)
    number = fields.get("MemAvailable", "").split()
    return int(number[0]) * 1024 if number and number[0].isdigit() else None


def _cpus() -> int:
    """Return the processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ranges(text: str) -> tuple[tuple[int, int], ...]:
    """Read `8000,9000-9010`."""
    pairs = [part.partition("-") for part in text.split(",") if part]
    return tuple((int(first), int(last or first)) for first, _, last in pairs)


def _triple(file: Path) -> Triple | None:
    numbers = _numbers(file)
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else None


def _number(file: Path) -> int | None:
    numbers = _numbers(file)
    return numbers[0] if len(numbers) == 1 else None


def _numbers(file: Path) -> list[int]:
    words = _text(file).split()
    return [int(word) for word in words] if all(word.isdigit() for word in words) else []


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


class _Timex(ctypes.Structure):
    """The head of struct timex (adjtimex(2)); modes = 0 only reads."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("frequency", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


def _clock_synchronised() -> bool | None:
    """Ask the kernel whether something keeps its clock right; None where it does not say."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
    answer = _Timex()
    return None if adjtimex(ctypes.byref(answer)) < 0 else not answer.status & UNSYNCHRONISED
