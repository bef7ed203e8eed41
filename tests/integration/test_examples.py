"""The examples where no mesh runs: one line that says what to do. What they do on a mesh is in tests/e2e."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.*"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example_without_a_mesh_says_what_to_start(example: Path, tmp_path: Path) -> None:
    """No stack, and a failure for whoever runs it in a script."""
    program = sys.executable if example.suffix == ".py" else "node"
    done = subprocess.run(
        [program, example], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "start `make run` first" in done.stderr
