from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tidewire.cli.main import main
from tidewire.platform import lifecycle


@pytest.mark.parametrize("service", ["history", "presence", "ratelimit"])
def test_a_configuration_error_ends_a_service_before_its_parts_are_loaded(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 78, and a line for each problem; a SIGHUP cannot end it any more when the file is read."""
    held: list[bool] = []
    monkeypatch.setattr(lifecycle, "hold_reloads", lambda: held.append(True))
    monkeypatch.setitem(sys.modules, f"tidewire.{service}.app", None)
    file = tmp_path / "bad.yaml"
    file.write_text("log: {level: loud}\n")
    result = CliRunner().invoke(main, [service, "-c", str(file)])
    assert (result.exit_code, held) == (78, [True])
    assert result.stderr.startswith("log.level: ")
