"""`make flaky`: it counts how often each test fails, and nothing that it has started stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.support.wait import eventually

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "flaky.sh"


async def flaky(folder: Path, **variables: str) -> tuple[int, str, str]:
    """Run it; return exit code, output and errors, once all that ran in its session is gone."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTEST_") and name not in ("TESTS", "RUNS", "HOGS")
    }
    environment |= {"OUT": str(folder / "out"), **variables}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        SCRIPT, env=environment, stdout=pipe, stderr=pipe, start_new_session=True
    )
    output, errors = await process.communicate()
    try:
        await eventually(lambda: in_session(process.pid) == [], message="the end of the busy processes")
    finally:
        for left in in_session(process.pid):
            os.kill(left, signal.SIGKILL)
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


def in_session(leader: int) -> list[int]:
    """The processes of a session; its number is the sixth field, behind the name in brackets."""
    found: list[int] = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session, *_ = file.read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(session) == leader and state != "Z":
            found.append(int(file.parent.name))
    return found


async def test_it_counts_how_often_each_test_fails(tmp_path: Path) -> None:
    """Beside a busy process; one that fails always, one that fails at first, and one that never does."""
    file = tmp_path / "test_luck.py"
    file.write_text(
        "import pathlib\n"
        "def test_good(): pass\n"
        "def test_bad(): assert False, 'as ever - as said'\n"
        f"first = pathlib.Path({str(tmp_path / 'first')!r})\n"
        "def test_at_first():\n    seen = first.exists()\n    first.touch()\n    assert seen\n"
    )
    code, output, errors = await flaky(tmp_path, TESTS=str(file), RUNS="2", HOGS="1")
    assert (code, errors) == (1, "")
    assert [line.split()[0] for line in output.splitlines() if "test_luck.py::" in line] == ["2", "1"]
    assert [line.rpartition("::")[2] for line in output.splitlines()[-2:]] == ["test_bad", "test_at_first"]
    code, output, _ = await flaky(tmp_path, TESTS=f"{file}::test_good", RUNS="1", HOGS="2")
    assert (code, output.splitlines()[-1]) == (0, "no test failed in 1 runs beside 2 busy processes")


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({}, "name the tests"),
        ({"TESTS": "x", "RUNS": "0"}, "RUNS is 0: expected a number of at least 1"),
        ({"TESTS": "x", "HOGS": "-1"}, "HOGS is -1: expected a number"),
        ({"TESTS": "tests/none.py", "RUNS": "1", "HOGS": "1"}, "pytest ended with 4"),
    ],
    ids=["no tests", "no runs", "odd hogs", "no such test"],
)
async def test_what_it_cannot_do_is_one_sentence(
    tmp_path: Path, variables: dict[str, str], problem: str
) -> None:
    """And nothing is busy behind it."""
    code, _, errors = await flaky(tmp_path, **variables)
    assert code == 1
    assert errors.startswith(f"tidewire: {problem}")
    assert errors.count("\n") == 1
