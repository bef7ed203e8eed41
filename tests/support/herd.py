"""A herd of clients in several processes, what cuts them all at once, and how long they take to be back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.support.checker import Checker, payload, record
from tests.support.edges import EdgeProcess, Metrics, token
from tests.support.herd_process import CHANNEL
from tests.support.machine import NONE, Turns, Watch
from tests.support.raw_client import joined
from tests.support.wait import eventually
from tidewire.platform.metrics import LATENCY_BUCKETS

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 2
LINE_LIMIT = 1 << 24
BACK_WITHIN = 240.0
LAG = "tidewire_event_loop_lag_seconds"
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Comeback(msgspec.Struct, frozen=True):
    """How a herd came back. Times are seconds since the first client was cut, ascending, one for each client."""

    what: str
    times: list[float]
    endings: dict[str, int]
    """How connections and attempts ended: HTTP statuses, close codes, `cut`, `refused` (no listener), `timeout`."""
    refusals: dict[str, float]
    """Handshakes that the edge refused, by outcome."""
    largest_lag: float
    """Seconds: the upper end of the bucket of the edge's largest loop lag."""
    cpu: float
    """Seconds of the edge's CPU from the cut until all were back."""
    slowdown: float
    """How many times longer that took the edge than it would on a machine of its own."""
    stall: float
    """Seconds: the longest that the machine stood still meanwhile."""

    def back(self, share: float) -> float:
        """Return the seconds within which this share of all was back."""
        return self.times[max(0, int(len(self.times) * share) - 1)]

    def allowed_lag(self, seconds: float) -> float:
        """Return the upper end of the bucket of a lag that is `seconds` but for what the machine has added.

        A machine that adds less than two thirds adds nothing: buckets are that wide.
        """
        late = seconds * self.slowdown + self.stall
        return next((end for end in LATENCY_BUCKETS if end >= 0.6 * late), math.inf)

    def __str__(self) -> str:
        shares = "  ".join(f"{share:.0%} {self.back(share):6.2f} s" for share in (0.5, 0.99, 1))
        return (
            f"{self.what:22} {len(self.times):6} clients  {shares}  lag <= {self.largest_lag:g} s  cpu {self.cpu:5.2f} s  "
            f"machine: {self.slowdown:.1f} times slower, still for {self.stall:.1f} s  "
            f"refused {self.refusals or 0}  ended {self.endings}"
        )


class Herd:
    """The processes; use `running_herd`."""

    def __init__(self, processes: Sequence[asyncio.subprocess.Process]) -> None:
        self._processes = processes
        self.size = 0
        self._published = 0
        self._asking = asyncio.Lock()

    async def order(self, *orders: dict[str, Any]) -> list[Any]:
        """Give each process its order, or all the same one; return their answers."""
        each = orders * len(self._processes) if len(orders) == 1 else orders
        async with self._asking:
            return await asyncio.gather(*map(self._order, self._processes, each))

    async def _order(self, process: asyncio.subprocess.Process, order: dict[str, Any]) -> Any:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
        return json.loads(await process.stdout.readline())

    async def aim(self, *edges: EdgeProcess) -> None:
        """Let attempts from now on go to these edges, as a balancer does that knows which are ready."""
        await self.order({"ports": [edge.port for edge in edges]})

    async def begin(self, size: int) -> None:
        """Let so many clients come, and wait until all are there."""
        share = size // len(self._processes)
        self.size = share * len(self._processes)
        await self.order(*({"begin": [at * share, (at + 1) * share]} for at in range(len(self._processes))))
        await self._all_back(cut=0)
        await self.order({"ask": "times"})

    async def _all_back(self, cut: int) -> None:
        """Wait until every client is subscribed, after so many were cut."""

        async def back() -> bool:
            joined, gone = map(sum, zip(*await self.order({"ask": "counts"}), strict=True))
            assert (joined, gone >= cut) == (self.size, True), f"{joined} joined, {gone} cut"
            return True

        await eventually(back, BACK_WITHIN, "all clients are back")

    async def comeback(
        self, what: str, cut: Callable[[], Awaitable[EdgeProcess]], *, since: EdgeProcess | None = None
    ) -> Comeback:
        """Cut everybody; `cut` returns the edge to which they come back, which is `since` unless it is started by then."""
        before, cpu, turns = await _scrape(since) if since is not None else (Metrics(""), 0.0, NONE)
        watch = Watch()
        with watch.watching():
            edge = await cut()
            await self._all_back(cut=self.size)
        after, used, taken = await _scrape(edge)
        answers = await self.order({"ask": "times"})
        times = [pair for pairs, _ in answers for pair in pairs]
        first = min(cut for cut, _ in times)
        endings = sum((Counter(each) for _, each in answers), Counter[str]())
        return Comeback(
            what,
            sorted(back - first for _, back in times),
            dict(endings),
            _refusals(before, after),
            after.largest(LAG, before),
            used - cpu,
            taken.slowdown(turns),
            watch.longest,
        )

    async def hears(self, edge: EdgeProcess, checker: Checker) -> None:
        """Publish on the channel of all, and have the checker know what each client heard."""
        self._published += 1
        data = payload("shepherd", self._published)
        publisher = await joined(edge.ws_url, token("shepherd"))
        assert "publish" in await publisher.command(publish={"channel": CHANNEL, "data": data})
        await publisher.close()
        for number in range(self.size):
            checker.subscribed(str(number), [CHANNEL])
        checker.acknowledged(record(CHANNEL, data))

        async def all_heard() -> bool:
            for heard in await self.order({"ask": "heard"}):
                for number, got in heard:
                    checker.received(str(number), record(CHANNEL, got))
            return all(checker.complete(str(number)) for number in range(self.size))

        with contextlib.suppress(AssertionError):  # the checker says what is missing
            await eventually(all_heard)


async def _scrape(edge: EdgeProcess) -> tuple[Metrics, float, Turns]:
    return await edge.metrics(), _cpu(edge.pid), Turns.of(edge.pid)


def _cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used (proc(5): utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def _refusals(before: Metrics, after: Metrics) -> dict[str, float]:
    name = "tidewire_handshakes_total"
    grown = {
        outcome: after.value(name, outcome=outcome) - before.value(name, outcome=outcome)
        for outcome in after.labels(name, "outcome") - {"accepted"}
    }
    return {outcome: count for outcome, count in grown.items() if count}


@contextlib.asynccontextmanager
async def running_herd() -> AsyncIterator[Herd]:
    """Run the processes of a herd, for one test."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "services"), str(ROOT)])}
    async with contextlib.AsyncExitStack() as stack:
        processes = []
        for _ in range(PROCESSES):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.support.herd_process",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment,
                limit=LINE_LIMIT,
            )
            stack.push_async_callback(_end, process)
            processes.append(process)
        yield Herd(processes)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
