from __future__ import annotations

from msgspec.structs import replace

from tests.fakes.doctor import DAY, EDGE, FACTS, NATS, host
from tidewire.doctor.advice import advise
from tidewire.doctor.facts import FileFacts, FileKind, HostFacts
from tidewire.doctor.findings import Level, worst


def test_good_facts_are_all_good() -> None:
    """Every check is there, each once."""
    findings = advise(FACTS, 50_000)
    assert worst(findings) is Level.OK
    names = [finding.check for finding in findings]
    assert len(names) == len(set(names)) == 24


def test_each_part_is_heard() -> None:
    """Machine, network, edge and NATS: what is wrong in one of them is found, at the time of the facts."""
    expired = FileFacts(name="f", path="f", kind=FileKind.CERTIFICATE, certificate_end=FACTS.now - DAY)
    for facts in (
        replace(FACTS, host=host(hard_files=10)),
        replace(FACTS, host=host(somaxconn=1)),
        replace(FACTS, edge=replace(EDGE, files=(expired,))),
        replace(FACTS, nats=(replace(NATS, mapped=0),)),
    ):
        assert worst(advise(facts, 50_000)) in {Level.WARN, Level.FAIL}


def test_a_machine_that_tells_nothing_is_no_reason_to_fail() -> None:
    """Beside open files, which every system tells."""
    findings = advise(replace(FACTS, host=HostFacts(hard_files=1 << 20)), 50_000)
    assert worst(findings) is Level.SKIP
