"""The two first programs of README.md on a mesh as `make run` starts it, with history in `chat`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.durable import KEPT, durable_mesh
from tests.support.edges import token
from tests.support.examples import EXAMPLES, dev_file
from tests.support.wait import PATIENCE

GREETINGS = {"hello.mjs": "dev: Hello from JavaScript", "hello.py": "dev: Hello from Python"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose dev.json names two edges."""
    path = tmp_path_factory.mktemp("hello")
    with durable_mesh(path, [{"name": "chat", **KEPT, "force_recovery": True}]) as mesh:
        edges = [mesh.edge(f"edge-{number}").base_url for number in (1, 2)]
        yield dev_file(path, edges=edges, token=token("dev"))


@pytest.mark.parametrize("name", GREETINGS)
def test_hello_is_heard(folder: Path, name: str) -> None:
    """Also where the reply to a publication overtakes the publication itself."""
    program = sys.executable if name.endswith(".py") else "node"
    command = (program, str(EXAMPLES / name))
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert GREETINGS[name] in done.stdout.splitlines()
