"""Clients that come, go, publish under a rule and come back, and those who watch them: what they know is the truth."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from random import Random
from typing import Any

from tests.chaos.spent import Spent
from tests.support.edges import token
from tests.support.raw_client import RawClient, Refused
from tests.support.wait import eventually

FULL = [f"room:full-{number}" for number in range(10)]
"""Channels that every resident is in."""
SIDE = [f"room:side-{number}" for number in range(10)]
"""Further ones, of those who come and go and of the watchers."""
CHANNELS = [*FULL, *SIDE]
LONG = 120.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds before a client comes back, at first and at most."""
AT_ONCE = 40
"""Residents that are about to come in."""
STEP, BURST = 0.4, 8
"""Seconds between two steps of a guest, and its publications at once: all together are about twice what the rule allows."""
TEMPORARY = 100
OUTCOMES = {0: "allowed", 111: "refused", TEMPORARY: "error 100", -1: "lost"}
"""Of a publication, by the code of its error; lost: its connection ended first."""
LOST = (OSError, TimeoutError, Refused)
"""What becomes of a command or a connection when its edge ends."""


class Book:
    """What all clients have met together."""

    def __init__(self) -> None:
        self.members: dict[str, Attendee] = {}
        """By client id; those that are gone as well."""
        self.joins = 0
        self.outcomes: Counter[str] = Counter()
        """Of publications, and of questions who is there."""
        self.spent: defaultdict[str, Spent] = defaultdict(Spent)
        self.meanwhile = "begin"  # which fault happens
        self.surprises: list[str] = []
        """What no fault excuses, and meanwhile which happened."""

    def surprise(self, what: str) -> None:
        """Note what no fault excuses."""
        self.surprises.append(f"{self.meanwhile}: {what}")

    @property
    def present(self) -> dict[str, dict[str, str]]:
        """The user of each client, by channel."""
        found: dict[str, dict[str, str]] = {channel: {} for channel in CHANNELS}
        for client, member in self.members.items():
            for channel in member.present:
                found[channel][client] = member.user
        return found

    @property
    def leaves(self) -> int:
        """How often one of those who joined has left, or was cut off."""
        return self.joins - sum(map(len, self.present.values()))

    @property
    def connections(self) -> int:
        """Those that are open."""
        return sum(member.is_open for member in self.members.values())


class Attendee:
    """One connection, and the channels that it is in. It joins each of them once, so that it leaves each of them once."""

    def __init__(self, book: Book, user: str) -> None:
        self.user = user
        self.id = ""
        self.leaves: Counter[tuple[str, str]] = Counter()
        """That it was told: channel, client."""
        self._book = book
        self._client: RawClient
        self._channels: set[str] = set()

    @property
    def is_open(self) -> bool:
        """Whether it is connected."""
        return bool(self.id) and not self.gone.is_set()

    @property
    def gone(self) -> asyncio.Event:
        """The end of the connection."""
        return self._client.gone

    @property
    def present(self) -> set[str]:
        """The channels that it is in."""
        return self._channels if self.is_open else set()

    async def enter(self, url: str) -> None:
        """Connect. Raises LOST."""
        self._client = await RawClient(url, self._pushed).open()
        reply = await self.ask(connect={"token": token(self.user)})
        if "connect" not in reply:
            self.abort()
            raise ConnectionError(reply["error"]["message"])
        self.id = reply["connect"]["client"]
        self._book.members[self.id] = self

    async def ask(self, **command: object) -> dict[str, Any]:
        """Send one command. Raises LOST, and the connection is gone then."""
        try:
            if self.gone.is_set():
                raise ConnectionError
            return await self._client.command(**command)
        except (*LOST, asyncio.CancelledError):
            self.abort()
            raise

    async def join(self, channel: str, **fields: object) -> None:
        """Subscribe. Raises LOST, as well when it is told to try again."""
        reply = await self.ask(subscribe={"channel": channel, **fields})
        if "subscribe" not in reply:
            self.abort()
            raise ConnectionError(reply["error"]["message"])
        self._channels.add(channel)
        self._book.joins += 1

    async def leave(self, channel: str) -> None:
        """Unsubscribe."""
        self._channels.discard(channel)
        await self.ask(unsubscribe={"channel": channel})

    def abort(self) -> None:
        """Go without a word."""
        self._channels = set()
        self._client.abort()

    async def publish(self) -> None:
        """Publish a few times at once, and note what comes of it."""
        sent = time.monotonic()
        command = {"channel": "live:x", "data": 1}
        replies: list[Any] = await asyncio.gather(
            *(self.ask(publish=command) for _ in range(BURST)), return_exceptions=True
        )
        done = time.monotonic()
        for reply in replies:
            code = -1 if isinstance(reply, LOST) else reply.get("error", {}).get("code", 0)
            name = OUTCOMES.get(code, f"error {code}")
            self._book.outcomes[f"publish: {name}"] += 1
            if code not in OUTCOMES:
                self._book.surprise(f"a publication got {reply}")
            if name == "allowed":
                self._book.spent[self.user].taken.append((sent, done))

    def _pushed(self, line: bytes) -> None:
        push = json.loads(line)["push"]
        if "leave" in push:
            left = (push["channel"], push["leave"]["info"]["client"])
            self.leaves[left] += 1
            member = self._book.members.get(left[1])
            if member is not None and left[0] in member.present:
                self._book.surprise(f"{left} has left, and is there")
        elif "unsubscribe" in push:
            self._channels.discard(push["channel"])
            self._book.surprise(f"{self.user} was unsubscribed: {push}")


class Crowd:
    """Residents on one edge, guests on any, and a watcher on each edge that stays, who asks as well."""

    def __init__(
        self, full: str, others: Sequence[str], dice: Random, *, residents: int, guests: int
    ) -> None:
        self.book = Book()
        self.watchers: list[Attendee] = []
        self._full = full
        self._others = others
        self._dice = dice
        self._door = asyncio.Semaphore(AT_ONCE)
        self._going = asyncio.Event()
        self._standing = 0
        self._residents: dict[int, Attendee] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._wanted, self._guests = residents, guests

    async def begin(self) -> None:
        """Let all come, watchers first."""
        for number, url in enumerate(self._others):
            watcher = Attendee(self.book, f"watcher-{number}")
            await watcher.enter(url)
            for channel in CHANNELS:
                await watcher.join(channel, join_leave=True)
            self.watchers.append(watcher)
        self._going.set()
        work = [*map(self._reside, range(self._wanted)), *map(self._visit, range(self._guests))]
        self._tasks = [asyncio.ensure_future(each) for each in work]
        await self.all_reside()

    async def all_reside(self) -> None:
        """Wait until each resident is in each of its channels."""
        await eventually(lambda: len(self.living) == self._wanted, LONG, "all residents")

    def begin_asking(self) -> None:
        """Let watchers ask, now that everybody is known to be there."""
        self._tasks += [asyncio.ensure_future(self._ask(watcher)) for watcher in self.watchers]

    @property
    def living(self) -> list[Attendee]:
        """Residents that are where they want to be."""
        return [each for each in self._residents.values() if len(each.present) == len(FULL)]

    async def hold(self) -> None:
        """Let nobody come or go, once all residents are there."""
        await self.all_reside()
        self._going.clear()
        await eventually(lambda: self._standing == self._guests, LONG, "guests that stand still")

    def go_on(self) -> None:
        """Let them."""
        self._going.set()

    async def end(self) -> None:
        """Let all go."""
        for task in self._tasks:
            task.cancel()
        for member in self.book.members.values():
            member.abort()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def _reside(self, number: int) -> None:
        pause = FIRST_PAUSE
        while True:
            resident = Attendee(self.book, f"resident-{number % 50}")
            try:
                async with self._door:
                    await resident.enter(self._full)
                    await asyncio.gather(*(resident.join(channel) for channel in FULL))
            except LOST:
                pause = await self._back_off(pause)
                continue
            self._residents[number] = resident
            await resident.gone.wait()
            pause = await self._back_off(FIRST_PAUSE)

    async def _visit(self, number: int) -> None:
        pause = FIRST_PAUSE
        while True:
            guest = Attendee(self.book, f"guest-{number % 4}")
            try:
                await self._stay(guest)
                pause = FIRST_PAUSE
            except LOST:
                pause = await self._back_off(pause)

    async def _stay(self, guest: Attendee) -> None:
        """Join, publish, leave some, and go; between any two steps a guest may have to stand still."""
        await self._step()
        await guest.enter(self._dice.choice([self._full, *self._others]))
        channels = self._dice.sample(CHANNELS, 5)
        for channel in channels:
            await guest.join(channel)
        for channel in channels[: self._dice.randrange(len(channels))]:
            await self._step()
            await guest.publish()
            await guest.leave(channel)
        await self._step()
        guest.abort()

    async def _step(self) -> None:
        await asyncio.sleep(STEP * self._dice.random() * 2)
        self._standing += 1
        await self._going.wait()
        self._standing -= 1

    async def _back_off(self, pause: float) -> float:
        await asyncio.sleep(pause * self._dice.uniform(0.5, 1))
        return min(2 * pause, LONGEST_PAUSE)

    async def _ask(self, watcher: Attendee) -> None:
        """Ask who is there: the watchers are always in the list, or there is none."""
        always = {each.id for each in self.watchers}
        while True:
            channel = self._dice.choice(CHANNELS)
            reply = await watcher.ask(presence={"channel": channel})
            if "error" in reply:
                code = reply["error"]["code"]
                self.book.outcomes[f"presence: error {code}"] += 1
                if code != TEMPORARY:
                    self.book.surprise(f"presence of {channel}: {reply}")
            else:
                found = reply["presence"]["presence"].keys()
                self.book.outcomes["presence: a list"] += 1
                if not always <= found:
                    self.book.surprise(f"a list of {len(found)} without those who are in {channel}")
            await asyncio.sleep(STEP)
