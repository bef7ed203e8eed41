from __future__ import annotations

from typing import Any

import pytest

from tests.fuzz import __main__ as command
from tests.fuzz import corpus, session
from tests.fuzz.corpus import FOLDER, NAMES, kept, target
from tests.fuzz.cuts import cut
from tests.fuzz.session import Figures, Finding


@pytest.mark.parametrize("name", NAMES)
def test_each_kept_input_is_good(name: str) -> None:
    """Without the fuzzer: what it once found worth keeping, and the seeds, of which some showed mistakes."""
    fuzzed = target(name)
    assert fuzzed.SEEDS
    assert kept(name)
    for data in [*fuzzed.SEEDS, *kept(name)]:
        assert len(data) <= fuzzed.LONGEST
        fuzzed.check(data)


def test_corpus_has_no_folder_without_a_target() -> None:
    """And is small: it is part of every clone."""
    assert sorted(path.name for path in FOLDER.iterdir()) == NAMES
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) < 512 * 1024


@pytest.mark.parametrize("pattern", [0, 1, 31, 32, 255])
def test_cuts_lose_nothing(pattern: int) -> None:
    """Whatever the pattern."""
    data = bytes(range(256))
    pieces = list(cut(data, pattern))
    assert b"".join(pieces) == data
    assert len(pieces) == (10 if pattern else 1)


LOG = """#9000\tDONE   cov: 29 ft: 57 corp: 13/208b lim: 139 exec/s: 10000 rss: 45Mb
Done 9000 runs in 2 second(s)
"""
TRACE = " === Uncaught Python exception: ===\nAssertionError\nartifact_prefix='x/'; Test unit written to x/crash-1"


@pytest.mark.parametrize(
    ("exit_code", "log", "found"),
    [
        (0, LOG, Figures(9000, 2, 29, 57, 13, "208b")),
        (77, LOG, Finding(LOG)),
        (77, f"#1\tINITED\n\n{TRACE}\nBase64: AA==\n", Finding(TRACE)),
        (0, "", Finding("")),
    ],
)
def test_what_a_run_says_is_read(
    exit_code: int, log: str, found: object, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends without figures is a finding, whatever its exit code."""

    def engine(path: Any, *_: object) -> int:
        path.write_text(log)
        return exit_code

    monkeypatch.setattr(session, "_engine", engine)
    assert session.fuzz("orders", 9000, 1, tmp_path) == found
    assert len(list((tmp_path / "orders" / "inputs").iterdir())) == len(set(corpus.target("orders").SEEDS))


@pytest.mark.parametrize(
    ("found", "exit_code", "said"),
    [
        (Figures(9000, 2, 29, 57, 13, "208b"), 0, "orders: 9,000 inputs in 2 s (4,500/s), 29 branches"),
        (Finding(TRACE), 1, "orders: FOUND\n === Uncaught"),
    ],
)
def test_command_says_what_was_found(
    found: object,
    exit_code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And its exit code tells."""
    monkeypatch.setattr(command, "fuzz", lambda *_: found)
    monkeypatch.setattr("sys.argv", ["fuzz", "orders", "--runs", "9e3"])
    assert command.main() == exit_code
    assert said in capsys.readouterr().out


def test_command_names_the_targets_when_it_does_not_know_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing runs then."""
    monkeypatch.setattr("sys.argv", ["fuzz", "order"])
    with pytest.raises(SystemExit):
        command.main()
    assert f"no such target: order (there are {', '.join(NAMES)})" in capsys.readouterr().err
