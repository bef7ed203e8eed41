from __future__ import annotations

from pathlib import Path

import pytest

from tidewire.cli import options
from tidewire.cli.options import ConfigFailure, config_failure, default_file, load_config


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs in a folder of its own, with no configuration around it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIDEWIRE_CONFIG", raising=False)


def test_the_default_file_is_the_one_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """$TIDEWIRE_CONFIG first, then tidewire.yaml, then none."""
    assert default_file() is None
    Path("tidewire.yaml").touch()
    assert default_file() == Path("tidewire.yaml")
    monkeypatch.setenv("TIDEWIRE_CONFIG", "other.yaml")
    assert default_file() == Path("other.yaml")


def test_a_good_configuration_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment alone, if need be."""
    monkeypatch.setenv("TIDEWIRE_CLIENT_TOKEN_HMAC_SECRET_KEY", "k" * 32)
    assert load_config(None).client.token.hmac_secret_key.reveal() == "k" * 32


def test_an_option_of_the_command_line_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said in the variables' names."""
    monkeypatch.setenv("TIDEWIRE_CLIENT_TOKEN_HMAC_SECRET_KEY", "k" * 32)
    monkeypatch.setenv("TIDEWIRE_WORKERS", "2")
    assert load_config(None).workers == 2
    assert load_config(None, {"TIDEWIRE_WORKERS": "3"}).workers == 3


def test_a_bad_one_fails_with_78_and_a_line_per_problem(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, without a prefix, ready for grep."""
    Path("bad.yaml").write_text("http: {port: x}\nclient: {pnig_interval: 1s}\n")
    with pytest.raises(ConfigFailure) as failure:
        load_config(Path("bad.yaml"))
    assert failure.value.exit_code == 78
    failure.value.show()
    output = capsys.readouterr()
    assert output.out == ""
    assert [line.partition(": ")[0] for line in output.err.splitlines()] == [
        "http.port",
        "client.pnig_interval",
        "client.token",
    ]


def test_commands_report_problems_of_their_own_the_same_way() -> None:
    """One more problem, same exit code."""
    failure = config_failure("a.b", "is no good")
    assert failure.exit_code == 78
    assert [str(problem) for problem in failure.problems] == ["a.b: is no good"]


def test_limits_that_the_workers_cannot_divide_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the configuration is told, `check-config` too; also where the machine says how many workers there are."""
    monkeypatch.setattr(options, "usable_cpus", lambda: 8)
    Path("some.yaml").write_text(f"client: {{connection_limit: 7, token: {{hmac_secret_key: {'k' * 32}}}}}\n")
    for workers in ("1", "7"):
        assert load_config(Path("some.yaml"), {"TIDEWIRE_WORKERS": workers}).client.connection_limit == 7
    with pytest.raises(ConfigFailure) as failure:
        load_config(Path("some.yaml"), {"TIDEWIRE_WORKERS": "0"})
    assert [str(problem) for problem in failure.value.problems] == [
        "client.connection_limit: is 7: expected at least 1 for each of 8 workers"
    ]
