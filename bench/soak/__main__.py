"""`make soak-churn`: does an edge's memory stay flat while clients come and go?

Two edges on one nats-server, one of them with TLS, each with a crowd in a process of its own: clients of many users that
change channels, publish, say goodbye or are cut; slow ones (3008), silent ones (3012), lapsed tokens (3005), forged ones
(3500), half handshakes. Prints a table of samples, then the verdict: after the warm-up no edge's private memory may have
grown by more than the bound, nor the files that are no sockets; and when the crowds have gone, all that was theirs must
be gone, too. Exit status 1 when not so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, cast

import msgspec

from bench.load.machine import cpu_seconds, description, open_files, private_bytes
from bench.soak.flatness import Growth
from tests.support.certificates import write_certificate
from tests.support.edges import EdgeProcess, edge_config, mapping
from tests.support.nats_server import NatsServer
from tests.support.wait import eventually
from tidewire.kernel.subjects import SUBJECT_CACHE

CONFIG: dict[str, Any] = {
    "http": {"trusted_proxies": ["127.0.0.0/8"]},
    "client": {
        "queue_max_size": 32_768,
        "ping_interval": "10s",
        "pong_timeout": "3s",
        "expired_close_delay": "1s",
        "handshake_timeout": "2s",
        "command_rate_limit": 0,
    },
    "websocket": {"close_timeout": "1s", "compression": True},
}
"""What an hour should see often, made to come soon."""
GAUGES = {
    "connections": "tidewire_connections",
    "users": "tidewire_users",
    "channels": "tidewire_channels",
    "subscriptions": "tidewire_subscriptions",
    "addresses": "tidewire_client_addresses",
    "sockets": "tidewire_sockets",
    "handshakes": "tidewire_handshakes_waiting",
    "paced": "tidewire_paced_work",
    "pending KiB": "tidewire_pending_bytes",
    "to NATS": "tidewire_nats_pending_bytes",
}
"""What is of clients: each is 0 again when all have gone."""
FILL = SUBJECT_CACHE * 3 // 2
"""Half as many again as a cache holds: a full `lru_cache` makes its table anew after a third more, once, which is 2.5 MiB."""
MEMORY_BOUND = 4.0
"""MiB: four arenas of Python's allocator, which a moment's peak may take and fragmentation keep. An hour's 18,000 connections
of an edge would exceed it with 250 bytes each."""
FILES_BOUND = 3.0
REMAINS_FOR = 20.0
"""Seconds in which all that is of clients must go after them."""
MIB = 1 << 20


class Sample(msgspec.Struct, frozen=True):
    """One edge at one moment, `minute` since the crowds came."""

    minute: float
    memory: float
    files: int
    cpu: float
    opened: float
    slow: float
    gauges: dict[str, float]

    @classmethod
    async def of(cls, edge: EdgeProcess, began: float) -> Self:
        """Ask an edge and the kernel."""
        metrics = await edge.metrics()
        gauges = {name: metrics.value(metric) for name, metric in GAUGES.items()}
        gauges["pending KiB"] /= 1024
        return cls(
            (time.monotonic() - began) / 60,
            private_bytes(edge.pid) / MIB,
            open_files(edge.pid),
            cpu_seconds(edge.pid),
            metrics.value("tidewire_connections_opened_total"),
            metrics.value("tidewire_slow_consumers_total"),
            gauges,
        )

    def line(self, name: str) -> str:
        """Return the line of the table."""
        cells = [
            f"{self.minute:.1f}",
            name,
            f"{self.memory:.2f}",
            self.files,
            f"{self.cpu:.1f}",
            self.opened,
            self.slow,
        ]
        return _line([*cells, *self.gauges.values()])


HEAD = ["minute", "edge", "MiB", "files", "CPU s", "opened", "3008", *GAUGES]
WIDTHS = [max(len(head), 6) for head in HEAD]


def _line(cells: Sequence[object]) -> str:
    texts = [f"{cell:.0f}" if isinstance(cell, float) else str(cell) for cell in cells]
    return "| " + " | ".join(text.rjust(width) for text, width in zip(texts, WIDTHS, strict=True)) + " |"


class Crowd:
    """A crowd's process; `running_crowd` makes one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._orders = cast("asyncio.StreamWriter", process.stdin)
        self._answers = cast("asyncio.StreamReader", process.stdout)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    async def endings(self) -> dict[str, int]:
        """Return how clients have ended, and how many.

        Raises:
            RuntimeError: The process has ended; it has said why on standard error.
        """
        with contextlib.suppress(ConnectionError):
            self._orders.write(b"\n")
            await self._orders.drain()
        line = await self._answers.readline()
        if not line:
            raise RuntimeError("a crowd has ended")
        found: dict[str, int] = json.loads(line)
        return found


@contextlib.asynccontextmanager
async def running_crowd(
    edge: EdgeProcess, clients: int, channels: int, ca: Path | None
) -> AsyncIterator[Crowd]:
    """Run a crowd, which has filled the edge's caches; it is gone on exit."""
    what = [edge.ws_url, str(clients), str(channels), *([str(ca)] if ca else [])]
    command = [sys.executable, "-m", "bench.soak.crowd", *what]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        crowd = Crowd(process)
        await crowd.endings()
        yield crowd
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


Series = dict[str, list[Sample]]


async def churn(
    edges: Sequence[EdgeProcess], options: argparse.Namespace, ca: Path
) -> tuple[Series, list[str]]:
    """Let the crowds be for the time, `ca` vouches for the second edge; returns samples, and how clients have ended."""
    series: Series = {edge.name: [] for edge in edges}
    async with contextlib.AsyncExitStack() as stack:
        crowds = [
            await stack.enter_async_context(running_crowd(edge, options.clients, options.fill, certificate))
            for edge, certificate in zip(edges, (None, ca), strict=True)
        ]
        began = time.monotonic()
        print(_line(HEAD), _line(["-" * width for width in WIDTHS]), sep="\n")
        for number in range(1, int(options.minutes * 60 / options.interval) + 1):
            await asyncio.sleep(began + number * options.interval - time.monotonic())
            for edge in edges:
                series[edge.name].append(sample := await Sample.of(edge, began))
                print(sample.line(edge.name), flush=True)
        said = [
            f"{edge.name}'s crowd: {cpu_seconds(crowd.pid):.1f} s of CPU, {await crowd.endings()}"
            for edge, crowd in zip(edges, crowds, strict=True)
        ]
    return series, said


async def remains(edge: EdgeProcess) -> list[str]:
    """Return what an edge still has of clients that have gone, once nothing more goes."""
    left: dict[str, float] = {}

    async def nothing() -> bool:
        nonlocal left
        sample = await Sample.of(edge, 0)
        left = {name: value for name, value in sample.gauges.items() if value}
        return not left

    with contextlib.suppress(AssertionError):
        await eventually(nothing, REMAINS_FOR)
    return [f"{edge.name}: {name} is still {value:g}" for name, value in left.items()]


def growths(name: str, samples: Sequence[Sample], warmup: float, bound: float) -> list[Growth]:
    """Judge one edge's series."""
    memory = [(sample.minute, sample.memory) for sample in samples]
    files = [(sample.minute, sample.files - sample.gauges["sockets"]) for sample in samples]
    return [
        Growth.of(f"{name}: private memory", memory, warmup, bound, "MiB"),
        Growth.of(f"{name}: files that are no sockets", files, warmup, FILES_BOUND, "files"),
    ]


async def soak(options: argparse.Namespace, folder: Path) -> bool:
    """Start all, let it run, print and return the verdict."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    write_certificate(certificate, [datetime.now(UTC) + timedelta(days=1)], key)
    tls = {"http": {**CONFIG["http"], "tls": {"cert_file": str(certificate), "key_file": str(key)}}}
    with contextlib.ExitStack() as stack:
        nats = stack.enter_context(NatsServer(folder / "nats", config=mapping()))
        edges = [
            stack.enter_context(EdgeProcess(folder, edge_config(nats.url, changes), name=name))
            for name, changes in (("plain", CONFIG), ("tls", CONFIG | tls))
        ]
        series, said = await churn(edges, options, certificate)
        left = [line for edge in edges for line in await remains(edge)]
        used = cpu_seconds(nats.pid)
    judged = [
        growth
        for name, samples in series.items()
        for growth in growths(name, samples, options.minutes * options.warmup, options.bound)
    ]
    print(*said, f"nats-server: {used:.1f} s of CPU", *judged, *left, sep="\n")
    return all(growth.flat for growth in judged) and not left


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="how long (default 60)")
    parser.add_argument("--clients", type=int, default=50, help="clients of each edge at a time (default 50)")
    parser.add_argument(
        "--fill",
        type=int,
        default=FILL,
        help=f"channels that are named first, so that bounded caches are full when it is judged (default {FILL})",
    )
    parser.add_argument("--interval", type=float, default=15, help="seconds between samples (default 15)")
    parser.add_argument(
        "--warmup", type=float, default=0.2, help="share of the time not judged (default 0.2)"
    )
    parser.add_argument(
        "--bound",
        type=float,
        default=MEMORY_BOUND,
        help=f"MiB by which an edge may grow after the warm-up (default {MEMORY_BOUND})",
    )
    return parser.parse_args()


def main() -> None:
    """Soak, and end with the verdict."""
    options = arguments()
    print(json.dumps({"machine": description(), "command": sys.argv[1:]}))
    with tempfile.TemporaryDirectory() as folder:
        flat = asyncio.run(soak(options, Path(folder)))
    sys.exit(0 if flat else 1)


if __name__ == "__main__":
    main()
