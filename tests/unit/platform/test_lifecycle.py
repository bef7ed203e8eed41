from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest

from tests.support.wait import PATIENCE
from tidewire.platform.lifecycle import node_name

ROOT = Path(__file__).resolve().parents[3]


class Process:
    """An app in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: list[str] = []

    async def until(self, line: str) -> None:
        """Wait until the app has said something."""
        assert self._process.stdout is not None
        while line not in self.said:
            read = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)
            assert read, f"it ended without {line!r}: {self.said}"
            self.said.append(read.decode().rstrip("\n"))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def end(self) -> tuple[int | None, list[dict[str, Any]]]:
        """Wait for the end; return the exit code and the lines of the log."""
        code, log = await self.end_as_it_is()
        return code, [json.loads(line) for line in log.splitlines()]

    async def end_as_it_is(self) -> tuple[int | None, str]:
        """Wait for the end; return the exit code and what is on standard error."""
        out, log = await asyncio.wait_for(self._process.communicate(), PATIENCE)
        self.said += out.decode().splitlines()
        return self._process.returncode, log.decode()


@contextlib.asynccontextmanager
async def running(*script: str) -> AsyncIterator[Process]:
    """Start an app that does what the script says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.scripted_app",
        *script,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'services'}:{ROOT}"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield Process(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def events(log: list[dict[str, Any]]) -> list[str]:
    """What was logged, in order."""
    return [line["event"] for line in log]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_drains_and_stops(number: signal.Signals) -> None:
    """In this order, with exit code 0."""
    async with running() as process:
        await process.until("start done")
        process.signal(number)
        code, log = await process.end()
    assert process.said == ["start", "start done", "drain", "drain done", "stop", "stop done"]
    assert (code, events(log)) == (0, ["process.draining", "process.stopped"])


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_second_signal_ends_the_drain(second: signal.Signals) -> None:
    """What holds it up is cancelled; it is still an orderly end."""
    async with running("drain=hang") as process:
        await process.until("start done")
        process.signal(signal.SIGTERM)
        await process.until("drain")
        process.signal(second)
        code, log = await process.end()
    assert process.said[2:] == ["drain", "drain ended", "stop", "stop done"]
    assert (code, events(log)) == (0, ["process.draining", "process.stopped"])


async def test_signal_during_the_start_ends_it() -> None:
    """There is nothing to drain yet."""
    async with running("start=hang") as process:
        await process.until("start")
        process.signal(signal.SIGTERM)
        code, log = await process.end()
    assert process.said == ["start", "start ended", "stop", "stop done"]
    assert (code, events(log)) == (0, ["process.stopped"])


async def test_hangup_reloads() -> None:
    """Each time, and the app goes on."""
    async with running() as process:
        await process.until("start done")
        process.signal(signal.SIGHUP)
        await process.until("reload")
        process.said.clear()
        process.signal(signal.SIGHUP)
        await process.until("reload")
        process.signal(signal.SIGTERM)
        code, log = await process.end()
    assert process.said == ["reload", "drain", "drain done", "stop", "stop done"]
    assert (code, events(log)) == (0, ["process.draining", "process.stopped"])


@pytest.mark.parametrize("moment", ["create", "start"])
async def test_hangup_before_the_end_of_the_start_waits_for_it(moment: str) -> None:
    """It neither ends the process, as it would by itself, nor is it forgotten."""
    async with running(f"{moment}=hangup") as process:
        await process.until("reload")
        process.signal(signal.SIGTERM)
        code, _ = await process.end()
    assert process.said[:3] == ["start", "start done", "reload"]
    assert code == 0


async def test_hangup_during_the_drain_is_the_apps_to_judge() -> None:
    """It does not end the drain."""
    async with running("drain=hang") as process:
        await process.until("start done")
        process.signal(signal.SIGTERM)
        await process.until("drain")
        process.signal(signal.SIGHUP)
        await process.until("reload")
        process.signal(signal.SIGTERM)
        code, _ = await process.end()
    assert process.said[-3:] == ["drain ended", "stop", "stop done"]
    assert code == 0


async def test_start_that_is_refused_is_one_line() -> None:
    """With the reason, without a stack; exit code 69 (EX_UNAVAILABLE)."""
    async with running("start=refuse") as process:
        code, log = await process.end()
    assert process.said == ["start", "stop", "stop done"]
    assert code == 69
    (line,) = log
    del line["timestamp"]
    assert line == {"level": "error", "event": "process.refused", "problem": "port 8000 is taken"}


@pytest.mark.parametrize("phase", ["start", "drain"])
async def test_mistake_is_logged_and_the_app_is_stopped(phase: str) -> None:
    """One line with the stack; exit code 70 (EX_SOFTWARE)."""
    async with running(f"{phase}=crash") as process:
        if phase == "drain":
            await process.until("start done")
            process.signal(signal.SIGTERM)
        code, log = await process.end()
    assert process.said[-3:] == [phase, "stop", "stop done"]
    assert (code, events(log)[-1]) == (70, "process.failed")
    assert log[-1]["exception"].endswith("RuntimeError: a mistake")


async def test_work_that_fails_ends_the_process_after_a_drain() -> None:
    """Told at once, with the stack; exit code 70, so that whoever runs it starts it anew."""
    async with running("work=crash") as process:
        code, log = await process.end()
    assert process.said == ["start", "start done", "drain", "drain done", "stop", "stop done"]
    assert (code, events(log)) == (70, ["process.failed", "process.draining", "process.stopped"])
    assert log[0]["exception"].endswith("RuntimeError: a mistake")


async def test_further_signals_change_nothing() -> None:
    """An impatient operator does not break the end."""
    async with running("drain=hang") as process:
        await process.until("start done")
        process.signal(signal.SIGTERM)
        await process.until("drain")
        for _ in range(5):
            process.signal(signal.SIGTERM)
            process.signal(signal.SIGINT)
        code, log = await process.end()
    assert process.said[-1] == "stop done"
    assert (code, events(log)[-1]) == (0, "process.stopped")


async def test_signals_after_the_end_change_nothing() -> None:
    """Python puts its handlers away before it ends: one that comes then is no reason to report a process that was killed."""
    async with running("end=signals") as process:
        await process.until("start done")
        process.signal(signal.SIGTERM)
        code, log = await process.end()
    assert (code, events(log)[-1]) == (0, "process.stopped")


@pytest.mark.parametrize("script", ["stop=hang", "stop=block", "end=block"])
async def test_an_end_that_does_not_come_is_made(script: str) -> None:
    """Whatever keeps it, a coroutine, the loop or a thread; where it stood is told."""
    async with running(script, "limit=0.5") as process:
        await process.until("start done")
        process.signal(signal.SIGTERM)
        code, told = await process.end_as_it_is()
    assert code == 1
    assert "Timeout (0:00:00.500000)!" in told
    assert "most recent call first" in told


async def test_app_that_cannot_be_made_is_one_line() -> None:
    """There is nothing to stop then."""
    async with running("create=refuse") as process:
        code, log = await process.end()
    assert code == 69
    assert [(line["event"], line["problem"]) for line in log] == [("process.refused", "a file is missing")]
    assert process.said == []


def test_a_process_without_a_name_is_called_by_its_host_and_like_no_other() -> None:
    """Two of one host are told apart."""
    first, second = node_name(""), node_name("")
    assert first != second
    assert first.startswith(f"{gethostname()}-")
    assert node_name("edge-1") == "edge-1"
