"""The versions of what was measured, for the report."""

from __future__ import annotations

import json
import platform
import shutil
import ssl
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import tidewire
from bench.load.servers import PEERS, PEERS_PYTHON
from tests.support.nats_server import program

_PYTHON_SOCKETIO = "import importlib.metadata as m; print(m.version('python-socketio'))"


def _said(command: Sequence[str | Path]) -> str:
    """Return what a program prints, "unknown" when that fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _node_package(name: str) -> str:
    found = json.loads((PEERS / "node_modules" / name / "package.json").read_text())
    return f"{found['version']}"


def versions(*, peers: bool) -> dict[str, str]:
    """Return the versions, with `peers` of the other projects' servers, too."""
    found = {
        "tidewire": f"{tidewire.__version__} (commit {_commit()})",
        "Python": platform.python_version(),
        "uvloop": version("uvloop"),
        "nats-server": _said([program(), "--version"]).removeprefix("nats-server: v"),
        "OpenSSL": ssl.OPENSSL_VERSION.split()[1],
        "cc": _said([shutil.which("cc") or "gcc", "-dumpfullversion"]),
    }
    if peers:
        found |= {
            "Node": _said(["node", "--version"]).removeprefix("v"),
            "Socket.IO": _node_package("socket.io"),
            "its Redis adapter": _node_package("@socket.io/redis-adapter"),
            "python-socketio": _said([PEERS_PYTHON, "-c", _PYTHON_SOCKETIO]),
            "Redis": _said(["redis-server", "--version"]).partition("v=")[2].partition(" ")[0],
        }
    return found


def _commit() -> str:
    return _said(["git", "describe", "--always", "--dirty", "--exclude", "*"])
