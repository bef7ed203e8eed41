"""`tidewire dev` as a process: its own ports, its own folder, its output in a file."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import termios
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests.support.ports import free_ports
from tests.support.wait import eventually

START_TIMEOUT = 90.0
STOP_TIMEOUT = 20.0
NODE_NAMES = (
    b"TIDEWIRE_NODE_NAME=",
    b"TIDEWIRE_HISTORY_SERVICE_NODE_NAME=",
    b"TIDEWIRE_PRESENCE_SERVICE_NODE_NAME=",
    b"TIDEWIRE_RATE_LIMIT_SERVICE_NODE_NAME=",
)
CONFIG = """
dev:
  edges:
    - {{port: {0}, internal_port: {1}}}
    - {{port: {2}, internal_port: {3}}}
  nats_port: {4}
  history: {{port: {5}, health_port: {6}, internal_port: {7}}}
  presence: {{port: {8}, health_port: {9}, internal_port: {10}}}
  ratelimit: {{port: {11}, health_port: {12}, internal_port: {13}}}
client:
  token:
    hmac_secret_key_file: .tidewire/token.key
channel:
  namespaces:
    - {{name: chat, allow_subscribe_for_client: true, allow_publish_for_client: true}}
drain: {{delay: {delay}, window: 1s}}
"""


def listening(port: int) -> bool:
    """Say whether somebody listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Dev:
    """A folder with a tidewire.yaml for two edges, and the `tidewire dev` that runs in it."""

    def __init__(self, folder: Path, delay: str = "0s") -> None:
        """Write the configuration; `delay` is the edges' `drain.delay`."""
        self.folder = folder
        self.ports = free_ports(14)
        self.output = folder / "output.txt"
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "tidewire.yaml").write_text(CONFIG.format(*self.ports, delay=delay))

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running process."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def text(self) -> str:
        """What it printed."""
        return self.output.read_text() if self.output.exists() else ""

    @property
    def marker(self) -> Path:
        """Its dev.json."""
        return self.folder / ".tidewire" / "dev.json"

    def start(self, terminal: int | None = None, pipe: int | None = None) -> None:
        """Start it; `terminal` is the descriptor of a terminal to run at, as in a shell, instead of a file; or of a pipe to write to."""
        given = pipe if terminal is None else terminal
        out: int | IO[bytes] = self.output.open("wb") if given is None else given
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tidewire", "dev"],
            cwd=self.folder,
            env={name: value for name, value in os.environ.items() if not name.startswith("TIDEWIRE_")},
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=None if terminal is None else lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - the test has one thread
        )
        if not isinstance(out, int):
            out.close()

    async def ready(self) -> dict[str, Any]:
        """Wait until it is ready and return what dev.json says."""

        def there() -> bool:
            assert self.process.poll() is None, self.text
            return self.marker.exists()

        await eventually(there, START_TIMEOUT, "dev.json")
        content: dict[str, Any] = json.loads(self.marker.read_text())
        return content

    def children(self) -> dict[str, int]:
        """Return the process ids of its children by what they are: `edge-1`, `edge-2`, `history`, `nats`."""
        found = {}
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            try:
                environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
            names = [entry.partition(b"=")[2].decode() for entry in environ if entry.startswith(NODE_NAMES)]
            found[names[0] if names else "nats"] = int(pid)
        return found

    async def ended(self, timeout: float = STOP_TIMEOUT) -> int:
        """Wait for its end and return the exit code."""
        await eventually(lambda: self.process.poll() is not None, timeout, "the end of tidewire dev")
        return self.process.returncode

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
