from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from tidewire.cli.nats_config import command


def run(*arguments: str) -> Result:
    """Run `tidewire nats-config` with the given arguments."""
    return CliRunner().invoke(command, list(arguments))


def test_prints_a_configuration_and_nothing_else() -> None:
    """The output can be redirected into nats-server's configuration file."""
    result = run("--backend", "app:chat,live", "--rpc", "app", "--partitions", "4", "--listen", "[::1]:4333")
    assert result.exit_code == 0
    assert result.stdout.startswith("# nats-server configuration")
    assert result.stdout.endswith("}\n")
    assert "partition(4)" in result.stdout
    assert 'listen: "[::1]:4333"' in result.stdout
    assert "$NATS_PASSWORD_APP" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--backend", "app"], "'' is no namespace"),
        (["--backend", "app:tw.>"], "'tw.>' is no namespace"),
        (["--backend", "app:_tw"], "'_tw' is no namespace"),
        (["--backend", "a b:chat"], "'a b' is no user name"),
        (["--edge-user", '"}'], "is no user name"),
        (["--backend", "edge:chat"], "a name of its own"),
        (["--backend", "a-b:chat", "--backend", "A_b:live"], "a name of its own"),
        (["--rpc", "app"], "'app' is no --backend"),
        (["--backend", "app:chat", "--events", "edge"], "'edge' is no --backend"),
        (["--backend", "app:chat", "--orders", "edge"], "'edge' is no --backend"),
        (["--partitions", "0"], "0 is not in the range"),
        (["--listen", "4222"], "HOST:PORT"),
    ],
)
def test_refuses_what_would_give_other_rights(arguments: list[str], says: str) -> None:
    """An option that could widen a right, or mean nothing, is refused with a sentence."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stdout == ""
