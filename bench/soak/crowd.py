"""A crowd of clients of one edge that come and go: `python -m bench.soak.crowd URL CLIENTS CHANNELS [CA FILE]`.

First one publishes to so many channels, which fills caches. Then so many clients are there at all times, each for a while
and each of a kind of its own. A line on standard input is answered by a line of JSON: how clients have ended, and how
many. The end of the input ends the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

from tests.support.edges import token
from tests.support.raw_client import RawClient, Refused

LIFETIME = 12.0
"""Mean of the seconds that a client stays."""
PAUSE = 3.0
"""Mean of the seconds between two things that a client does."""
FLOOD = "live:flood"
FLOOD_SIZE = 32_768
FLOOD_INTERVAL = 0.05
"""Both crowds publish so, 1.3 MB a second: the kernel keeps some 2.6 MB for a loopback connection that is not read."""
PATIENCE = 30.0
"""Seconds after which a client must have been closed that the edge has to close."""
OLD_USERS = 20
AT_ONCE = 100
"""Commands of the client that fills caches; not more than client.inflight_limit."""


class Crowd:
    """The clients of this process."""

    def __init__(self, url: str, tls: ssl.SSLContext | None) -> None:
        self._url = url
        self._tls = tls
        self._numbers = itertools.count()
        self.endings: Counter[str] = Counter()
        self._slow = 0
        kinds: list[tuple[int, str, Callable[[contextlib.ExitStack], Awaitable[str]]]] = [
            (60, "polite", self._polite),
            (20, "cut", self._cut),
            (6, "slow", self._slow_reader),
            (4, "silent", self._silent),
            (4, "expired", self._expired),
            (3, "forged token", self._forged),
            (3, "half a handshake", self._half),
        ]
        self._weights = [weight for weight, _, _ in kinds]
        self._kinds = [(name, live) for _, name, live in kinds]

    async def seat(self) -> None:
        """Have one client after the other, for good."""
        await asyncio.sleep(random.uniform(0, LIFETIME))
        while True:
            ((name, live),) = random.choices(self._kinds, self._weights)
            with contextlib.ExitStack() as stack:
                try:
                    ending = await live(stack)
                except (OSError, TimeoutError, Refused) as error:  # an edge that sheds load, for one
                    ending = f"{type(error).__name__}: {error}"
                    await asyncio.sleep(1)
            self.endings[f"{name}: {ending}"] += 1

    async def flood(self) -> None:
        """Publish much while there is a slow client, for good."""
        with contextlib.ExitStack() as stack:
            client = await self._joined(stack, "flood")
            for number in itertools.count():
                if self._slow:
                    data = {"number": number, "filler": "x" * FLOOD_SIZE}
                    await client.command(publish={"channel": FLOOD, "data": data})
                await asyncio.sleep(FLOOD_INTERVAL)

    async def fill_caches(self, channels: int) -> None:
        """Publish to so many channels, some at once: then what the edge remembers of names is as full as it will ever be."""
        with contextlib.ExitStack() as stack:
            client = await self._joined(stack, "filler")
            for start in range(0, channels, AT_ONCE):
                names = [self._own_channel() for _ in range(min(AT_ONCE, channels - start))]
                commands = [client.begin(publish={"channel": name, "data": {}}) for name in names]
                await asyncio.gather(*map(client.reply, commands))

    # One client each.

    async def _joined(self, stack: contextlib.ExitStack, user: str, *, ttl: float = 3600) -> RawClient:
        """Connect."""
        client = await self._open(stack)
        await client.connect(token(user, ttl=ttl))
        return client

    async def _open(self, stack: contextlib.ExitStack) -> RawClient:
        """Come from an address of its own, as a proxy tells it; whatever is left of it is cut at the end."""
        address = f"10.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(256)}"
        client = await RawClient(self._url, tls=self._tls, headers={"X-Forwarded-For": address}).open()
        stack.callback(client.abort)
        return client

    def _user(self) -> str:
        """Return a user: mostly a new one, else one of those that are often here."""
        return (
            f"old-{random.randrange(OLD_USERS)}" if random.random() < 0.25 else f"new-{next(self._numbers)}"
        )

    def _channel(self) -> str:
        """Return a channel: of everyone, of this minute, or of nobody else."""
        minute = int(time.time() / 60)
        room = f"live:room-{minute}-{random.randrange(10)}"
        return random.choice(("live:lobby", room, self._own_channel()))

    def _own_channel(self) -> str:
        """Return a channel that nobody has named before; all are equally long, so that caches of them keep their size."""
        return f"live:own-{next(self._numbers):010}"

    async def _busy(self, client: RawClient, user: str) -> None:
        """Subscribe, change channels and publish for a while."""
        end = time.monotonic() + random.expovariate(1 / LIFETIME)
        channels: set[str] = set()
        while time.monotonic() < end and not client.gone.is_set():
            while len(channels) < 3:
                channel = self._channel()
                if channel not in channels:
                    channels.add(channel)
                    more = {"token": token(user, channel=channel)} if random.random() < 0.2 else {}
                    await client.command(subscribe={"channel": channel, **more})
            data = {"text": "x" * random.randrange(400)}
            await client.command(publish={"channel": random.choice([*channels]), "data": data})
            left = channels.pop()
            await client.command(unsubscribe={"channel": left})
            await asyncio.sleep(random.expovariate(1 / PAUSE))

    async def _polite(self, stack: contextlib.ExitStack) -> str:
        user = self._user()
        client = await self._joined(stack, user)
        await self._busy(client, user)
        await client.close()
        return "1000"

    async def _cut(self, stack: contextlib.ExitStack) -> str:
        user = self._user()
        client = await self._joined(stack, user)
        await self._busy(client, user)
        return "aborted"

    async def _slow_reader(self, stack: contextlib.ExitStack) -> str:
        """Hear the flood, and stop reading."""
        client = await self._joined(stack, self._user())
        await client.command(subscribe={"channel": FLOOD})
        client.pause()
        self._slow += 1
        await asyncio.sleep(random.uniform(8, 12))
        self._slow -= 1
        client.resume()
        return await self._closed(client)

    async def _silent(self, stack: contextlib.ExitStack) -> str:
        """Answer no pings."""
        client = await self._joined(stack, self._user())
        client.answers_pings = False
        return await self._closed(client)

    async def _expired(self, stack: contextlib.ExitStack) -> str:
        """Have a token that lapses."""
        return await self._closed(await self._joined(stack, self._user(), ttl=1))

    async def _forged(self, stack: contextlib.ExitStack) -> str:
        client = await self._open(stack)
        client.begin(connect={"token": token(self._user(), key="another key, also 32 bytes long!")})
        return await self._closed(client)

    async def _half(self, stack: contextlib.ExitStack) -> str:
        """Stop in the middle of the request, or of the handshake of TLS."""
        host, _, port = self._url.partition("://")[2].partition("/")[0].partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        stack.callback(writer.close)
        writer.write(b"GET /connection/websocket HTTP/1.1\r\nHost: a\r\n"[: random.randrange(40)])
        async with asyncio.timeout(PATIENCE):
            await reader.read()
        return "closed"

    async def _closed(self, client: RawClient) -> str:
        """Wait for the edge to end a connection, and return its code."""
        async with asyncio.timeout(PATIENCE):
            await client.gone.wait()
        return str(client.close_code)


async def _orders(crowd: Crowd) -> None:
    """Answer each line until the input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        partial(asyncio.StreamReaderProtocol, reader), sys.stdin
    )
    while await reader.readline():
        print(json.dumps(crowd.endings), flush=True)


async def main(url: str, clients: int, channels: int, ca: str | None = None) -> None:
    """Keep so many clients there until the input ends; what no client may do ends it with a stack."""
    crowd = Crowd(url, ssl.create_default_context(cafile=ca) if ca else None)
    await crowd.fill_caches(channels)
    tasks = [asyncio.create_task(crowd.seat()) for _ in range(clients)]
    tasks += [asyncio.create_task(crowd.flood()), asyncio.create_task(_orders(crowd))]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


if __name__ == "__main__":
    _, where, size, names, *trusted = sys.argv
    asyncio.run(main(where, int(size), int(names), *trusted))
