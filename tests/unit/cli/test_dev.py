from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.wait import PATIENCE

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import asyncio, pathlib, sys
from tests.support.scripted_app import Last
from tidewire.cli import dev

class Mesh:
    async def run(self, stop, ready):
        print("ended", flush=True)

last = Last()
asyncio.run(dev._run(Mesh(), None, pathlib.Path(sys.argv[1]), "", None))
"""


def test_signals_after_the_end_change_nothing(tmp_path: Path) -> None:
    """As `lifecycle.run`'s: whoever waits for the mesh is not told that it was killed."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'services'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (ended.returncode, ended.stdout) == (0, "ended\n"), ended.stderr
