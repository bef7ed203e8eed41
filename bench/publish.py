"""What commands cost the edge by itself: CPU from a socket's bytes to the bytes of the reply, without the socket.

A real edge core, real WebSocket transports on sockets that are none, a real nats-server. `publish, n in flight`: 100
connections that each keep n acknowledged publications under way, on n channels, n in one read as a client sends them that
waits for all; the same where the channels have history; and, as `floor`, the same bytes as these with nothing of an edge
between sockets and streams (`bench/publish_floor.py`).
`connect`: upgrade and connect command, each with a token of another user. Prints CPU microseconds of the edge's thread
for each command: the median, the least and the greatest of the rounds. `--profile` prints a profile instead, in which calls
cost more than they do.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
import uvloop
from websockets.frames import Frame, Opcode

from bench.publish_floor import Floor, FloorSocket
from tests.fakes.tcp import FakeTcp
from tests.support.edges import OPEN, mapping, token
from tests.support.edges import edge_config as written_config
from tests.support.history import KEPT
from tests.support.nats_server import NatsServer
from tests.support.streams import create_streams
from tidewire.edge.app import Edge
from tidewire.edge.config import EdgeConfig
from tidewire.edge.reception import Reception
from tidewire.kernel.config import decode

CLIENTS = 100
PUBLISHES = 40
"""Rounds of publishes of each client that one measurement takes, fewer with more in flight."""
CONNECTS = 400
ROUNDS = 7
WINDOWS = (1, 16)
NAMESPACES = {"": "live", " with history": "log"}
HEAD = (
    b"GET /connection/websocket HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
DATA = "x" * 112


def frame(text: str) -> bytes:
    """Return a client's frame."""
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=True)


class Socket(FakeTcp):
    """The socket of a client that reads at once: `heard` is told of every write."""

    def __init__(self, edge: Edge) -> None:
        self.heard: Callable[[bytes], None] = lambda _data: None
        super().__init__(Reception(edge._gate))  # noqa: SLF001 - where a listener would take it from

    def write(self, data: bytes) -> None:
        """See asyncio.WriteTransport."""
        self.heard(data)


class Publisher:
    """A client that keeps `window` publications in flight, each on a channel of its own."""

    def __init__(self, socket: Socket | FloorSocket, number: int) -> None:
        self._socket = socket
        self._number = number
        self._made: dict[tuple[str, int], bytes] = {}
        """What one read holds, by namespace and window: making it is no work of an edge."""
        self._owed = 0
        self._done: Callable[[], None] = lambda: None

    async def publish(self, namespace: str, window: int, times: int) -> None:
        """Publish so often."""
        done = asyncio.get_running_loop().create_future()
        self._done = lambda: done.set_result(None)
        command = f'{{"id":%d,"publish":{{"channel":"{namespace}:{self._number}-%d","data":"{DATA}"}}}}'
        if (namespace, window) not in self._made:
            frames = [frame(command % (7 + number, number)) for number in range(window)]
            self._made[namespace, window] = b"".join(frames)
        self._read = self._made[namespace, window]
        self._window, self._left, self._owed = window, times, 0
        self._socket.heard = self._hear
        self._next()
        await done

    def _next(self) -> None:
        self._owed = self._window
        self._socket.receive(self._read)

    def _hear(self, data: bytes) -> None:
        self._owed -= data.count(b'"publish":{}')
        if self._owed:
            return
        self._left -= 1
        if self._left:
            asyncio.get_running_loop().call_soon(self._next)
        else:
            self._done()


async def connected(edge: Edge, bearer: str) -> Socket:
    """Return a socket whose client is connected."""
    done = asyncio.get_running_loop().create_future()
    socket = Socket(edge)

    def hear(data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 101"):
            asyncio.get_running_loop().call_soon(socket.receive, connect)
        elif b'"connect":{' in data:
            done.set_result(None)
        else:
            raise AssertionError(data)

    connect = frame(f'{{"id":1,"connect":{{"token":"{bearer}","name":"bench"}}}}')
    socket.heard = hear
    socket.receive(HEAD)
    await done
    return socket


async def publishes(publishers: list[Publisher], namespace: str, window: int) -> int:
    """Let all publish; return how many commands that were."""
    times = max(2, PUBLISHES // window)
    await asyncio.gather(*(publisher.publish(namespace, window, times) for publisher in publishers))
    return len(publishers) * window * times


async def connects(edge: Edge, bearers: list[str]) -> int:
    """Let as many connect as there are tokens, 64 at a time; return their number."""
    for at in range(0, len(bearers), 64):
        sockets = await asyncio.gather(*(connected(edge, bearer) for bearer in bearers[at : at + 64]))
        for socket in sockets:
            socket.finish()
    return len(bearers)


async def measured(work: Callable[[], Awaitable[int]]) -> float:
    """Return CPU microseconds of this thread for each command of some work."""
    began = time.thread_time()
    count = await work()
    return (time.thread_time() - began) / count * 1e6


def floor_of(publishers: list[Publisher], window: int) -> Callable[[], Awaitable[int]]:
    """Return the work of so many in flight on channels with history, where there is no edge."""
    return lambda: publishes(publishers, NAMESPACES[" with history"], window)


async def bench(edge: Edge, floor: Floor, profile: str) -> None:
    """Measure, and print."""
    await edge.start()
    await floor.link.start()
    bearers = [token(f"user-{number}") for number in range(CONNECTS)]
    publishers = [Publisher(await connected(edge, bearers[number]), number) for number in range(CLIENTS)]
    bare = [Publisher(FloorSocket(floor), number) for number in range(CLIENTS)]
    cases: dict[str, Callable[[], Awaitable[int]]] = {
        **{
            f"publish{history}, {window} in flight": lambda namespace=namespace, window=window: publishes(
                publishers, namespace, window
            )
            for history, namespace in NAMESPACES.items()
            for window in WINDOWS
        },
        **{f"floor with history, {window} in flight": floor_of(bare, window) for window in WINDOWS},
        "connect": lambda: connects(edge, bearers),
    }
    if profile:
        await cases[profile]()
        profiler = cProfile.Profile(time.thread_time)
        profiler.enable()
        count = await cases[profile]()
        profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
        print(count, "commands")
        await stop(edge, floor)
        return
    spent: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, work in cases.items():
            spent[name].append(await measured(work))
    for name, costs in spent.items():
        print(
            f"{name:34} {statistics.median(costs):7.2f} us  ({min(costs):.2f} to {max(costs):.2f})",
            flush=True,
        )
    await stop(edge, floor)


async def stop(edge: Edge, floor: Floor) -> None:
    """End both."""
    await floor.link.close()
    await edge.stop()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser()
    names = [
        *(f"publish{history}, {window} in flight" for history in NAMESPACES for window in WINDOWS),
        *(f"floor with history, {window} in flight" for window in WINDOWS),
        "connect",
    ]
    parser.add_argument("--profile", default="", choices=names, help="print where the time of this goes")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        NatsServer(Path(folder), config=mapping(), jetstream=True) as nats,
    ):
        unlimited: dict[str, Any] = {
            "channel": {"namespaces": [{"name": "live", **OPEN}, {"name": "log", **OPEN, **KEPT}]},
            "client": {
                "command_rate_limit": 0,
                "connection_rate_limit": 0,
                "max_loop_lag": "0s",
                "ping_interval": "10m",
            },
        }
        config = decode(EdgeConfig, written_config(nats.url, unlimited))
        uvloop.run(create_streams(nats.url, written_config(nats.url, unlimited)))
        log = structlog.make_filtering_bound_logger(30)
        edge = Edge(config, structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=log), lambda: config)
        uvloop.run(bench(edge, Floor(nats.url), options.profile))


if __name__ == "__main__":
    main()
