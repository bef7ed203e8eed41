from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tidewire.doctor.findings import Finding, Level
from tidewire.doctor.service_advice import advise_history, advise_presence, advise_ratelimit


@pytest.mark.parametrize(("advise", "name"), [(advise_history, "history"), (advise_presence, "presence")])
def test_a_service_answers_or_is_told(advise: Callable[[str | None], Iterator[Finding]], name: str) -> None:
    """Edges start without it; where they need none there is nothing to say."""
    assert list(advise(None)) == []
    (good,) = advise("")
    assert (good.level, good.found) == (Level.OK, f"answers at {name}.target")
    (away,) = advise("unavailable: Connection refused")
    assert (away.level, away.found) == (Level.WARN, "unavailable: Connection refused")
    assert away.do[0].startswith(f"tidewire {name}; {name}.target")


def test_each_replica_for_rate_limits_answers_or_is_told() -> None:
    """And one by itself is too few. Without rules nobody needs the service."""
    assert list(advise_ratelimit({})) == []
    good, away = advise_ratelimit({"ipv4:10.0.0.1:1": "", "dns:///b:1": "unavailable: Connection refused"})
    assert (good.level, away.level) == (Level.OK, Level.WARN)
    assert "dns:///b:1: unavailable" in away.found
    (_, alone) = advise_ratelimit({"ipv4:10.0.0.1:1": ""})
    assert alone.level is Level.WARN
