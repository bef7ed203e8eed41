from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from tests.fakes.doctor import FACTS, NATS, host
from tidewire.cli.doctor import command
from tidewire.doctor import examination
from tidewire.doctor.facts import Facts
from tidewire.edge.config import EdgeConfig

GOOD = "client: {token: {hmac_secret_key: a-key-of-more-than-32-bytes-for-tests}, connection_limit: 1000}\n"


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs in a folder of its own, with a good configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIDEWIRE_CONFIG", raising=False)
    Path("tidewire.yaml").write_text(GOOD)


def run(monkeypatch: pytest.MonkeyPatch, facts: Facts, *arguments: str) -> Result:
    """Run `tidewire doctor` on a machine with these facts."""

    async def examine(config: EdgeConfig, file: Path | None, environ: Mapping[str, str]) -> Facts:
        assert config.client.connection_limit == 1000
        assert file == Path("tidewire.yaml")
        assert "PATH" in environ
        return facts

    monkeypatch.setattr(examination, "examine", examine)
    return CliRunner().invoke(command, list(arguments))


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (FACTS, 0),
        (replace(FACTS, nats=(replace(NATS, skew=None),)), 0),
        (replace(FACTS, host=host(clock_synchronised=False)), 3),
        (replace(FACTS, host=host(clock_synchronised=False, hard_files=100)), 69),
    ],
)
@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch, facts: Facts, code: int, arguments: tuple[str, ...]
) -> None:
    """By the gravest finding; what could not be checked changes nothing."""
    assert run(monkeypatch, facts, *arguments).exit_code == code


def test_each_check_is_a_line_with_what_to_do_below(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line counts."""
    result = run(monkeypatch, replace(FACTS, host=host(somaxconn=128)))
    lines = result.output.splitlines()
    at = lines.index("warn  accept backlog        net.core.somaxconn is 128")
    assert lines[at + 1].startswith("        why: the edge asks for 4096 connections")
    assert lines[at + 2] == "        do:  sysctl -w net.core.somaxconn=4096"
    assert lines[at + 4].startswith("ok    SYN backlog ")
    assert lines[-1] == "23 ok, 0 skip, 1 warn, 0 fail, for 1000 connections of one edge"


def test_connections_are_the_configured_ones_or_those_of_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """And everything is judged for them."""
    facts = replace(FACTS, host=host(hard_files=20_000))
    assert (
        "ok    open files            soft 1024, hard 20000; 1000 connections need 1292"
        in run(monkeypatch, facts).output.splitlines()
    )
    result = run(monkeypatch, facts, "--connections", "50000")
    assert "        do:  systemd: LimitNOFILE=55193 in [Service]" in result.output.splitlines()
    assert result.output.endswith("for 50000 connections of one edge\n")


def test_json_is_for_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """One object, every finding with the same members."""
    result = run(monkeypatch, replace(FACTS, host=host(somaxconn=128)), "--json", "--connections", "7")
    answer = json.loads(result.output)
    assert (answer["connections"], answer["worst"], len(answer["findings"])) == (7, "warn", 24)
    assert all(set(one) == {"check", "level", "found", "why", "do"} for one in answer["findings"])
    (backlog,) = (one for one in answer["findings"] if one["check"] == "accept backlog")
    assert backlog["do"][0] == "sysctl -w net.core.somaxconn=4096"


def test_a_configuration_error_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of every command: one line a problem, and nothing is examined."""
    Path("tidewire.yaml").write_text(GOOD + "http: {port: 70000}\n")
    result = run(monkeypatch, FACTS)
    assert (result.exit_code, result.stdout) == (78, "")
    assert result.stderr == "http.port: expected int <= 65535\n"


@pytest.mark.parametrize("number", ["0", "-1", "many", "10000001"])
def test_a_number_of_connections_that_is_none(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    """A usage error."""
    assert run(monkeypatch, FACTS, "--connections", number).exit_code == 2
