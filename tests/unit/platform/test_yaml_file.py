from __future__ import annotations

from pathlib import Path

import pytest

from tidewire.kernel.config import ConfigError
from tidewire.platform.yaml_file import read_yaml


def problem(file: Path) -> str:
    """The one line that reading `file` gives."""
    with pytest.raises(ConfigError) as error:
        read_yaml(file)
    [found] = error.value.problems
    return str(found)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test writes its YAML."""
    return tmp_path / "some.yaml"


def test_a_mapping_is_read(file: Path) -> None:
    """Plain YAML with comments, anchors and merges."""
    file.write_text("# comment\nbase: &base {a: 1, b: [x, y]}\nother: {<<: *base, a: 2}\n")
    assert read_yaml(file) == {"base": {"a": 1, "b": ["x", "y"]}, "other": {"a": 2, "b": ["x", "y"]}}


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_file_is_an_empty_mapping(file: Path, text: str) -> None:
    """Nothing is set in it, which is no problem."""
    file.write_text(text)
    assert read_yaml(file) == {}


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("a: 1\nb: 2\na: 3\n", ":3: ", "the key 'a' is given twice"),
        ("x:\n  - y: {p: 1, p: 2}\n", ":2: ", "the key 'p' is given twice"),
        ("a: 1\n  b: 2\n", ":2: ", "mapping values are not allowed here"),
        ("a: [1, 2\nb: 3\n", ":2: ", "expected ',' or ']'"),
        ("a:\n\tb: 1\n", ":2: ", "cannot start any token"),
        ("a: *nowhere\n", ":1: ", "undefined alias"),
        ("a: !!python/object/apply:os.getcwd []\n", ":1: ", "could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", ":2: ", "but found another document"),
        ("- a\n- b\n", ":1: ", "expected groups of settings"),
        ("just text\n", ":1: ", "expected groups of settings"),
        ("a: \x01\n", ": ", "not valid YAML"),
        ("a: 2026-13-01\n", ": ", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_line_number(file: Path, text: str, where: str, what: str) -> None:
    """File, line and reason."""
    file.write_text(text)
    line = problem(file)
    assert line.startswith(f"{file}{where}")
    assert what in line
    assert "\n" not in line


@pytest.mark.parametrize("mark", ["*", "!", "!!", "%", "@", "`"])
def test_value_that_yaml_takes_for_something_else_is_not_shown(file: Path, mark: str) -> None:
    """It may be a password; its line is enough to find it."""
    file.write_text(f"a: {mark}hunter2\n")
    line = problem(file)
    assert line.startswith(f"{file}:1: ")
    assert "hunter2" not in line


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The path is what helps."""
    assert problem(tmp_path / "no.yaml") == f"no such configuration file: {tmp_path / 'no.yaml'}"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """The reason is the system's."""
    assert problem(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


def test_only_utf8_is_text(file: Path) -> None:
    """Latin-1 is not guessed."""
    file.write_bytes(b"a: caf\xe9\n")
    assert problem(file) == f"{file}: is not UTF-8 text (byte 6)"
