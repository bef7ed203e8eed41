"""A child process that a parent supervises: its output line by line, a bounded stop, and no life after the parent's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from tidewire.platform.orphans import dying_with

TAIL = 20
LONGEST_LINE = 64 * 1024
LAST_WORDS = 1.0


class Child:
    """One run of a program. It leads a session of its own, so Ctrl-C in the terminal reaches the parent alone.

    `on_line` gets each line of its output (stdout and stderr together) without the line end; `tail` keeps the last ones.
    """

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]
    ) -> None:
        """Prepare the run; `start` begins it."""
        self.name = name
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._command = command
        self._env = env
        self._on_line = on_line
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, None before `start`."""
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the program. Raises OSError if it cannot be run."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=dying_with(os.getpid(), signal.SIGTERM),
        )
        self._reader = asyncio.create_task(self._read(), name=f"output of {self.name}")

    async def wait(self) -> int:
        """Wait for its end and return the exit code (minus the signal number if a signal ended it)."""
        if self._process is None or self._reader is None:
            raise AssertionError("waiting for a child that was never started")
        code = await self._process.wait()
        # A grandchild may hold the pipe open: what it says is worth a moment, not more.
        await asyncio.wait({self._reader}, timeout=LAST_WORDS)
        self._reader.cancel()
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal if it is still running."""
        if self.running and self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, grace: float) -> int:
        """Ask it to end (SIGTERM), and after `grace` seconds end it (SIGKILL); return the exit code."""
        self.signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.wait(), grace)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            return await self.wait()

    async def _read(self) -> None:
        assert self._process is not None  # noqa: S101 - started by `start`
        stream = self._process.stdout
        assert stream is not None  # noqa: S101 - a pipe by construction
        rest = b""
        while chunk := await stream.read(LONGEST_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._say(line)
            if len(rest) >= LONGEST_LINE:
                self._say(rest)
                rest = b""
        if rest:
            self._say(rest)

    def _say(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        self.tail.append(text)
        self._on_line(text)
