from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.wait import PATIENCE, eventually

ROOT = Path(__file__).resolve().parents[3]
GRACE = 3
"""Seconds in which who listens has ended, on a machine however busy."""


class Run:
    """A supervisor of scripted workers, in a process of its own."""

    def __init__(self, folder: Path, *script: str) -> None:
        self._log = folder / "log"
        self._out = folder / "out"
        with self._log.open("ab") as log, self._out.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.scripted_workers", *script],
                env={**os.environ, "PYTHONPATH": f"{ROOT / 'services'}:{ROOT}"},
                stdout=out,
                stderr=log,
            )

    def lines(self, event: str) -> list[dict[str, Any]]:
        """What it has logged of one event, whole lines only."""
        return [
            line
            for text in self._log.read_text().rpartition("\n")[0].splitlines()
            if (line := json.loads(text))["event"] == event
        ]

    @property
    def said(self) -> list[str]:
        """What its processes have printed."""
        return self._out.read_text().splitlines()

    async def started(self, count: int) -> None:
        """Wait for that many starts."""
        await eventually(lambda: len(self.lines("worker.started")) >= count, message=self._log.read_text())

    async def end(self) -> int:
        """Wait for its end."""
        return await asyncio.wait_for(asyncio.to_thread(self.process.wait), PATIENCE)


@contextlib.asynccontextmanager
async def running(folder: Path, *script: str) -> AsyncIterator[Run]:
    """Run it; nothing is left."""
    run = Run(folder, *script)
    try:
        yield run
    finally:
        run.process.kill()
        run.process.wait()


async def test_begins_one_after_another_until_the_first_worker_is_ready(tmp_path: Path) -> None:
    """Then the others; SIGTERM ends all, the front process last."""
    async with running(tmp_path, "5", "serve", "serve", "serve") as run:
        await run.started(4)
        run.process.terminate()
        assert await run.end() == 0
    assert [line["worker"] for line in run.lines("worker.started")] == ["0", "1", "2", "3"]
    assert run.lines("worker.exited") == []
    assert run.said == ["end 0"]


@pytest.mark.parametrize("code", [69, 78])
async def test_a_refusal_ends_the_whole(tmp_path: Path, code: int) -> None:
    """Once, with its code, before another worker begins."""
    async with running(tmp_path, "5", f"exit{code}", "serve") as run:
        assert await run.end() == code
    assert [line["worker"] for line in run.lines("worker.started")] == ["0", "1"]
    (line,) = run.lines("worker.exited")
    assert (line["worker"], line["problem"]) == ("1", f"ended with exit code {code}")


@pytest.mark.parametrize(("life", "code"), [("exit70", 70), ("kill", 70), ("exit0", 70)])
async def test_crashes_at_the_start_end_the_whole_after_three(tmp_path: Path, life: str, code: int) -> None:
    """With growing delays, and never with success."""
    async with running(tmp_path, "5", life, "serve") as run:
        assert await run.end() == code
    assert [line["starts_again_in"] for line in run.lines("worker.exited")] == [0.5, 1.0, None]


async def test_a_crash_at_the_start_may_pass(tmp_path: Path) -> None:
    """The second attempt works, and the others begin."""
    async with running(tmp_path, "5", "kill,serve", "serve") as run:
        await run.started(4)
        run.process.terminate()
        assert await run.end() == 0


async def test_what_has_worked_is_started_again_whatever_its_code(tmp_path: Path) -> None:
    """NATS may have gone: the other worker has its clients still."""
    async with running(tmp_path, "5", "serve", "work70,exit69,exit69,serve") as run:
        await run.started(6)
        run.process.terminate()
        assert await run.end() == 0
    assert [line["starts_again_in"] for line in run.lines("worker.exited")] == [0.5, 1.0, 2.0]
    assert [line["restarts"] for line in run.lines("worker.started") if line["worker"] == "2"] == [0, 1, 2, 3]


async def test_a_signal_between_two_lives_is_heard(tmp_path: Path) -> None:
    """SIGTERM while a worker waits to be started again: it is not."""
    async with running(tmp_path, "5", "serve", "work70,exit69") as run:
        await eventually(lambda: len(run.lines("worker.exited")) == 4)  # 4 s to go
        run.process.terminate()
        assert await run.end() == 0
    assert [line["restarts"] for line in run.lines("worker.started") if line["worker"] == "2"] == [0, 1, 2, 3]


async def test_hang_up_is_passed_on_also_to_who_comes_later(tmp_path: Path) -> None:
    """Each worker hears it once, also one that begins afterwards or is started again: it was forked with what was read first."""
    async with running(tmp_path, "5", "serve", "serve") as run:
        await run.started(3)
        run.process.send_signal(signal.SIGHUP)
        await eventually(lambda: run.said == ["SIGHUP"] * 2)
        os.kill(run.lines("worker.started")[1]["pid"], signal.SIGKILL)
        await eventually(lambda: run.said == ["SIGHUP"] * 3)
        run.process.terminate()
        assert await run.end() == 0


async def test_hang_up_before_the_workers_begin_is_not_lost(tmp_path: Path) -> None:
    """What was read before it is old for all of them."""
    async with running(tmp_path, "5", "kill,serve", "serve") as run:
        await eventually(lambda: bool(run.lines("worker.exited")))
        run.process.send_signal(signal.SIGHUP)
        await eventually(lambda: run.said == ["SIGHUP"] * 2)


async def test_a_worker_that_is_started_again_reads_anew(tmp_path: Path) -> None:
    """A reload may have been ordered by another way than a signal."""
    async with running(tmp_path, "5", "serve", "work70,serve") as run:
        await eventually(lambda: run.said == ["SIGHUP"])


async def test_who_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    """Nobody waits for ever, and it is said."""
    async with running(tmp_path, f"{GRACE}", "deaf", "serve") as run:
        await run.started(3)
        began = time.monotonic()
        run.process.terminate()
        assert await run.end() == 0
        assert time.monotonic() - began >= GRACE
    (line,) = run.lines("workers.killed")
    assert line["workers"] == ["1"]


async def test_a_second_signal_is_passed_on(tmp_path: Path) -> None:
    """Who drains then ends at once."""
    async with running(tmp_path, "60", "slow", "serve") as run:
        await run.started(3)
        run.process.terminate()
        await eventually(lambda: run.said == ["SIGTERM"])
        run.process.send_signal(signal.SIGINT)
        assert await run.end() == 0
    assert run.lines("workers.killed") == []


async def test_a_second_signal_bounds_the_wait(tmp_path: Path) -> None:
    """Also for one that is deaf."""
    async with running(tmp_path, "60", "deaf", "serve") as run:
        await run.started(3)
        run.process.terminate()
        await eventually(lambda: run.said == ["SIGTERM"])
        began = time.monotonic()
        run.process.terminate()
        assert await run.end() == 0
        assert time.monotonic() - began > 4
    assert run.lines("workers.killed")[0]["workers"] == ["1"]
