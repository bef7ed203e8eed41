"""Many connections of one process, which connect and recover: driven by lines of JSON on standard input, each answered by one.

`{"aim": port, "tokens": file, "channels": N, "positions": [[offset, epoch], ..], "expect": M}` says whither and to what;
`{"storm": [first, last]}` opens connections of these numbers, each of which subscribes to a channel with its position;
`{"connect": [first, last]}` opens them only, and `{"subscribe": [first, last]}` lets all of them subscribe at once. They answer with
the time (CLOCK_MONOTONIC) at which each was there, and what went wrong. `{"close": true}` ends all.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, cast

import uvloop

from tests.support.foe import HEAD_END, STATUS, head, text

PENDING = 64
"""Connections of a process that are under way at a time."""
PONG = text({})
SOURCES = 8


class Line(asyncio.Protocol):
    """One connection; `there` is set when it has come as far as it should."""

    def __init__(self, flock: Flock, number: int) -> None:
        self._flock = flock
        self._number = number
        self._received = bytearray()
        self._upgraded = False
        self._recovers = False
        self.there: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.tcp: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self.tcp = cast("asyncio.Transport", transport)
        self.tcp.write(head())

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._received += data
        if not self._upgraded:
            if HEAD_END not in self._received:
                return
            if not self._received.startswith(STATUS + b"101"):
                self.fail(self._received[len(STATUS) : len(STATUS) + 3].decode())
                return
            del self._received[: self._received.index(HEAD_END) + len(HEAD_END)]
            self._upgraded = True
            self.tcp.write(self._flock.hello(self._number, storm=self._recovers))
        while (frame := self._frame()) is not None:
            for line in frame.split(b"\n"):
                self._take(line)

    def _frame(self) -> bytes | None:
        """Take a whole frame of an edge, which is never masked."""
        received = self._received
        if len(received) < 4:  # the shortest that comes is a ping, {}
            return None
        size, body = received[1], 2
        if size > 125:
            width = 2 if size == 126 else 8
            size, body = int.from_bytes(received[2 : 2 + width], "big"), 2 + width
        if len(received) < body + size:
            return None
        payload = bytes(received[body : body + size])
        del received[: body + size]
        return payload

    def _take(self, line: bytes) -> None:
        if line == b"{}":
            self.tcp.write(PONG)
        elif b'"error"' in line[:20]:
            self.fail(line[:200].decode())
        elif line.startswith(b'{"id":2,'):
            expect = self._flock.expect
            if b'"recovered":true' not in line or line.count(b'"data":') != expect:
                self.fail(f"not {expect} recovered: {line[:200]!r}")
            else:
                self.there.set_result(time.monotonic())
        elif line.startswith(b'{"id":1,') and not self._recovers:
            self.there.set_result(time.monotonic())

    def fail(self, why: str) -> None:
        """Note why it has not come there."""
        if not self.there.done():
            self.there.set_exception(ConnectionError(why))

    def connection_lost(self, _exc: Exception | None) -> None:
        """See asyncio."""
        self.fail("cut")

    def storm(self) -> Line:
        """Subscribe with the connect command."""
        self._recovers = True
        return self

    def subscribe(self) -> asyncio.Future[float]:
        """Subscribe now."""
        self._recovers = True
        self.there = asyncio.get_running_loop().create_future()
        if self.tcp.is_closing():
            self.fail("it was not connected")
        else:
            self.tcp.write(self._flock.subscribe(self._number))
        return self.there


class Flock:
    """The connections."""

    def __init__(self) -> None:
        self._lines: dict[int, Line] = {}
        self.expect = 0

    def aim(self, order: dict[str, Any]) -> None:
        """Take what `aim` says."""
        self._port, self._channels, self.expect = order["aim"], order["channels"], order["expect"]
        self._positions = order["positions"]
        self._tokens = Path(order["tokens"]).read_text().splitlines()

    def hello(self, number: int, *, storm: bool) -> bytes:
        """Return a client's first frames."""
        token = self._tokens[number % len(self._tokens)]
        connect = text({"id": 1, "connect": {"token": token, "name": "storm"}})
        return connect + (self.subscribe(number) if storm else b"")

    def subscribe(self, number: int) -> bytes:
        """Return the frame that recovers."""
        channel = number % self._channels
        offset, epoch = self._positions[channel]
        asked = {"channel": f"live:{channel}", "recover": True, "offset": offset, "epoch": epoch, "flag": 1}
        return text({"id": 2, "subscribe": asked})

    async def open(self, first: int, last: int, *, storm: bool) -> list[Any]:
        """Open connections, a bounded number at a time; return how they ended."""
        room = asyncio.Semaphore(PENDING)
        return await asyncio.gather(*(self._open(room, number, storm=storm) for number in range(first, last)))

    async def _open(self, room: asyncio.Semaphore, number: int, *, storm: bool) -> Any:  # noqa: ANN401 - a time or why not
        async with room:
            line = self._lines[number] = Line(self, number)
            source = (f"127.0.0.{number % SOURCES + 1}", 0)
            made = lambda: line.storm() if storm else line  # noqa: E731 - as asyncio wants it
            loop = asyncio.get_running_loop()
            await loop.create_connection(made, "127.0.0.1", self._port, local_addr=source)
            return await _ended(line.there)

    async def perform(self, order: dict[str, Any]) -> Any:  # noqa: ANN401 - an order's answer
        """Carry out an order."""
        match order:
            case {"aim": _}:
                self.aim(order)
            case {"storm": [first, last]}:
                return _answer(await self.open(first, last, storm=True))
            case {"connect": [first, last]}:
                return _answer(await self.open(first, last, storm=False))
            case {"subscribe": [first, last]}:
                waiting = [self._lines[number].subscribe() for number in range(first, last)]
                return _answer(await asyncio.gather(*map(_ended, waiting)))
            case {"close": _}:
                for line in self._lines.values():
                    line.tcp.abort()
                self._lines.clear()
        return None


async def _ended(there: asyncio.Future[float]) -> float | str:
    try:
        return await there
    except ConnectionError as error:
        return str(error)


def _answer(ends: list[float | str]) -> dict[str, Any]:
    faults = Counter(end for end in ends if isinstance(end, str))
    return {"times": [end for end in ends if not isinstance(end, str)], "faults": dict(faults)}


async def main() -> None:
    """Follow orders until the input ends."""
    flock, reader = Flock(), asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        print(json.dumps(await flock.perform(json.loads(line))), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
