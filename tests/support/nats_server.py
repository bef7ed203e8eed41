"""A real nats-server for one test: on a free port, with its own folder, and with everything that can befall it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.ports import free_ports

READY_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0
HOST = "127.0.0.1"


def program() -> str:
    """Return the nats-server to run: the one beside this Python, else the one on the PATH."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise RuntimeError("nats-server is missing: run `make setup`")
    return found


class NatsServer:
    """One nats-server process. The port is its own from the first start on, and stays the same at every restart.

    All methods block for as long as they need (a start is some 50 ms), so they fit fixtures of both kinds.
    As a context manager it is started on entry and gone on exit.
    """

    def __init__(
        self,
        folder: Path,
        *,
        config: str = "",
        args: tuple[str, ...] = (),
        jetstream: bool = False,
        port: int = 0,
    ) -> None:
        """Keep configuration, logs and data in `folder`; `config` is nats-server configuration without a port."""
        self.folder = folder
        self.store = folder / "jetstream"
        self.config = config
        self.port = port
        self._args = args
        self._jetstream = jetstream
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://{HOST}:{self.port}"

    @property
    def address(self) -> str:
        """`host:port` of the clients' port."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id; it must run."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    @property
    def ports_file(self) -> Path:
        """Where it has written down on which ports it listens, as JSON by what for; it must run."""
        return self.folder / f"nats-server_{self.pid}.ports"

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the server has logged, over all its starts."""
        path = self.folder / "nats.log"
        return path.read_text() if path.exists() else ""

    def start(self, config: str | None = None) -> Self:
        """Start and wait until it answers; a new `config` replaces the old one."""
        assert not self.running, "the server runs already"
        if config is not None:
            self.config = config
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "nats.conf"
        file.write_text(self.config)
        self.port = self.port or free_ports(1)[0]
        command = [program(), "-c", str(file), "-a", HOST, "-p", str(self.port)]
        command += ["-l", str(self.folder / "nats.log"), "--ports_file_dir", str(self.folder), *self._args]
        if self._jetstream:
            command += ["-js", "-sd", str(self.store)]
        output = (self.folder / "output.txt").open("ab")
        with output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        self._wait_ready()
        return self

    def stop(self) -> None:
        """End it in order (SIGTERM) and wait for that."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it on the spot (SIGKILL) and wait for that."""
        self._end(signal.SIGKILL)

    def restart(self, config: str | None = None) -> None:
        """Kill it and start it again on the same port with the same data."""
        self.kill()
        self.start(config)

    def reload(self, config: str) -> None:
        """Have the running server read a new configuration."""
        self.config = config
        (self.folder / "nats.conf").write_text(config)
        os.kill(self.pid, signal.SIGHUP)

    def pause(self) -> None:
        """Make it hang (SIGSTOP) and wait for that: its sockets stay open and take what their buffers hold."""
        os.kill(self.pid, signal.SIGSTOP)
        end = time.monotonic() + STOP_TIMEOUT
        while not all(_stopped(thread) for thread in Path(f"/proc/{self.pid}/task").iterdir()):
            assert time.monotonic() < end, "the server did not stop"
            time.sleep(0.001)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
            if number is not signal.SIGKILL:
                process.send_signal(signal.SIGCONT)
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_TIMEOUT)

    def _wait_ready(self) -> None:
        assert self._process is not None
        end = time.monotonic() + READY_TIMEOUT
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError(f"nats-server ended at its start: {self._said()}")
            if self._answers():
                return
            time.sleep(0.01)
        self.kill()
        raise RuntimeError(f"nats-server did not answer: {self._said()}")

    def _answers(self) -> bool:
        """Whether clients are greeted, and it has written down where else it listens."""
        if not self.ports_file.exists():
            return False
        try:
            with socket.create_connection((HOST, self.port), timeout=READY_TIMEOUT) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False

    def _said(self) -> str:
        return (self.folder / "output.txt").read_text()[-2000:] + self.log[-2000:]


def _stopped(thread: Path) -> bool:
    """Whether a thread of a process is stopped, or gone; the state follows the name, which ends with the last bracket."""
    try:
        return (thread / "stat").read_text().rpartition(") ")[2].startswith(("T", "Z"))
    except (FileNotFoundError, ProcessLookupError):
        return True
