from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from tests.support.edges import Metrics
from tests.support.http import HttpAnswer, request
from tests.support.wait import eventually
from tidewire.platform import overview
from tidewire.platform.board import Board
from tidewire.platform.health import worker_app
from tidewire.platform.http import Listener, http_protocol, listen_at
from tidewire.platform.lifecycle import StartError
from tidewire.platform.metrics import Counter, Registry, Total
from tidewire.platform.overview import Overview, socket_of

SECONDS = 2.0
"""That a worker has to answer, also on a machine that stands still for a moment."""


class Worker:
    """What a worker answers, at its socket; or a socket that nobody answers at."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = socket_of(folder, name)
        self.reason: str | None = None
        self.registry = Registry()
        self.registry.add([Counter("things", "Things.")])
        self._listener: Listener | None = None
        self._mute = socket.socket(socket.AF_UNIX)

    async def come(self) -> None:
        """Answer from now on."""
        self._listener = await listen_at(
            http_protocol(worker_app(self.registry, lambda: self.reason)), self.path
        )

    def leave(self) -> None:
        """Answer no longer."""
        if self._listener is not None:
            self._listener.close()

    def stand_still(self) -> None:
        """Be there without an answer."""
        self.leave()
        Path(self.path).unlink()
        self._mute.bind(self.path)
        self._mute.listen()

    def close(self) -> None:
        """End."""
        self.leave()
        self._mute.close()


class Stage:
    """An overview of two workers, and its port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.board = Board(3)
        self.workers = [Worker(folder, name) for name in ("1", "2")]
        self.log = structlog.testing.CapturingLogger()
        self.overview = Overview(folder, ["1", "2"], self.board, ("127.0.0.1", 0), self.log, {"port": 8000})

    async def get(self, path: str) -> HttpAnswer:
        """Ask."""
        assert self.overview._listener is not None
        return await request(f"http://127.0.0.1:{self.overview._listener.port}{path}")

    async def ready(self) -> tuple[int, str]:
        """Status and reason."""
        answer = await self.get("/ready")
        return answer.status, json.loads(answer.body).get("reason", "")

    async def metrics(self) -> Metrics:
        """Scrape once."""
        return Metrics((await self.get("/metrics")).body.decode())


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """Two workers, none of which is there yet."""
    for name in ("PROBE_SECONDS", "SCRAPE_SECONDS"):
        monkeypatch.setattr(overview, name, SECONDS)
    folder = tmp_path / "private"
    folder.mkdir()
    made = Stage(folder)
    await made.overview.start()
    try:
        yield made
    finally:
        for worker in made.workers:
            worker.close()
        await made.overview.stop()


async def test_ready_when_all_have_been_and_then_while_one_is(stage: Stage) -> None:
    """The first clients find every worker; later one that is started again takes no other's clients away."""
    first, second = stage.workers
    assert await stage.ready() == (503, "worker 1: is not there, worker 2: is not there")
    await first.come()
    second.reason = "starting"
    await second.come()
    assert await stage.ready() == (503, "worker 2: starting")
    second.reason = None
    assert await stage.ready() == (200, "")
    second.reason = "starting"
    assert await stage.ready() == (200, "")
    second.leave()
    assert await stage.ready() == (200, "")
    first.reason = "draining"
    assert await stage.ready() == (503, "worker 1: draining, worker 2: is not there")


async def test_says_once_when_all_are_ready(stage: Stage) -> None:
    """As the board has it, without being asked."""
    stage.board.ready(1)
    await stage.get("/live")
    assert stage.log.calls == []
    stage.board.ready(2)
    await eventually(lambda: bool(stage.log.calls))
    (call,) = stage.log.calls
    assert (call.args, call.kwargs["port"], call.kwargs["workers"]) == (("workers.ready",), 8000, 2)


async def test_dead_while_a_worker_stands_still(stage: Stage) -> None:
    """One that is not there is being started again, which is no reason to restart everything."""
    await stage.workers[0].come()
    assert (await stage.get("/live")).status == 200
    stage.workers[0].stand_still()
    began = time.monotonic()
    answer = await stage.get("/live")
    assert time.monotonic() - began >= SECONDS
    assert (answer.status, json.loads(answer.body)["reason"]) == (503, "no answer from worker 1")


async def test_scrapes_at_the_same_time_ask_each_worker_once(stage: Stage) -> None:
    """An answer to an older question must not come after that to a newer one, or sums would go back."""
    first = stage.workers[0]
    taken = 0

    def count() -> float:
        nonlocal taken
        taken += 1
        return 0.0

    first.registry.add([Total("takings", "How often.", count)])
    for worker in stage.workers:
        await worker.come()
    await asyncio.gather(*(stage.get("/metrics") for _ in range(10)))
    assert taken < 10
    before = taken
    await stage.get("/metrics")
    assert taken == before + 1


async def test_metrics_of_workers_and_about_them(stage: Stage) -> None:
    """Who answered, who was started again, and memory of each process, this one included."""
    await stage.workers[0].come()
    await stage.workers[1].come()
    stage.workers[1].stand_still()
    stage.board.begin(2, 5)
    found = await stage.metrics()
    assert found.value("tidewire_worker_up", worker="1") == 1
    assert found.value("tidewire_worker_up") == 1
    assert found.value("tidewire_worker_restarts_total") == 5
    assert found.value("tidewire_worker_restarts_total", worker="2") == 5
    for worker in ("1", "internal"):
        assert found.value("process_resident_memory_bytes", worker=worker) > 0


async def test_folder_is_removed_in_the_end(stage: Stage) -> None:
    """Also what workers have left in it."""
    await stage.workers[0].come()
    await stage.overview.stop()
    assert not stage.folder.exists()


async def test_port_that_is_taken_is_a_start_error(tmp_path: Path) -> None:
    """One line that names the setting."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        place = ("127.0.0.1", taken.getsockname()[1])
        made = Overview(tmp_path / "x", [], Board(1), place, structlog.testing.CapturingLogger(), {})
        with pytest.raises(StartError, match=r"http\.internal_port"):
            await made.start()
        await made.stop()
