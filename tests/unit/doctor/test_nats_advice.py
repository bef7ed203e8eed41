from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.fakes.doctor import DAY, EDGE, NATS, NOW, named
from tidewire.doctor.findings import Finding, Level
from tidewire.doctor.nats_advice import advise_nats
from tidewire.doctor.rights import Right

OK, SKIP, WARN, FAIL = Level.OK, Level.SKIP, Level.WARN, Level.FAIL
EVENTS = Right("publish", "tw.ev.>", "events for backends")
RESCUE = Right("subscribe", "tw.pub.> tw-map", "what a server without the mapping let through")


def advised(check: str, **changes: Any) -> Finding:
    """The finding on a server that is good but for some facts."""
    return named(list(advise_nats((replace(NATS, **changes),), EDGE, NOW)), check)


def test_a_good_server_has_nothing_to_be_mended() -> None:
    """And each finding names it."""
    findings = list(advise_nats((NATS,), EDGE, NOW))
    assert all(finding.level is OK and NATS.server in finding.found for finding in findings)
    assert "2.15.1" in named(findings, "NATS").found


@pytest.mark.parametrize(
    ("check", "changes", "level"),
    [
        ("max_payload", {"max_payload": 135_168}, OK),
        ("max_payload", {"max_payload": 135_167}, FAIL),
        ("mapping", {"mapped": 0}, FAIL),
        ("mapping", {"mapped": 8}, FAIL),
        ("mapping", {"mapped": None}, SKIP),
        ("rights of edge", {"missing": (EVENTS,)}, FAIL),
        ("rights of edge", {"untried": (EVENTS,)}, SKIP),
        ("right to forge", {"may_forge": True}, WARN),
        ("right to forge", {"may_forge": None}, SKIP),
        ("clock of NATS", {"skew": 1.0, "skew_error": 0.0}, OK),
        ("clock of NATS", {"skew": -1.2, "skew_error": 0.3}, OK),
        ("clock of NATS", {"skew": -1.2, "skew_error": 0.1}, WARN),
        ("clock of NATS", {"skew": None}, SKIP),
        ("NATS certificate", {"certificate_end": NOW + 14 * DAY}, OK),
        ("NATS certificate", {"certificate_end": NOW + 13.9 * DAY}, WARN),
        ("NATS certificate", {"certificate_end": NOW}, FAIL),
    ],
)
def test_each_check_at_its_bound(check: str, changes: dict[str, Any], level: Level) -> None:
    """Whoever is told that something is wrong is told why, and what to do."""
    finding = advised(check, **changes)
    assert finding.level is level
    assert bool(finding.why and finding.do) == (level in {WARN, FAIL})


def test_missing_rights_are_named_each_with_its_line() -> None:
    """As nats-server writes them, with what they are for."""
    finding = advised("rights of edge", missing=(EVENTS, RESCUE), untried=(EVENTS,))
    assert "missing publish tw.ev.> (events for backends); subscribe tw.pub.> tw-map (" in finding.found
    assert finding.found.endswith("; not tried: publish tw.ev.>")
    assert finding.do[:2] == (
        "nats-server: permissions publish allow tw.ev.>",
        "nats-server: permissions subscribe allow tw.pub.> tw-map",
    )


def test_another_number_of_partitions_is_named() -> None:
    """Which of the two is right only the operator knows."""
    finding = advised("mapping", mapped=8)
    assert "tw.pub.> to 8 partitions, and nats.partitions is 16" in finding.found
    assert finding.do[0].startswith("nats.partitions: 8,")
    assert finding.do[1].endswith("tidewire nats-config --partitions 16")


def test_a_missing_mapping_is_written_out() -> None:
    """Ready to be copied."""
    assert 'mappings { "tw.pub.>": "tw.in.{{partition(16)}}.>" }' in advised("mapping", mapped=0).do[0]


def test_one_server_of_several_away_is_a_warning_and_all_away_a_failure() -> None:
    """An edge needs one; of a server that is away nothing else is said."""
    away = replace(NATS, server="nats://n2:4222", problem="nothing answers at nats://n2:4222")
    findings = list(advise_nats((NATS, away), EDGE, NOW))
    assert findings[-1].level is WARN
    assert [finding.level for finding in advise_nats((away, away), EDGE, NOW)] == [FAIL, FAIL]
    assert findings[-1].found == "nothing answers at nats://n2:4222"
