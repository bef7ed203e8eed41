from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tidewire.platform.open_files import RESERVE, connections_within

SCRIPT = """
import json, resource
from tidewire.platform.open_files import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))
print(json.dumps([raise_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


@pytest.mark.parametrize(
    ("files", "wanted", "fits"),
    [(20_000, 15_000, 15_000), (1_024, 15_000, 756), (20_000, 100, 100), (10, 15_000, 1), (RESERVE, 5, 1)],
)
def test_connections_leave_files_for_everything_else(files: int, wanted: int, fits: int) -> None:
    """A tenth for handshakes, and a reserve for NATS, listeners and probes."""
    assert connections_within(files, wanted) == fits


def test_soft_limit_is_raised_to_the_hard_one() -> None:
    """In a process of its own, since a limit cannot be taken back."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [300, [300, 300]]
