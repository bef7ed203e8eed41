"""At saturation, with slow readers among the fast: every publication once and in order, or a gapless prefix of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bench.load.measure import Measurement
from bench.load.tools import Fleet, Generator, build
from tests.support.checker import Checker, Record, payload, record
from tests.support.edges import PATIENT, EdgeProcess, edge_config, mapping, token
from tests.support.nats_server import NatsServer
from tests.support.protocol import protocol
from tests.support.raw_client import RawClient, publication
from tests.support.wait import PATIENCE, eventually

BUILD = Path(__file__).resolve().parents[2] / "build" / "bench"
CHANNEL = "live:0"
FAST = 1_000
SLOW = 3
"""Slow readers of each kind."""
SIZE = 4_096
QUEUE = 2 << 20
BEHIND = 200
"""Publications by which those that catch up fall behind: more bytes than the kernel takes, and less than half of QUEUE."""
GONE = 1006
"""The code of a connection that has ended without a word."""
SECONDS = 2.0
ROUNDS = 20
"""Mostly two are enough for everybody who never reads to be closed; a slow machine publishes less in each."""


def filler(size: int) -> str:
    """Return the letters that the generator fills a payload of `size` bytes with (bench/load/payload.c)."""
    state, letters = 1, []
    for _ in range(size - 47):
        state = (state * 1664525 + 1013904223) % (1 << 32)
        letters.append(chr(ord("a") + (state >> 16) % 26))
    return "".join(letters)


class Reader:
    """A client that notes what it hears; the first publication of a round begins with sequence 0."""

    def __init__(self, name: str, checker: Checker) -> None:
        self.name = name
        self.heard: list[Record] = []
        self._checker = checker
        self._round = 0

    async def join(self, url: str) -> None:
        """Connect with a small window and small segments, so that the kernel keeps little for who does not read."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 15)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1_400)
        self.client = await RawClient(url, self._on_push, sock=sock).open()
        await self.client.connect(token(self.name))
        assert "subscribe" in await self.client.command(subscribe={"channel": CHANNEL})

    def _on_push(self, line: bytes) -> None:
        found = publication(line)
        assert found is not None
        channel, data = found[0], found[1]["data"]
        sequence = int(data["s"], 16)
        self._round += sequence == 0
        got = record(channel, payload(f"round {self._round}", sequence + 1, x=data["x"]))
        self.heard.append(got)
        self._checker.received(self.name, got)


class Readers:
    """Those that this process reads for."""

    def __init__(self, checker: Checker) -> None:
        def some(kind: str, *, throughout: bool = True) -> list[Reader]:
            names = [f"{kind}-{number}" for number in range(SLOW)]
            for name in names:
                checker.subscribed(name, [CHANNEL], throughout=throughout)
            return [Reader(name, checker) for name in names]

        self.prompt, self.pausing, self.never = (
            some("prompt"),
            some("pausing"),
            some("never", throughout=False),
        )
        self.pauses = 0

    @contextlib.asynccontextmanager
    async def joined(self, url: str) -> AsyncIterator[None]:
        """Have all join, and those that never read begin with that; all are cut on exit."""
        with contextlib.ExitStack() as stack:
            for reader in (*self.prompt, *self.pausing, *self.never):
                await reader.join(url)
                stack.callback(reader.client.abort)
            for reader in self.never:
                reader.client.pause()
            yield

    @contextlib.asynccontextmanager
    async def pauses_being_made(self) -> AsyncIterator[None]:
        """Let those that pause do so time and again; on exit they read on."""
        tasks = [asyncio.create_task(self._pause(reader)) for reader in self.pausing]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pause(self, reader: Reader) -> None:
        """Stop reading until far behind one that reads, and read until caught up."""
        (first, *_) = self.prompt
        try:
            while True:
                reader.client.pause()
                behind = len(reader.heard) + BEHIND
                await eventually(lambda: len(first.heard) >= behind)  # noqa: B023 - awaited at once
                reader.client.resume()
                self.pauses += 1
                await eventually(lambda: len(reader.heard) >= len(first.heard))
        finally:
            reader.client.resume()


@pytest.fixture(scope="module")
def program() -> Path:
    """The load generator."""
    return build(BUILD) / "loadgen"


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[EdgeProcess]:
    """An edge that gives slow clients a little more room than by default, as this process may be late itself."""
    changes = {"client": {**PATIENT, "queue_max_size": QUEUE}, "websocket": {"close_timeout": "500ms"}}
    with (
        NatsServer(tmp_path / "nats", config=mapping()) as nats,
        EdgeProcess(tmp_path, edge_config(nats.url, changes)) as running,
    ):
        yield running


def publish(fleet: Fleet, number: int) -> list[Record]:
    """Publish for a round as fast as all the fast ones receive it, 16 in flight; they must be given each once, in order."""
    order = {"publishers": 1, "window": 16, "payload": SIZE, "warmup": 0, "seconds": SECONDS}
    said = fleet.run(order, lambda _: None)
    assert Measurement(0, 0, 0, 0, said).faults == {}
    assert said["all_deliveries"] == said["all_published"] * FAST > 0
    text = filler(SIZE)
    sequences = range(1, said["all_published"] + 1)
    return [record(CHANNEL, payload(f"round {number}", sequence, x=text)) for sequence in sequences]


@contextlib.asynccontextmanager
async def fast_readers(edge: EdgeProcess, program: Path, folder: Path) -> AsyncIterator[Fleet]:
    """Those that the load generator reads for; the first of them publishes."""
    tokens = folder / "tokens.txt"
    tokens.write_text(f"{token('fast')}\n")
    with Generator(program, edge.port, "centrifuge", tokens) as generator:
        fleet = Fleet([generator])

        async def all_connected() -> bool:
            """An edge that stands still for a second refuses who has waited so long for an answer, and the generator does not ask again."""
            if (await asyncio.to_thread(fleet.connect, FAST))["done"] == FAST:
                return True
            await asyncio.to_thread(fleet.close)
            return False

        await eventually(all_connected)
        assert (await asyncio.to_thread(fleet.subscribe, 1, "live:"))["done"] == FAST
        yield fleet


def closed(edge: EdgeProcess) -> list[tuple[str, int]]:
    """Whom the edge has closed, with which code; those that went by themselves before all were connected are left out."""
    lines = edge.logged("connection.closed")
    return [(line["user"], line["code"]) for line in lines if line["code"] != GONE]


@protocol("close.slow", "disconnect.3008")
async def test_everyone_hears_each_publication_once_and_in_order_or_a_prefix_until_closed(
    edge: EdgeProcess, program: Path, tmp_path: Path
) -> None:
    """A thousand fast ones (whom the generator checks), some that pause and catch up, some that never read."""
    checker = Checker()
    readers = Readers(checker)
    sent: list[Record] = []
    async with fast_readers(edge, program, tmp_path) as fleet, readers.joined(edge.ws_url):
        async with readers.pauses_being_made():
            for number in range(1, ROUNDS + 1):
                sent += await asyncio.to_thread(publish, fleet, number)
                if readers.pauses >= SLOW and len(closed(edge)) >= SLOW:
                    break
            else:
                raise AssertionError(f"{len(sent)} publications have closed nobody who never reads")
        for each in sent:
            checker.acknowledged(each)
        await checker.check_when_complete(PATIENCE)
        assert readers.pauses >= SLOW
        assert sorted(closed(edge)) == [(reader.name, 3008) for reader in readers.never]
        for reader in readers.never:
            reader.client.resume()
            async with asyncio.timeout(PATIENCE):
                await reader.client.gone.wait()
            assert 0 < len(reader.heard) < len(sent)
            assert reader.heard == sent[: len(reader.heard)]
        checker.check()
    print(f"{readers.pauses} pauses; {checker.counts}")
