"""What examples/history.mjs does on a mesh; docs/durability.md shows it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.durable import KEPT, durable_mesh
from tests.support.edges import token
from tests.support.examples import EXAMPLES, dev_file
from tests.support.wait import PATIENCE


def test_what_was_missed_comes_back_and_what_was_said_is_read(tmp_path: Path) -> None:
    """In the order in which it was published, and a repeated publication once."""
    chat = {"name": "chat", **KEPT, "force_recovery": True, "allow_history_for_subscriber": True}
    with durable_mesh(tmp_path, [chat]) as mesh:
        edges = [mesh.edge(f"edge-{number}", {"rpc": {"enabled": True}}) for number in (1, 2)]
        dev_file(tmp_path, edges=[edge.base_url for edge in edges], token=token("dev"))
        command = ("node", str(EXAMPLES / "history.mjs"))
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")
    shown = done.stdout.splitlines()
    assert [*shown[:6], *sorted(shown[6:], reverse=True)] == [  # a reply and its push overtake each other
        "nothing is missing",
        "heard #1: missed 1",
        "heard #2: missed 2",
        "heard #3: missed 3",
        "newest: missed 3, missed 2",
        "since #2: missed 3",
        "heard #4: once",
        "first: {} again: { duplicate: true }",
    ]
