from __future__ import annotations

from pathlib import Path

from tidewire.doctor.cgroup_facts import read_cgroups
from tidewire.doctor.facts import CgroupFacts

NO_LIMIT = "9223372036854771712"


def tree(root: Path, groups: str, files: dict[str, str]) -> CgroupFacts:
    """What is read where /proc/self/cgroup is `groups` and /sys/fs/cgroup holds `files`."""
    for name, text in {
        "proc/self/cgroup": groups,
        **{f"sys/fs/cgroup/{k}": v for k, v in files.items()},
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return read_cgroups(root / "proc", root / "sys")


def test_version_2(tmp_path: Path) -> None:
    """A systemd service, with the slice above it: of each limit the tighter counts."""
    facts = tree(
        tmp_path,
        "0::/system.slice/tidewire.service",
        {
            "system.slice/tidewire.service/memory.max": "1000",
            "system.slice/tidewire.service/memory.current": "400",
            "system.slice/tidewire.service/memory.stat": "anon 300\nfile 100\ninactive_file 50",
            "system.slice/tidewire.service/cpu.max": "max 100000",
            "system.slice/tidewire.service/pids.max": "max",
            "system.slice/tidewire.service/pids.current": "7",
            "system.slice/memory.max": "5000",
            "system.slice/memory.current": "4900",
            "system.slice/cpu.max": "150000 100000",
            "system.slice/pids.max": "100",
            "system.slice/pids.current": "90",
        },
    )
    assert facts == CgroupFacts(memory_max=1000, memory_left=100, cpus=1.5, pids_max=100, pids_left=10)


def test_version_1(tmp_path: Path) -> None:
    """Each controller has a tree of its own; some share one."""
    facts = tree(
        tmp_path,
        "5:cpu,cpuacct:/web\n4:memory:/web/a\n3:pids:/web\n1:name=systemd:/",
        {
            "memory/web/a/memory.limit_in_bytes": "1000",
            "memory/web/a/memory.usage_in_bytes": "700",
            "memory/web/a/memory.stat": "inactive_file 1\ntotal_inactive_file 200",
            "memory/memory.limit_in_bytes": NO_LIMIT,
            "cpu/web/cpu.cfs_quota_us": "50000",
            "cpu/web/cpu.cfs_period_us": "100000",
            "pids/web/pids.max": "10",
            "pids/web/pids.current": "12",
        },
    )
    assert facts == CgroupFacts(memory_max=1000, memory_left=500, cpus=0.5, pids_max=10, pids_left=0)


def test_no_limit(tmp_path: Path) -> None:
    """As both versions write it."""
    files = {
        "memory/memory.limit_in_bytes": NO_LIMIT,
        "memory/memory.usage_in_bytes": "1",
        "cpu/cpu.cfs_quota_us": "-1",
        "cpu/cpu.cfs_period_us": "100000",
        "memory.max": "max",
        "memory.current": "1",
    }
    assert tree(tmp_path, "2:cpu:/\n1:memory:/\n0::/", files) == CgroupFacts()


def test_a_container_sees_its_own_group_at_the_mount(tmp_path: Path) -> None:
    """The path is the host's and is not there."""
    files = {"memory/memory.limit_in_bytes": "1000", "memory/memory.usage_in_bytes": "100"}
    facts = tree(tmp_path, "4:memory:/docker/0123\n3:pids:/docker/0123", files)
    assert (facts.memory_max, facts.memory_left) == (1000, 900)


def test_a_machine_without_control_groups(tmp_path: Path) -> None:
    """Has no limits of them."""
    assert read_cgroups(tmp_path / "proc", tmp_path / "sys") == CgroupFacts()
