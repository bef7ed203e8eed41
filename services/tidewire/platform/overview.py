"""The internal port of a service with several workers: one answer for all of them."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tidewire.platform.exposition import WORKER, Collection, Snapshot, decode
from tidewire.platform.health import SNAPSHOT, health_app
from tidewire.platform.http import Listener, ListenError, http_protocol, listen
from tidewire.platform.lifecycle import StartError
from tidewire.platform.metrics import Registry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from structlog.typing import FilteringBoundLogger

    from tidewire.platform.board import Board

FRONT = "internal"
"""The name of the process that has the internal port, among those of the workers."""
PROBE_SECONDS = 0.5
"""How long a worker may take to answer a probe; an orchestrator waits a second by default."""
SCRAPE_SECONDS = 2.0
FIRST_POLL = 0.05
"""Seconds between looks at workers that have not all been ready yet."""


def socket_of(folder: Path, worker: str) -> str:
    """Return where a worker answers."""
    return str(folder / f"{worker}.sock")


class Overview:
    """Answers for workers, whom it asks at sockets in `folder` (removed in the end); implements `lifecycle.App`.

    The workers' names are in the order of the board, behind the process of this one. `facts` are told in the log line that
    says that all of them are ready.
    """

    def __init__(
        self,
        folder: Path,
        workers: Sequence[str],
        board: Board,
        place: tuple[str, int],
        log: FilteringBoundLogger,
        facts: Mapping[str, object],
    ) -> None:
        self._folder = folder
        self._workers = workers
        self._board = board
        self._place = place
        self._log = log
        self._facts = facts
        self._own = Registry()
        self._collection = Collection()
        self._complete = False
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._listener: Listener | None = None
        self._scrape: asyncio.Task[bytes] | None = None
        self._waiting: asyncio.Task[None] | None = None

    # lifecycle.App

    async def start(self) -> None:
        """Listen. Raises StartError."""
        no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # by itself each client would load all authorities
        for worker in self._workers:
            path = socket_of(self._folder, worker)
            transport = httpx.AsyncHTTPTransport(uds=path, verify=no_tls, trust_env=False)
            self._clients[worker] = httpx.AsyncClient(
                transport=transport,
                base_url="http://worker",
                headers={"Connection": "close"},
                trust_env=False,
            )
        app = http_protocol(health_app(self._dead, self._unready, self._exposition))
        try:
            self._listener = await listen(app, *self._place, "http.internal_port")
        except ListenError as error:
            raise StartError(str(error)) from error
        self._waiting = asyncio.create_task(self._until_complete(), name="first readiness")

    async def work(self) -> None:
        """See lifecycle.App; it only answers."""
        await asyncio.Event().wait()

    def reload(self) -> None:
        """Do nothing: what it was told stays as it is until a restart."""

    async def drain(self) -> None:
        """Do nothing: this process is ended when the workers are gone."""

    async def stop(self) -> None:
        """Close, and remove the folder."""
        if self._waiting is not None:
            self._waiting.cancel()
        if self._listener is not None:
            self._listener.close()
        for client in self._clients.values():
            await client.aclose()
        shutil.rmtree(self._folder, ignore_errors=True)

    # Probes.

    async def _dead(self) -> str | None:
        """One that is there and does not answer is as bad as one process whose loop stands still; one that is away is not."""
        answers = await self._ask_all("/live", PROBE_SECONDS)
        silent = [worker for worker, answer in answers.items() if answer is _SILENT]
        return f"no answer from worker {', '.join(silent)}" if silent else None

    async def _unready(self) -> str | None:
        """All workers before the first clients come, then one is enough: the kernel gives connections to who listens."""
        answers = await self._ask_all("/ready", PROBE_SECONDS)
        reasons = {
            worker: reason for worker, answer in answers.items() if (reason := _unready_reason(answer))
        }
        self._complete |= not reasons
        if not reasons or (self._complete and len(reasons) < len(answers)):
            return None
        return ", ".join(f"worker {worker}: {reason}" for worker, reason in reasons.items())

    async def _until_complete(self) -> None:
        while not all(map(self._board.is_ready, range(1, len(self._workers) + 1))):  # noqa: ASYNC110 - other processes
            await asyncio.sleep(FIRST_POLL)
        self._complete = True
        port = self._listener.port if self._listener is not None else 0
        self._log.info("workers.ready", workers=len(self._workers), **self._facts, internal_port=port)

    # Metrics.

    async def _exposition(self) -> bytes:
        """Requests that come while one is worked on get its answer: an older snapshot must not come after a newer one."""
        if self._scrape is None or self._scrape.done():
            self._scrape = asyncio.create_task(self._gather(), name="scrape")
        return await asyncio.shield(self._scrape)

    async def _gather(self) -> bytes:
        answers = await self._ask_all(SNAPSHOT, SCRAPE_SECONDS)
        found: dict[str, Snapshot | None] = {
            worker: decode(answer.content) if isinstance(answer, httpx.Response) else None
            for worker, answer in answers.items()
        }
        up = {worker: snapshot is not None for worker, snapshot in found.items()}
        merged = self._collection.merged({**found, FRONT: decode(self._own.snapshot())})
        return generate_latest(_Families([*merged, *self._about_workers(up)]))

    def _about_workers(self, up: Mapping[str, bool]) -> Iterator[Metric]:
        restarts = CounterMetricFamily(
            "tidewire_worker_restarts", "Times that an edge process was started again.", labels=[WORKER]
        )
        for number, worker in enumerate((FRONT, *self._workers)):
            restarts.add_metric([worker], self._board.restarts(number))
        yield restarts
        answered = GaugeMetricFamily(
            "tidewire_worker_up",
            "1 for a worker that answered this scrape in time. Without an answer its gauges are left out, and its "
            "counters are those of the last one.",
            labels=[WORKER],
        )
        for worker, is_up in up.items():
            answered.add_metric([worker], float(is_up))
        yield answered

    # Asking.

    async def _ask_all(self, path: str, seconds: float) -> dict[str, Answer]:
        answers = await asyncio.gather(*(self._ask(worker, path, seconds) for worker in self._workers))
        return dict(zip(self._workers, answers, strict=True))

    async def _ask(self, worker: str, path: str, seconds: float) -> Answer:
        try:
            async with asyncio.timeout(seconds):
                return await self._clients[worker].get(path, timeout=None)
        except TimeoutError:
            return _SILENT
        except httpx.TransportError:
            return _AWAY


_SILENT, _AWAY = "does not answer", "is not there"
Answer = httpx.Response | str
"""What a worker said, or why it said nothing."""


def _unready_reason(answer: Answer) -> str:
    if isinstance(answer, str):
        return answer
    return str(answer.json().get("reason", ""))


class _Families(CollectorRegistry):
    """The interface that prometheus-client's exposition reads."""

    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Yield them."""
        yield from self._families
