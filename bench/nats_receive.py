"""CPU per message received from NATS: our link beside stock nats-py, on the same messages, runs alternated.

A thread of its own writes the messages to nats-server as raw protocol; what is measured is the CPU time of the receiving
thread alone. Prints microseconds per message, median and spread of the rounds.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats
import uvloop
from nats.aio.msg import Msg

from tests.support.nats_server import HOST, NatsServer
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import LinkOptions

MESSAGES = 100_000
PAYLOAD = b"x" * 128
HEADER = b'NATS/1.0\r\nTw-V: 1\r\nTw-Time: 1800000000000000\r\nTw-Info: {"user":"42","client":"c"}\r\n\r\n'
ROUNDS = 5
SUBJECT = b"tw.in.3.chat.room"


def blast(port: int) -> None:
    """Publish MESSAGES messages with headers."""
    size = len(HEADER) + len(PAYLOAD)
    message = b"HPUB %b %d %d\r\n%b%b\r\n" % (SUBJECT, len(HEADER), size, HEADER, PAYLOAD)
    with socket.create_connection((HOST, port)) as connection:
        connection.recv(65_536)
        connection.sendall(b'CONNECT {"verbose":false,"headers":true}\r\n')
        for _ in range(MESSAGES // 100):
            connection.sendall(message * 100)
        connection.sendall(b"PING\r\n")
        connection.recv(16)


class Counter:
    """Counts messages and remembers when the last one came."""

    def __init__(self) -> None:
        self.count = 0
        self.complete = asyncio.Event()

    def one(self) -> None:
        """Count a message."""
        self.count += 1
        if self.count == MESSAGES:
            self.complete.set()


class Quiet:
    """A link listener that needs nothing."""

    def link_away(self) -> None:
        """See LinkListener."""

    def link_back(self) -> None:
        """See LinkListener."""

    def chunk_end(self) -> None:
        """See LinkListener."""

    def link_error(self, kind: str) -> None:
        """See LinkListener."""
        print("link error:", kind)


async def measure(port: int, counter: Counter) -> float:
    """Return CPU microseconds of this thread per message."""
    publisher = threading.Thread(target=blast, args=(port,))
    began = time.thread_time()
    publisher.start()
    await asyncio.wait_for(counter.complete.wait(), 60)
    spent = time.thread_time() - began
    publisher.join()
    return spent / MESSAGES * 1e6


async def stock(server: NatsServer) -> float:
    """Receive by nats-py's own subscription."""
    counter = Counter()

    async def receive(_message: Msg) -> None:
        counter.one()

    client = await nats.connect(server.url)
    await client.subscribe(SUBJECT.decode(), cb=receive)
    await client.flush()
    try:
        return await measure(server.port, counter)
    finally:
        await client.close()


async def ours(server: NatsServer) -> float:
    """Receive by the link."""
    counter = Counter()
    link = NatsLink(LinkOptions(urls=(server.url,)), Quiet())
    await link.start()
    link.subscribe(SUBJECT, lambda *_: counter.one())
    ready = asyncio.Event()
    link.barrier(lambda _: ready.set(), 5)
    await ready.wait()
    try:
        return await measure(server.port, counter)
    finally:
        await link.close()


async def main() -> None:
    """Alternate the two, and print a line for each."""
    variants: dict[str, Callable[[NatsServer], Awaitable[float]]] = {"nats-py": stock, "tidewire": ours}
    results: dict[str, list[float]] = {name: [] for name in variants}
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder)) as server:
        for _ in range(ROUNDS):
            for name, receive in variants.items():
                results[name].append(await receive(server))
    for name, values in results.items():
        print(
            f"{name:10} {statistics.median(values):6.2f} us/message  ({min(values):.2f} to {max(values):.2f})"
        )
    ratio = statistics.median(results["nats-py"]) / statistics.median(results["tidewire"])
    print(f"ratio      {ratio:6.1f}x")


if __name__ == "__main__":
    uvloop.run(main())
