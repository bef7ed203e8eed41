"""The guard in tests/conftest.py: what a failed test leaves open is reported as its own mistake."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
SUITE = """
import asyncio, gc
import pytest

class Holder:
    pass

@pytest.fixture
async def port():
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]

async def test_fails(port):
    held = Holder()
    held.itself = held  # as clients and their callbacks hold each other
    held.client = await asyncio.open_connection("127.0.0.1", port)
    assert False

async def test_neighbour():
    gc.collect()
"""

SETTINGS = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""


def test_leak_of_a_failed_test_does_not_fail_its_neighbour(tmp_path: Path) -> None:
    """The first test fails twice, the second one passes."""
    shutil.copy(TESTS / "conftest.py", tmp_path)
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "PASSED test_suite.py::test_neighbour" in done.stdout
    assert "FAILED test_suite.py::test_fails" in done.stdout
    assert "ERROR test_suite.py::test_fails" in done.stdout
