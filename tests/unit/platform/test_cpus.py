from __future__ import annotations

import os
from pathlib import Path

import pytest

from tidewire.platform.cpus import usable_cpus


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of eight processors, whose control groups the test writes; the process is in /a/b."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "self").write_text("1:name=systemd:/x\n0::/a/b\n")
    return tmp_path


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [
        (None, None, 8),
        ("max 100000", "max 100000", 8),
        ("200000 100000", None, 2),
        ("150000 100000", None, 2),
        ("10000 100000", None, 1),
        ("max 100000", "300000 100000", 3),
        ("9900000 100000", None, 8),
        ("nonsense", None, 8),
    ],
)
def test_the_smallest_of_what_is_allowed(
    machine: Path, inner: str | None, outer: str | None, expected: int
) -> None:
    """Processors, and the quotas of the own control group and of those around it; a part of one counts as one."""
    for folder, text in (("a/b", inner), ("a", outer)):
        if text is not None:
            (machine / folder / "cpu.max").write_text(text + "\n")
    assert usable_cpus(machine, machine / "self") == expected


def test_in_a_container_the_own_group_is_the_root(machine: Path) -> None:
    """As its namespace shows it."""
    (machine / "self").write_text("0::/\n")
    (machine / "cpu.max").write_text("200000 100000\n")
    assert usable_cpus(machine, machine / "self") == 2


def test_without_control_groups_the_processors_decide(machine: Path) -> None:
    """Other systems have no such files."""
    assert usable_cpus(machine / "missing", machine / "missing") == 8
