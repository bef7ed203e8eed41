from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from tidewire.cli.check_config import command

GOOD = "client: {token: {hmac_secret_key: a-key-of-more-than-32-bytes-for-tests}}\n"


def run(*arguments: str) -> Result:
    """Run `tidewire check-config` with the given arguments."""
    return CliRunner().invoke(command, list(arguments))


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs in a folder of its own, with no configuration around it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIDEWIRE_CONFIG", raising=False)


def test_a_good_file_is_ok() -> None:
    """One line with the file's name, whether it is named or found."""
    Path("tidewire.yaml").write_text(GOOD)
    for arguments in ([], ["-c", "tidewire.yaml"], ["--config", "tidewire.yaml"]):
        result = run(*arguments)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "ok: tidewire.yaml\n", "")


def test_no_file_is_checked_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults and environment are a configuration."""
    monkeypatch.setenv("TIDEWIRE_CLIENT_ALLOW_ANONYMOUS_CONNECT_WITHOUT_TOKEN", "true")
    assert run().stdout == "ok: defaults and environment (no file)\n"


def test_every_problem_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """File and environment together, exit code 78, nothing on standard output."""
    Path("bad.yaml").write_text(GOOD + "http: {port: 70000}\nrpc: {timeout: 9s}\n")
    monkeypatch.setenv("TIDEWIRE_HTP_PORT", "1")
    result = run("-c", "bad.yaml")
    assert result.exit_code == 78
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "TIDEWIRE_HTP_PORT: unknown variable; did you mean TIDEWIRE_HTTP_PORT?",
        "http.port: expected int <= 65535",
        "rpc.timeout: expected less than 4s, got 9s",
    ]


def test_problems_of_all_processes_come_together_and_once_each() -> None:
    """Those of an edge first; what all of them read is told of by one."""
    services = (
        "history_service: {partitions: [99]}\npresence_service: {nam: x}\nrate_limit_service: {max_keys: 1}\n"
    )
    Path("bad.yaml").write_text(GOOD + "http: {port: 70000}\nlog: {format: x}\nhtp: {}\n" + services)
    lines = run("-c", "bad.yaml").stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "htp",
        "log.format",
        "http.port",
        "history_service.partitions[0]",
        "presence_service.nam",
        "rate_limit_service.max_keys",
    ]


@pytest.mark.parametrize("named_by", ["option", "environment"])
def test_a_named_file_that_is_missing_is_one_clear_line(
    named_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No traceback, no other problems after it."""
    if named_by == "environment":
        monkeypatch.setenv("TIDEWIRE_CONFIG", "gone.yaml")
    result = run(*(["-c", "gone.yaml"] if named_by == "option" else []))
    assert (result.exit_code, result.stderr) == (78, "no such configuration file: gone.yaml\n")


def test_broken_yaml_is_one_line_with_its_number() -> None:
    """File, line, reason."""
    Path("tidewire.yaml").write_text("http:\n  port: 1\n  port: 2\n")
    result = run()
    assert (result.exit_code, result.stderr) == (78, "tidewire.yaml:3: the key 'port' is given twice\n")


def test_the_schema_is_a_json_schema() -> None:
    """It needs no configuration."""
    result = run("--schema", "-c", "gone.yaml")
    assert result.exit_code == 0
    Draft202012Validator.check_schema(json.loads(result.stdout))


def test_the_reference_needs_no_configuration() -> None:
    """And is Markdown."""
    result = run("--reference", "-c", "gone.yaml")
    assert result.exit_code == 0
    assert result.stdout.startswith("# Configuration\n")
    assert result.stdout.endswith(".\n")


@pytest.mark.parametrize(
    "flags", [("--schema", "--reference"), ("--schema", "--diff", "x"), ("--reference", "--diff", "x")]
)
def test_two_outputs_together_make_no_sense(flags: tuple[str, ...]) -> None:
    """A usage error, not a mixture."""
    assert run(*flags).exit_code == 2


@pytest.mark.parametrize(
    ("change", "code", "lines"),
    [
        ("", 0, ["no change"]),
        ("send: {enabled: true}\n", 0, ["send.enabled: false -> true"]),
        (
            "send: {enabled: true}\nhttp: {port: 1}\n",
            3,
            ["http.port: 8000 -> 1 (needs a restart)", "send.enabled: false -> true"],
        ),
    ],
)
def test_diff_tells_what_a_reload_would_do(change: str, code: int, lines: list[str]) -> None:
    """For people by lines, for scripts by the exit code."""
    Path("running.yaml").write_text(GOOD)
    Path("new.yaml").write_text(GOOD + change)
    result = run("-c", "new.yaml", "--diff", "running.yaml")
    assert (result.exit_code, result.stdout.splitlines(), result.stderr) == (code, lines, "")


def test_diff_names_the_file_that_is_wrong() -> None:
    """The new one as always, the other one with its name."""
    Path("good.yaml").write_text(GOOD)
    Path("bad.yaml").write_text(GOOD + "http: {port: 70000}\n")
    for new, running, line in (
        ("bad.yaml", "good.yaml", "http.port: expected int <= 65535\n"),
        ("good.yaml", "bad.yaml", "bad.yaml: http.port: expected int <= 65535\n"),
    ):
        result = run("-c", new, "--diff", running)
        assert (result.exit_code, result.stdout, result.stderr) == (78, "", line)
