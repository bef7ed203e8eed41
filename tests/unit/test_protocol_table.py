"""docs/protocol.md is data: what it calls supported is tested, and what the code knows stands in it."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import msgspec

from tests.support import wire_table
from tests.support.sdk_matrix import KINDS
from tests.support.sdk_scenarios import SCENARIOS
from tidewire.edge.wire.commands import Command
from tidewire.kernel import errors
from tidewire.options.channel_options import ChannelOptions

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| ([a-z_0-9]+\.[a-z_0-9]+) \| [^|]*\| (supported|not yet|never) \|", re.MULTILINE)


def rows() -> dict[str, str]:
    """Rows of the table with their status."""
    found = ROW.findall((ROOT / "docs/protocol.md").read_text())
    assert len(found) == len(dict(found)), "a row stands twice"
    return dict(found)


def named_by_tests() -> dict[str, list[str]]:
    """Row names in `@protocol(...)` decorators of test functions, with the tests that carry them."""
    found: dict[str, list[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith(
                "test_"
            ):
                continue
            for mark in node.decorator_list:
                if (
                    isinstance(mark, ast.Call)
                    and isinstance(mark.func, ast.Name)
                    and mark.func.id == "protocol"
                ):
                    for argument in mark.args:
                        assert isinstance(argument, ast.Constant), (
                            f"{path}: {node.name}: a row's name is a literal"
                        )
                        found.setdefault(str(argument.value), []).append(f"{path.name}::{node.name}")
    return found


def named_by_exchanges() -> set[str]:
    """Row names under `covers` in the exchanges of the wire table."""
    return {covered for row in wire_table.rows() if not row.not_yet for covered in row.covers}


def test_each_line_of_the_tables_is_a_row() -> None:
    """A status other than the two, or a row without a name, would be read by nobody."""
    lines = [line for line in (ROOT / "docs/protocol.md").read_text().splitlines() if line.startswith("| ")]
    body = [line for line in lines if not line.startswith("| row |")]
    assert len(body) == len(rows())


def test_each_supported_row_has_a_test() -> None:
    """A claim without a test does not stand."""
    tested = {*named_by_tests(), *named_by_exchanges()}
    assert [row for row, status in rows().items() if status == "supported" and row not in tested] == []


def test_each_row_that_a_test_names_exists() -> None:
    """A test of a rule that the table does not list."""
    assert sorted({*named_by_tests(), *named_by_exchanges()} - set(rows())) == []


def test_each_command_code_and_option_has_a_row() -> None:
    """What the code knows stands in the table."""
    known = {f"command.{name}" for name in Command.__struct_fields__[1:]}
    known |= {f"option.{field.name}" for field in msgspec.structs.fields(ChannelOptions)}
    for value in vars(errors).values():
        if isinstance(value, errors.ReplyError):
            known.add(f"error.{value.code}")
        if isinstance(value, errors.Disconnect):
            known.add(f"disconnect.{value.code}")
        if isinstance(value, errors.Unsubscribe):
            known.add(f"unsubscribe.{value.code}")
    assert sorted(known - set(rows())) == []


def pinned_sdks() -> dict[str, str]:
    """What the lock files pin, by the name of the SDK in the tests."""
    nodes = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    found = {}
    for folder, package in nodes.items():
        if folder.startswith("node_modules/centrifuge"):
            found["js", package["version"]] = f"JavaScript: centrifuge {package['version']}"
    for file in ("requirements-dev.txt", "tests/sdks/requirements-0.5.txt"):
        version = re.search(r"^centrifuge-python==(\S+)", (ROOT / file).read_text(), re.MULTILINE)
        assert version is not None
        found["python", version[1]] = f"Python: centrifuge-python {version[1]}"
    version = re.search(r"centrifugal/centrifuge-go v(\S+)", (ROOT / "tests/sdks/go/go.mod").read_text())
    assert version is not None
    found["go", version[1]] = f"Go: centrifuge-go {version[1]}"
    return {f"{language}-{number.rpartition('.')[0]}": text for (language, number), text in found.items()}


def test_the_sdk_rows_are_what_the_matrix_runs() -> None:
    """Each version as it is pinned, in both formats, with what it lacks."""
    table = (ROOT / "docs/protocol.md").read_text()
    shown = re.findall(r"^\| sdk\.(\w+) \| ([^|]+) \| supported \| ([^|]+) \|$", table, re.MULTILINE)
    pins, formats = pinned_sdks(), {"json": "JSON", "protobuf": "Protobuf"}
    expected = []
    for kind in KINDS:
        sdk, _, wire = kind.rpartition("-")
        lacking = " and ".join(f"`{row.name}`" for row in SCENARIOS if kind not in row.kinds)
        note = f"all scenarios but {lacking}, which the SDK lacks" if lacking else "all scenarios"
        expected.append((re.sub(r"\W", "_", kind), f"{pins[sdk]}, {formats[wire]}", note))
    assert shown == expected


def test_the_documentation_lists_the_scenarios() -> None:
    """In the order of the table."""
    listed = (ROOT / "docs/protocol.md").read_text().partition("The scenarios:")[2].partition("Besides")[0]
    assert re.findall(r"^- `(\w+)`", listed, re.MULTILINE) == [row.name for row in SCENARIOS]
