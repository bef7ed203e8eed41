from __future__ import annotations

from click.testing import CliRunner

from tidewire import __version__
from tidewire.cli.version import command


def test_prints_the_version() -> None:
    """One line, the version second."""
    result = CliRunner().invoke(command)
    assert result.exit_code == 0
    assert result.stdout.split()[:2] == ["tidewire", __version__]
    assert result.stdout.count("\n") == 1
