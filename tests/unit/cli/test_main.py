from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from tidewire.cli.main import COMMANDS, main


def test_help_lists_every_command_without_importing_any() -> None:
    """The table is enough, so the list comes at once even where a service cannot be imported."""
    script = (
        "import sys; from tidewire.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(m for m in sys.modules if m.startswith('tidewire.') and m != 'tidewire.cli.main'))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.rstrip().endswith("['tidewire.cli']")
    for name, entry in COMMANDS.items():
        assert f"  {name} " in shown
        assert entry.help in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_worth_reading(name: str) -> None:
    """What it does comes first, and there is an example or a way to end it."""
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Usage: main {name} ")
    assert len(result.output.splitlines()) > 5


def test_an_unknown_command_is_a_usage_error() -> None:
    """With the exit code that shells know for it."""
    result = CliRunner().invoke(main, ["egde"])
    assert result.exit_code == 2
    assert "No such command 'egde'" in result.output


def test_the_package_runs_as_a_module() -> None:
    """`python -m tidewire` is the console script."""
    shown = subprocess.run(
        [sys.executable, "-m", "tidewire", "version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith("tidewire ")


def test_a_token_starts_without_the_edge() -> None:
    """Nothing of NATS, of the metrics or of the event loop is imported to sign a token."""
    script = (
        "import sys; from tidewire.cli.main import main\n"
        "try: main(['token', '--user', 'a', '-c', '/no/such/file'])\n"
        "except SystemExit as end: assert end.code == 78\n"
        "heavy = {'nats', 'prometheus_client', 'uvloop', 'uvicorn', 'starlette', 'google.protobuf', 'websockets'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
