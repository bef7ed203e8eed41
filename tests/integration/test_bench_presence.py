"""The bench of bench/presence: it runs, small, and says what it is there to say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(240)
def test_it_runs(tmp_path: Path) -> None:
    """All tables, with figures that can be."""
    file = tmp_path / "presence.md"
    command = [
        sys.executable,
        "-m",
        "bench.presence",
        "--quick",
        "--members",
        "100000",
        "--markdown",
        str(file),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in file.read_text().splitlines()
        if line.startswith("|")
    ]
    heads = [row[0] for row in rows]
    assert {"a replica alone", "rebuilt over NATS", "question, by gRPC", "one user"} <= set(heads)
    assert 50 < float(rows[2][1]) < 2_000  # bytes a member
