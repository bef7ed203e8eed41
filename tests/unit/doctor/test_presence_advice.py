from __future__ import annotations

from tidewire.doctor.findings import Level
from tidewire.doctor.presence_advice import advise_presence


def test_the_presence_service_answers_or_is_told() -> None:
    """Where edges announce nobody there is nothing to say."""
    assert list(advise_presence(None)) == []
    (good,) = advise_presence("")
    assert good.level is Level.OK
    (bad,) = advise_presence("unavailable: nobody answers")
    assert bad.level is Level.WARN
    assert "nobody answers" in str(bad)
    assert "tidewire presence" in str(bad)
