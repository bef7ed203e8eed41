"""Thousands of lean clients in one process: connect, subscribe, and come back as the official SDKs do.

Orders come as JSON lines on standard input, each is answered by one line: see `Herd` in tests/support/herd.py.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import uvloop
from websockets.frames import Opcode

from tests.support.edges import token
from tests.support.foe import HEAD_END, STATUS, frame, head, text

MIN_DELAY, MAX_DELAY = 0.5, 20.0
COMMAND_TIMEOUT = 5.0
"""Seconds after which the SDKs give up on a command, and here on all from the socket to the last reply."""
CHANNEL = "live:herd"
JOINED = b'{"id":3,"subscribe":{}}'
PING = b"{}"
PONG = frame(PING)
GOODBYE = frame((1000).to_bytes(2, "big"), Opcode.CLOSE)


def backoff(step: int) -> float:
    """Return the seconds to wait before an attempt, with the SDKs' full jitter."""
    return min(MAX_DELAY, MIN_DELAY + random.uniform(0, min(MAX_DELAY, MIN_DELAY * 2**step)))


class Member:
    """One client, over all of its connections."""

    def __init__(self, flock: Flock, number: int) -> None:
        self._flock = flock
        self.number = number
        self._attempts = 0
        self._commands = text(
            {"id": 1, "connect": {"token": token(f"herd-{number}")}},
            {"id": 2, "subscribe": {"channel": CHANNEL}},
            {"id": 3, "subscribe": {"channel": f"live:own-{number}"}},
        )
        self.joined = False
        self.cut_at = 0.0
        self.back_at = 0.0

    async def attempt(self) -> None:
        """Try to connect, to one edge after the other until one accepts, as a balancer would."""
        loop = asyncio.get_running_loop()
        for port in random.sample(self._flock.ports, len(self._flock.ports)):
            try:
                await loop.create_connection(lambda: Line(self, self._commands), "127.0.0.1", port)
            except OSError:
                continue
            return
        self.failed("refused")

    def welcomed(self) -> None:
        """Connected, and subscribed."""
        self._attempts = 0
        self.joined = True
        self.back_at = time.monotonic()
        self._flock.joined += 1

    def failed(self, why: str) -> None:
        """The connection or the attempt has ended: try again later."""
        if self.joined:
            self.joined, self.cut_at = False, time.monotonic()
            self._flock.joined -= 1
            self._flock.cut += 1
        self._flock.endings[why] += 1
        delay = backoff(self._attempts)
        self._attempts += 1
        loop = asyncio.get_running_loop()
        loop.call_later(delay, lambda: self._flock.spawn(self.attempt()))

    def hears(self, line: bytes) -> None:
        """A publication on the channel of all."""
        self._flock.heard.append((self.number, json.loads(line)["push"]["pub"]["data"]))


class Line(asyncio.Protocol):
    """One connection of a member."""

    def __init__(self, member: Member, commands: bytes) -> None:
        self._member = member
        self._commands = commands
        self._tcp: asyncio.Transport | None = None
        self._received = bytearray()
        self._patience: asyncio.TimerHandle | None = None
        self._ending = "timeout"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._tcp = cast("asyncio.Transport", transport)
        self._patience = asyncio.get_running_loop().call_later(COMMAND_TIMEOUT, self._tcp.abort)
        self._tcp.write(head())

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        assert self._tcp is not None
        self._received += data
        if self._commands and HEAD_END in self._received:
            status = bytes(self._received[len(STATUS) : len(STATUS) + 3])
            if status != b"101":
                self._ending = status.decode()
                self._tcp.close()
                return
            del self._received[: self._received.index(HEAD_END) + len(HEAD_END)]
            self._tcp.write(self._commands)
            self._commands = b""
        if not self._commands:
            self._read_frames(self._tcp)

    def _read_frames(self, tcp: asyncio.Transport) -> None:
        """Take whole frames of an edge, which are never masked."""
        while len(self._received) >= 4:
            opcode, size, body = self._received[0] & 0x0F, self._received[1], 2
            if size > 125:
                size, body = int.from_bytes(self._received[2:4], "big"), 4
            if len(self._received) < body + size:
                return
            payload = bytes(self._received[body : body + size])
            del self._received[: body + size]
            if opcode == Opcode.CLOSE:
                self._ending = str(int.from_bytes(payload[:2], "big"))
                tcp.write(GOODBYE)
            for line in payload.split(b"\n") if opcode == Opcode.TEXT else ():
                self._take(line, tcp)

    def _take(self, line: bytes, tcp: asyncio.Transport) -> None:
        if line == PING:
            tcp.write(PONG)
        elif line == JOINED:
            if self._patience is not None:
                self._patience.cancel()
            self._ending = "cut"
            self._member.welcomed()
        elif line.startswith(b'{"push"') and CHANNEL.encode() in line:
            self._member.hears(line)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        if self._patience is not None:
            self._patience.cancel()
        self._member.failed(self._ending)


class Flock:
    """The members of this process."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.heard: list[tuple[int, Any]] = []
        self.endings: Counter[str] = Counter()
        self.joined = self.cut = 0
        """Members that are connected and subscribed, and how often one was cut."""
        self._members: list[Member] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, attempt: Any) -> None:
        """Run an attempt."""
        task = asyncio.get_running_loop().create_task(attempt)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def begin(self, numbers: Sequence[int]) -> None:
        """Let members with these numbers come, at random within some seconds."""
        for number in range(*numbers):
            member = Member(self, number)
            self._members.append(member)
            loop = asyncio.get_running_loop()
            loop.call_later(
                random.uniform(0, len(range(*numbers)) / 500), lambda m=member: self.spawn(m.attempt())
            )

    def perform(self, order: Mapping[str, Any]) -> Any:
        """Carry out one order."""
        match order:
            case {"ports": ports}:
                self.ports = ports
            case {"begin": numbers}:
                self.begin(numbers)
            case {"ask": "counts"}:
                return self.joined, self.cut
            case {"ask": "times"}:
                endings, self.endings = self.endings, Counter()
                self.cut = 0
                return [[(member.cut_at, member.back_at) for member in self._members], endings]
            case {"ask": "heard"}:
                heard, self.heard = self.heard, []
                return heard
        return None


async def main() -> None:
    """Follow orders until the input ends."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    flock = Flock()
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        print(json.dumps(flock.perform(json.loads(line))), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
