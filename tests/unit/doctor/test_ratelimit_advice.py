from __future__ import annotations

from tidewire.doctor.findings import Level
from tidewire.doctor.ratelimit_advice import advise_ratelimit


def test_without_rules_nothing_is_said() -> None:
    """Nobody needs the service then."""
    assert list(advise_ratelimit({})) == []


def test_each_replica_answers_or_is_told() -> None:
    """And one by itself is too few."""
    good, away = advise_ratelimit({"ipv4:10.0.0.1:1": "", "dns:///b:1": "unavailable: Connection refused"})
    assert (good.level, away.level) == (Level.OK, Level.WARN)
    assert "dns:///b:1: unavailable" in away.found
    (_, alone) = advise_ratelimit({"ipv4:10.0.0.1:1": ""})
    assert alone.level is Level.WARN
