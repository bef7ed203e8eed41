from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.doctor import GIB, host, named
from tidewire.doctor.facts import CgroupFacts
from tidewire.doctor.findings import Finding, Level
from tidewire.doctor.host_advice import BASE_MEMORY, BURST, EDGE_BYTES, KERNEL_BYTES, advise_host
from tidewire.platform.open_files import files_for

NEEDED = BASE_MEMORY + 50_000 * (EDGE_BYTES + KERNEL_BYTES)
OK, SKIP, WARN, FAIL = Level.OK, Level.SKIP, Level.WARN, Level.FAIL


def advised(check: str, connections: int = 50_000, **changes: Any) -> Finding:
    """The finding on a machine that is good but for some facts."""
    return named(list(advise_host(host(**changes), connections)), check)


def test_a_good_machine_has_nothing_to_be_mended() -> None:
    """And says of each check what was found."""
    findings = list(advise_host(host(), 50_000))
    assert all(finding.level is OK and finding.found and not finding.do for finding in findings)


@pytest.mark.parametrize(
    ("check", "changes", "level"),
    [
        ("open files", {"hard_files": files_for(50_000)}, OK),
        ("open files", {"hard_files": files_for(50_000) - 1}, FAIL),
        ("files of the machine", {"files_open": 0, "files_max": files_for(50_000)}, OK),
        ("files of the machine", {"files_open": 1, "files_max": files_for(50_000)}, FAIL),
        ("files of the machine", {"files_open": None}, SKIP),
        ("memory", {"memory_available": int(NEEDED * BURST), "cgroup": CgroupFacts()}, OK),
        ("memory", {"memory_available": int(NEEDED * BURST) - 1, "cgroup": CgroupFacts()}, WARN),
        ("memory", {"memory_available": NEEDED, "cgroup": CgroupFacts()}, WARN),
        ("memory", {"memory_available": NEEDED - 1, "cgroup": CgroupFacts()}, FAIL),
        ("memory", {"cgroup": CgroupFacts(memory_max=GIB, memory_left=NEEDED - 1)}, FAIL),
        ("memory", {"memory_available": None, "cgroup": CgroupFacts()}, SKIP),
        ("CPU", {"cpus": 1, "cgroup": CgroupFacts()}, OK),
        ("CPU", {"cgroup": CgroupFacts(cpus=1.0)}, OK),
        ("CPU", {"cgroup": CgroupFacts(cpus=0.5)}, WARN),
        ("threads", {"cgroup": CgroupFacts(pids_max=100, pids_left=64)}, OK),
        ("threads", {"cgroup": CgroupFacts(pids_max=100, pids_left=63)}, WARN),
        ("threads", {"cgroup": CgroupFacts()}, OK),
        ("clock", {"clock_synchronised": False}, WARN),
        ("clock", {"clock_synchronised": None}, SKIP),
    ],
)
def test_each_check_at_its_bound(check: str, changes: dict[str, Any], level: Level) -> None:
    """Just enough is enough; and whoever is told that it is not is told why, and what to do."""
    finding = advised(check, **changes)
    assert finding.level is level
    assert bool(finding.why and finding.do) == (level in {WARN, FAIL})


def test_open_files_are_raised_in_every_place_that_limits_them() -> None:
    """The kernel's own bound first, where it is too low for the command that follows."""
    finding = advised("open files", hard_files=20_000)
    assert finding.do[0].startswith("ulimit -n 55193 ")
    assert "systemd: LimitNOFILE=55193 in [Service]" in finding.do
    assert "Kubernetes" in finding.do[2]
    assert advised("open files", hard_files=20_000, nr_open=30_000).do[0] == "sysctl -w fs.nr_open=55193"


def test_file_max_leaves_room_for_the_others() -> None:
    """A quarter more than is needed."""
    finding = advised("files of the machine", files_max=10_000)
    assert finding.do == ("sysctl -w fs.file-max=131072",)


def test_memory_says_how_much_is_enough_and_how_many_fit() -> None:
    """The advice, followed, is good advice."""
    left = 300 << 20
    finding = advised("memory", cgroup=CgroupFacts(memory_max=left, memory_left=left))
    assert "of the control group's 300 MiB" in finding.found
    fitting = int(finding.do[2].rpartition(" ")[2])
    again = advised("memory", fitting, cgroup=CgroupFacts(memory_max=left, memory_left=left))
    assert again.level is OK
    wanted = int(finding.do[0].split(" of ")[1].split("Mi")[0]) << 20
    assert advised("memory", cgroup=CgroupFacts(memory_max=wanted, memory_left=wanted)).level is OK


def test_cpu_says_how_many_edges_fit() -> None:
    """By processors and by the group's share of them."""
    assert advised("CPU", cgroup=CgroupFacts()).found.endswith("up to 4 here")
    assert advised("CPU", cgroup=CgroupFacts(cpus=2.5)).found.endswith("up to 2 here")


def test_tls_takes_memory_of_its_own() -> None:
    """More than everything else of an idle connection together."""
    needed = BASE_MEMORY + 50_000 * (EDGE_BYTES + KERNEL_BYTES)
    plenty = host(memory_available=int(needed * BURST) + 1, cgroup=CgroupFacts())
    plain, tls = (named(list(advise_host(plenty, 50_000, tls=each)), "memory") for each in (False, True))
    assert (plain.level, tls.level) == (Level.OK, Level.FAIL)
