"""A well-behaved neighbour: a process of its own that publishes at a fixed rate and measures when it hears itself.

It publishes when it is time, whatever has become of the last one, so an edge that keeps its clients waiting does not slow the
measuring down with itself. Latency counts from when a publication was sent: where that was late, this process stood still, and
not the edge. What happens is noted in a file, a JSON array a line; `Neighbour` reads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from tests.support.checker import Checker, payload, record
from tests.support.edges import token
from tests.support.raw_client import RawClient, joined, publication
from tests.support.wait import eventually

ROOT = Path(__file__).resolve().parents[2]
CHANNEL = "live:neighbour"
NAME = "neighbour"
INTERVAL = 0.02
"""Seconds between two publications."""
SETTLED = 10.0
"""Seconds that the last publication of a span may take to be acknowledged and heard."""


class Span(msgspec.Struct, frozen=True):
    """What became of the publications that were due in a span of time."""

    checker: Checker
    latencies: list[float]
    """Seconds from when each was sent until it was heard, ascending."""

    @property
    def p99(self) -> float:
        """The latency that 99 of 100 kept to."""
        return self.latencies[len(self.latencies) * 99 // 100]


class Neighbour:
    """The process, seen from a test. Times are those of `time.monotonic`, which all processes of a machine share."""

    def __init__(self, folder: Path, ws_url: str) -> None:
        """Keep its notes in `folder`; both of its connections go to the edge at `ws_url`."""
        self._folder = folder
        self._url = ws_url
        self._process: subprocess.Popen[bytes] | None = None
        self._read = 0
        self._began = 0.0
        self._acknowledged: set[int] = set()
        self._heard: list[tuple[int, float]] = []

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.support.neighbour", self._url, str(self._notes)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "services"), str(ROOT)])}
        self._notes.touch()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def watch(self, seconds: float) -> Span:
        """Return what becomes of the publications of the next `seconds`."""
        await eventually(lambda: self._collect() and self._heard, SETTLED, "the neighbour is at work")
        began = time.monotonic()
        await asyncio.sleep(seconds)  # the time is what is measured
        return await self.span(began, time.monotonic())

    async def span(self, began: float, ended: float) -> Span:
        """Return what became of the publications that were due between two times, once each is answered and heard."""
        due = range(*(int((at - self._began) / INTERVAL) + 1 for at in (began, ended)))
        await eventually(
            lambda: self._collect() and self._acknowledged.issuperset(due), SETTLED, "the neighbour's replies"
        )
        with contextlib.suppress(AssertionError):  # the checker says what is missing
            await eventually(lambda: self._collect() and {n for n, _ in self._heard}.issuperset(due), SETTLED)
        heard = [(number, latency) for number, latency in self._heard if number in due]
        checker = Checker()
        checker.subscribed(NAME, [CHANNEL])
        for number in due:
            checker.acknowledged(_record(number))
        for number, _ in heard:
            checker.received(NAME, _record(number))
        return Span(checker, sorted(latency for _, latency in heard))

    @property
    def _notes(self) -> Path:
        return self._folder / "neighbour.notes"

    @property
    def _log(self) -> Path:
        return self._folder / "neighbour.log"

    def _collect(self) -> bool:
        """Take in what was noted since; fails when the process has ended, which it does at its first error."""
        assert self._process is not None
        assert self._process.poll() is None, f"the neighbour has ended:\n{self._log.read_text()}"
        with self._notes.open("rb") as notes:
            notes.seek(self._read)
            whole = notes.read().rpartition(b"\n")[0]
        self._read += len(whole) + 1 if whole else 0
        for line in whole.splitlines():
            match json.loads(line):
                case ["began", at]:
                    self._began = at
                case ["acknowledged", number]:
                    self._acknowledged.add(number)
                case ["heard", number, latency]:
                    self._heard.append((number, latency))
        return True


def _record(number: int) -> Any:
    return record(CHANNEL, payload(NAME, number))


async def _publish_for_ever(url: str, notes: Path) -> None:
    """Be the neighbour: any error reply, any close ends it."""
    with notes.open("a", buffering=1) as file:

        def note(*what: object) -> None:
            file.write(json.dumps(what) + "\n")

        began = time.monotonic()
        sent: dict[int, float] = {}

        def on_push(line: bytes) -> None:
            found = publication(line)
            assert found is not None
            number = found[1]["data"]["sequence"]
            note("heard", number, time.monotonic() - sent[number])

        async def publish(client: RawClient, number: int) -> None:
            reply = await client.command(publish={"channel": CHANNEL, "data": payload(NAME, number)})
            assert "publish" in reply, reply
            note("acknowledged", number)

        note("began", began)
        subscriber = await joined(url, token(NAME), CHANNEL, on_push=on_push)
        publisher = await joined(url, token(NAME))
        number = int((time.monotonic() - began) / INTERVAL)
        async with asyncio.TaskGroup() as replies:
            while not subscriber.gone.is_set():
                number += 1
                await asyncio.sleep(began + number * INTERVAL - time.monotonic())
                sent[number] = time.monotonic()
                replies.create_task(publish(publisher, number))
        raise ConnectionError(f"{subscriber.close_code} {subscriber.close_reason}")


if __name__ == "__main__":
    asyncio.run(_publish_for_ever(sys.argv[1], Path(sys.argv[2])))
