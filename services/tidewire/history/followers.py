"""All the streams that this process follows: sorts what is heard, and looks at each of them every second."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tidewire.history.feed import Feed
from tidewire.history.follower import NO_STREAM, Follower
from tidewire.history.messages import message_of
from tidewire.history.namespaces import IN, OUT, token_of
from tidewire.history.ports import StoreAway
from tidewire.kernel.seldom import Seldom

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.history.cache import Cache
    from tidewire.history.namespaces import Namespaces
    from tidewire.history.ports import Metrics, Notebook, Store
    from tidewire.kernel.clock import Clock
    from tidewire.platform.nats_link import NatsLink

LOOK_SECONDS: Final = 1.0
SOON_SECONDS: Final = 0.05
"""Before a look that something asks for: others may ask for it as well."""


class Followers:
    """The followers by stream. `follow` and `receive` belong to the loop that `run` runs in."""

    def __init__(
        self,
        namespaces: Namespaces,
        cache: Cache,
        store: Store,
        notebook: Notebook,
        metrics: Metrics,
        log: FilteringBoundLogger,
        clock: Clock,
    ) -> None:
        self.namespaces = namespaces
        self.by_stream: dict[str, Follower] = {}
        self._parts = (cache, store, notebook, metrics, log, clock)
        self._cache = cache
        self._notebook = notebook
        self._metrics = metrics
        self._log = log
        self._seldom = Seldom(clock.monotonic)
        self._soon = asyncio.Event()
        self._looked: list[asyncio.Future[None]] = []
        self._subscribed: dict[int, int] = {}
        self.configure(namespaces)

    def configure(self, namespaces: Namespaces) -> None:
        """Follow the streams of these namespaces, and no others."""
        self.namespaces = namespaces
        for stream in [stream for stream in self.by_stream if stream not in namespaces.streams]:
            ended = self.by_stream.pop(stream)
            ended.namespaces = (
                namespaces  # a look at it may be under way: nothing of it enters a channel any more
            )
            self._cache.drop(ended.feed)
        for stream, (profile, partition) in namespaces.streams.items():
            if stream not in self.by_stream:
                feed = Feed(stream, profile, partition)
                self.by_stream[stream] = Follower(feed, namespaces, *self._parts)
            self._tell(self.by_stream[stream], namespaces)

    def _tell(self, follower: Follower, namespaces: Namespaces) -> None:
        """Give a follower other namespaces.

        What came of one while it had no history there was passed over: of its channels nothing is known, neither when it comes
        nor when it comes back.
        """
        feed, before = follower.feed, follower.namespaces.kept_by(follower.feed.profile)
        after = namespaces.kept_by(feed.profile)
        follower.namespaces = namespaces
        if changed := before ^ after:
            self._cache.drop(feed, lambda key: token_of(key) in changed)
        if after - before:
            feed.forgotten = feed.heard

    def subscribe(self, link: NatsLink) -> None:
        """Hear the partitions that are served."""
        wanted = {partition for _, partition in self.namespaces.streams.values()}
        for partition in wanted - self._subscribed.keys():
            sid = link.subscribe(b"%b%d.>" % (OUT, partition), self.receive)
            self._subscribed[partition] = sid
        for partition in self._subscribed.keys() - wanted:
            link.unsubscribe(self._subscribed.pop(partition))

    def receive(self, subject: bytes, _reply: bytes, header: bytes, payload: bytes) -> None:
        """Take a message on `tw.out`, if it is one that JetStream published again."""
        message = message_of(header, payload)
        if message is None or message.last is None:
            self._metrics.dropped("forged")
            return
        follower = self.by_stream.get(message.stream.decode("latin-1"))
        key = message.key
        if follower is None or key[len(IN) :] != subject[len(OUT) :] or not key.startswith(follower.begins):
            self._metrics.dropped("forged")
        elif follower.hear(message):
            self._soon.set()

    # ------------------------------------------------------------------ looking
    def doubt(self) -> None:
        """NATS was away: nothing is current until each stream was looked at."""
        for follower in self.by_stream.values():
            follower.doubt()
        self._soon.set()

    async def looked(self) -> None:
        """Return after the next look, which is made soon."""
        done = asyncio.get_running_loop().create_future()
        self._looked.append(done)
        self._soon.set()
        await done

    async def run(self) -> None:
        """Look at all streams for ever."""
        while True:
            self._soon.clear()  # before: who asks during a look gets the next one soon
            await self.look()
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._soon.wait()
                await asyncio.sleep(SOON_SECONDS)
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Look at all streams at once. What goes wrong is told, and the streams are not current."""
        waiting, self._looked = self._looked, []
        streams = list(self.by_stream)
        try:
            records = await self._notebook.read_all(streams)
            streams = [stream for stream in streams if stream in self.by_stream]
            found = await asyncio.gather(
                *(self.by_stream[stream].look(records) for stream in streams), return_exceptions=True
            )
            for stream, problem in zip(streams, found, strict=True):
                if problem is not None:
                    self._failed(stream, problem)
        except Exception as error:  # noqa: BLE001 - a mistake of ours is told, and ends nothing either
            for stream in streams:
                self._failed(stream, error)
        for done in waiting:
            if not done.done():
                done.set_result(None)

    def _failed(self, stream: str, problem: BaseException) -> None:
        if not isinstance(problem, Exception):
            raise problem
        if stream in self.by_stream:
            self.by_stream[stream].problem = str(problem) or type(problem).__name__
        if isinstance(problem, StoreAway):
            if self._seldom.allows("away"):
                self._log.warning("history.stream_away", stream=stream, problem=str(problem))
        elif self._seldom.allows("failed"):
            self._log.error("history.look_failed", stream=stream, exc_info=problem)

    @property
    def serves_some(self) -> bool:
        """Whether there is a stream that can be served."""
        return any(not one.problem for one in self.by_stream.values())

    @property
    def lacks_some(self) -> bool:
        """Whether there is none of a name that is to be followed, which no waiting mends."""
        return any(one.problem == NO_STREAM for one in self.by_stream.values())

    @property
    def problem(self) -> str | None:
        """Return why some stream cannot be served; None: all can."""
        return next((f"{name}: {one.problem}" for name, one in self.by_stream.items() if one.problem), None)
