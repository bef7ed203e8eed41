"""Streams that a test can do everything to, as the history service's ports; what happens meanwhile is the test's, too."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tests.fakes.clock import ManualClock
from tests.fakes.log import RecordingLog
from tidewire.history.answers import Answer, Query, Since
from tidewire.history.cache import Cache
from tidewire.history.config import HistoryConfig
from tidewire.history.feed import Facts
from tidewire.history.followers import Followers
from tidewire.history.messages import Message
from tidewire.history.namespaces import Namespaces
from tidewire.history.ports import StoreAway
from tidewire.history.positions import Positions
from tidewire.history.reader import Reader
from tidewire.history.records import ABSENT, Record
from tidewire.history.supply import Supply
from tidewire.kernel.config import decode

STREAM = "TW_default_0"
KEY = "tw.in.0.chat.{}"


def history_config(size: int = 8, **service: Any) -> HistoryConfig:
    """Return a configuration with one partition and a namespace `chat`."""
    namespace = {"name": "chat", "history_size": size, "history_ttl": "1h"}
    return decode(
        HistoryConfig,
        {"nats": {"partitions": 1}, "channel": {"namespaces": [namespace]}, "history_service": service},
    )


class FakeStream:
    """One stream: what it has ever stored, and what is left of it."""

    def __init__(self, clock: ManualClock, limit: int = 100) -> None:
        self.clock = clock
        self.limit = limit
        self.created = "2026-01-01T00:00:00Z"
        self.generation = 0
        self.last = 0
        self.first = 1
        self.ever: list[Message] = []
        self.stored: dict[int, Message] = {}

    def publish(self, key: bytes, data: bytes = b"") -> Message:
        """Store a publication and return it as it is published again."""
        self.last += 1
        before = [message.sequence for message in self.of(key)]
        if len(before) == self.limit:
            del self.stored[before[0]]
        time_ns = int(self.clock.wall() * 1e9) + self.last
        last = before[-1] if before and self.limit > 1 else 0
        message = Message(STREAM.encode(), key, self.last, time_ns, last, b"", data or b"%d" % self.last)
        self.stored[self.last] = message
        self.ever.append(message)
        self._move()
        return message

    def of(self, key: bytes) -> list[Message]:
        """Return what is left of a subject."""
        return [message for message in self.stored.values() if message.key == key]

    def expire(self, count: int) -> None:
        """Lose the oldest publications of all."""
        for sequence in sorted(self.stored)[:count]:
            del self.stored[sequence]
        self._move()

    def purge(self, key: bytes, through: int) -> int:
        """Lose a subject."""
        gone = [message.sequence for message in self.of(key) if message.sequence <= through]
        for sequence in gone:
            del self.stored[sequence]
        self._move()
        return len(gone)

    def _move(self) -> None:
        self.first = min(self.stored, default=self.last + 1)


class FakeStore:
    """`ports.Store` on one stream."""

    def __init__(self, stream: FakeStream) -> None:
        self.stream = stream
        self.away = False
        self.missing = False
        self.calls: Counter[str] = Counter()
        self.meanwhile: list[Callable[[], object]] = []
        """What happens during the next calls, one for each."""

    @property
    def waiting(self) -> int:
        return 0

    async def _called(self, name: str) -> None:
        self.calls[name] += 1
        await asyncio.sleep(0)
        if self.meanwhile:
            self.meanwhile.pop(0)()
        if self.away:
            raise StoreAway("the test says so")

    async def facts(self, stream: str, subject: bytes = b"") -> Facts | None:
        await self._called("facts")
        if self.missing:
            return None
        found = self.stream
        last = max(found.stored.values(), key=lambda message: message.sequence, default=None)
        return Facts(
            created=found.created,
            generation=found.generation,
            first=found.first if found.last else 0,
            last=found.last,
            last_time_ns=last.time_ns if last is not None else 0,
            limit=found.limit,
            count=len(found.of(subject)),
        )

    async def fetch(self, stream: str, sequences: Iterable[int]) -> Mapping[int, Message]:
        await self._called("fetch")
        return {each: self._read(each) for each in sequences if each in self.stream.stored}

    async def newest_of(
        self, stream: str, subjects: Sequence[bytes], up_to: int
    ) -> Mapping[bytes, Message | None]:
        await self._called("newest_of")
        found = {subject: self.stream.of(subject) for subject in subjects}
        return {key: self._read(left[-1].sequence) if left else None for key, left in found.items()}

    async def oldest(self, stream: str, subject: bytes) -> Message | None:
        await self._called("oldest")
        left = self.stream.of(subject)
        return self._read(left[0].sequence) if left else None

    async def scan(self, stream: str, subject: bytes, since: int, until: int, most: int) -> Sequence[Message]:
        await self._called("scan")
        found = [each.sequence for each in self.stream.of(subject) if since < each.sequence <= until]
        return [self._read(sequence) for sequence in found[: most + 1]]

    async def purge(self, stream: str, subject: bytes, through: int) -> int:
        await self._called("purge")
        return self.stream.purge(subject, through)

    def _read(self, sequence: int) -> Message:
        return msgspec.structs.replace(self.stream.stored[sequence], last=None)


class FakeNotebook:
    """`ports.Notebook`."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.revision = 0
        self.away = False
        self.lagging: dict[str, Record] | None = None
        """What a replica that lags says."""

    async def read_all(self, streams: Sequence[str]) -> Mapping[str, Record]:
        await self._called()
        return dict(self.records if self.lagging is None else self.lagging)

    async def read(self, key: str) -> Record:
        await self._called()
        return self.records.get(key, ABSENT)

    async def write(self, key: str, value: bytes, revision: int, epoch: str = "") -> bool:
        await self._called()
        if self.records.get(key, ABSENT).revision != revision:
            return False
        self.revision += 1
        self.records[key] = Record(value, self.revision, epoch)
        return True

    async def _called(self) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise StoreAway("the test says so")


class CountingMetrics:
    """`ports.Metrics`."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()

    def heard(self, profile: str) -> None:
        self.counts["heard", profile] += 1

    def dropped(self, reason: str) -> None:
        self.counts["dropped", reason] += 1

    def repaired(self, outcome: str, count: int = 1) -> None:
        self.counts["repaired", outcome] += count

    def life_changed(self, reason: str) -> None:
        self.counts["life", reason] += 1

    def read(self, source: str, outcome: str) -> None:
        self.counts["read", source, outcome] += 1

    def refused(self) -> None:
        self.counts[("refused",)] += 1

    def joined(self) -> None:
        self.counts[("joined",)] += 1

    def positions(self, source: str, count: int) -> None:
        self.counts["positions", source] += count

    def purged(self) -> None:
        self.counts[("purged",)] += 1


class FakeHistory:
    """A history service on one stream; `look` is called by the test, or by reads that wait for it."""

    def __init__(
        self,
        stream: FakeStream | None = None,
        notebook: FakeNotebook | None = None,
        size: int = 8,
        budget: int = 1 << 20,
        limit: int = 100,
    ) -> None:
        self.clock = stream.clock if stream is not None else ManualClock()
        self.stream = stream or FakeStream(self.clock, limit)
        self.store = FakeStore(self.stream)
        self.notebook = notebook or FakeNotebook()
        self.metrics = CountingMetrics()
        self.log = RecordingLog()
        self.cache = Cache(budget)
        namespaces = Namespaces(history_config(size), 1, [0])
        log: Any = self.log
        self.followers = Followers(
            namespaces, self.cache, self.store, self.notebook, self.metrics, log, self.clock
        )
        self.supply = Supply(self.cache, self.store, self.notebook)
        self.reader = Reader(
            self.followers, self.cache, self.store, self.supply, self.metrics, self.clock, 5.0
        )
        self.positions = Positions(
            self.reader, self.followers, self.cache, self.supply, self.metrics, self.clock
        )
        self.followers.looked = self.look  # type: ignore[method-assign] # who waits for one makes one

    @property
    def follower(self) -> Any:
        """The only follower."""
        return self.followers.by_stream[STREAM]

    async def look(self) -> None:
        """Look at the stream."""
        await self.followers.look()

    def hear(self, message: Message) -> None:
        """Deliver a publication live."""
        self.follower.hear(message)

    def publish(self, name: str) -> Message:
        """Publish and deliver."""
        message = self.stream.publish(KEY.format(name).encode())
        self.hear(message)
        return message

    async def read(self, name: str, since: tuple[int, str] | None = None, **fields: Any) -> Answer:
        """Read a channel."""
        position = None if since is None else Since(*since)
        asked: dict[str, Any] = {
            "limit": 100,
            "reverse": False,
            "max_bytes": 1 << 20,
            "at_least": 0,
            "recover": False,
            **fields,
        }
        return await self.reader.read(Query(f"chat:{name}", position, **asked))

    async def recover(self, name: str, offset: int, epoch: str | None = None, **fields: Any) -> Answer:
        """Recover a channel, in the present epoch."""
        known = self.follower.feed.epoch if epoch is None else epoch
        return await self.read(name, (offset, known), recover=True, **fields)
