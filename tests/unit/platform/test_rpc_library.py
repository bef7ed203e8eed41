from __future__ import annotations

import subprocess
import sys


def test_processes_without_grpc_do_not_pay_for_it() -> None:
    """An edge, its workers and the other commands: a quarter of a second and 21 MiB."""
    code = "import sys, tidewire.edge.app, tidewire.cli.main, tidewire.cli.edge_workers; print('grpc' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == "False\n"
