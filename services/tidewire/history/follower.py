"""Follows one stream: hears what it publishes, finds what was not heard, and notices when it is not the stream it was."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from tidewire.history.feed import MOST_MISSING, Facts, Feed, Life
from tidewire.history.messages import Message
from tidewire.history.namespaces import IN
from tidewire.history.packed import heard
from tidewire.history.records import ABSENT, Purges, Record, Records, notes_of, purges_of, went_back
from tidewire.history.stream_notes import StreamNotes
from tidewire.history.timeline import Timeline
from tidewire.kernel.streams import epoch_of

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.history.cache import Cache
    from tidewire.history.namespaces import Namespaces
    from tidewire.history.ports import Metrics, Notebook, Store
    from tidewire.kernel.clock import Clock

NO_STREAM: Final = "there is no such stream: run `tidewire migrate`"
REPAIR_AT_ONCE: Final = 128
AT_A_TIME: Final = 1_000
"""Timelines that are told something in one go: a millisecond or two."""
CONFIRM_SECONDS: Final = 3.0
"""How long a stream must hold other publications than it held before its epoch is changed."""
ELECTION_SECONDS: Final = 15.0
"""How long, where it just ends too early: so does that of a leader which was elected and has not yet applied what it has.
It takes 4 to 9 s until there is one, and longer on a busy machine (3 s too late was seen after a node had stood still)."""
ON_ITS_WAY: Final = 0.1
"""Seconds that a publication may be on its way to us after its stream said that it is stored."""


class Follower:
    """One stream and its timelines. `namespaces` may change at any time, see `Followers.configure`."""

    def __init__(
        self,
        feed: Feed,
        namespaces: Namespaces,
        cache: Cache,
        store: Store,
        notebook: Notebook,
        metrics: Metrics,
        log: FilteringBoundLogger,
        clock: Clock,
    ) -> None:
        self.feed = feed
        self.begins = b"%b%d." % (IN, feed.partition)
        """What the subjects of its channels begin with."""
        self.namespaces = namespaces
        self.purges = Purges()
        self.problem = "it was not looked at yet"
        """Why it cannot be served; "" where it can."""
        self._cache = cache
        self._store = store
        self.notes = StreamNotes(feed.stream, notebook, clock)
        self._metrics = metrics
        self._log = log.bind(stream=feed.stream)
        self._clock = clock
        self._verified = False
        """Whether what is known of the stream was compared with it since the last time that it was out of sight."""
        self._known = (0, 0)
        """The last that was heard before, and its time stamp: it is newer than what is noted."""
        self._suspected_at = math.inf
        self._gone = 0
        """The newest of those that are gone unheard, where timelines do not know it yet: of which channel it was, nobody knows."""
        self._claimed = 0
        """The greatest position of this life that an edge holds beyond what was heard."""
        self._purges_revision = 0
        self._purged: dict[bytes, int] = {}
        """The purges that may be ahead of what was heard."""

    # ------------------------------------------------------------------ live
    def hear(self, message: Message) -> bool:
        """Take a publication of the stream; return whether it says that the stream should be looked at now."""
        feed = self.feed
        if not feed.epoch:
            return False
        if message.sequence <= feed.heard:
            other = feed.is_other(message)
            if other:
                self.doubt()
            return other
        ready = feed.take(message)
        for each in ready:
            self._apply(each)
        return not ready

    def doubt(self) -> None:
        """The stream was out of sight, or does not look like the one that was heard."""
        if self._verified:
            self._known = (self.feed.heard, self.feed.heard_time_ns)
        self._verified = False
        self.feed.doubt()

    def claim(self, sequence: int) -> None:
        """An edge has seen a publication of this life that the stream does not have: it went back, unless it comes yet."""
        self._claimed = max(self._claimed, sequence)

    def line(self) -> Timeline:
        """Return a new timeline for a channel without one: nothing of it was stored since the feed's floor."""
        return Timeline(self.feed, self.feed.floor, self.feed.heard)

    def _apply_all(self, messages: list[Message]) -> None:
        for message in messages:
            self._apply(message)

    def _apply(self, message: Message) -> None:
        key, profile = message.key, self.feed.profile
        namespace = self.namespaces.of_key(key)
        if namespace is None or namespace.profile != profile:
            self._metrics.dropped("no_history")
            return
        timeline = self._cache.get(key)
        if timeline is None:
            if not self.namespaces.is_channel(key):
                self._metrics.dropped("wildcard" if b"*" in key or b">" in key else "no_channel")
                return
            timeline = self._unseen(message)
        self._metrics.heard(profile)
        timeline.append(
            message.sequence,
            message.last,
            message.time_ns,
            heard(message),
            oldest_first=namespace.oldest_first,
        )
        if message.sequence <= self._purged.get(key, 0):
            timeline.lose_through(self._purged[key])  # it was purged before it was heard
        timeline.keep(namespace.size)
        if namespace.own_ttl:
            timeline.drop_bodies()
        # A new one not before: forgotten without this publication, it would prove too much.
        self._cache.insert(key, timeline)

    def _unseen(self, message: Message) -> Timeline:
        timeline = self.line()
        # The feed has heard this message already, and the timeline has not.
        timeline.stood = message.sequence - 1
        return timeline

    # ------------------------------------------------------------------ looking at the stream
    async def look(self, records: Records) -> None:
        """Compare what is held with the stream and with what is noted of it. Raises StoreAway; then nothing is served."""
        stream, asked_at, heard = self.feed.stream, self._clock.monotonic(), self.feed.heard
        facts = await self._store.facts(stream)
        if facts is None:
            self.problem = NO_STREAM
            self.feed.doubt()
            return
        nonce = await self.notes.nonce(records.get(f"nonce.{stream}", ABSENT))
        life = Life(facts.created, facts.generation, nonce.value.decode(errors="replace"))
        if life != self.feed.life:
            self._begin(life, facts)
            heard = 0
        notes = records.get(f"notes.{stream}", ABSENT)
        reason, patience = await self._went_back(heard, facts, notes)
        if reason:
            await self._suspect(nonce, reason, patience)
            return
        self._suspected_at = math.inf
        await self._take_purges(records.get(f"purges.{stream}", ABSENT), facts)
        await self._forget_proofs()
        if not self.feed.proven(facts.last, asked_at):
            await self._catch_up(facts, asked_at)
        heard = self.feed.heard
        self._purged = {key: through for key, through in self._purged.items() if through > heard}
        self.problem = ""
        await self.notes.note(facts, notes, self.feed.epoch)

    def _begin(self, life: Life, facts: Facts) -> None:
        before = self.feed.life
        epoch = epoch_of(self.feed.stream, life.created, life.generation, life.nonce)
        reason = _why(before, life)
        self._cache.drop(self.feed)
        self.feed.begin(life, epoch, facts.last, facts.last_time_ns)
        self.purges = Purges()
        self._purges_revision = self._claimed = self._gone = 0
        self._purged.clear()
        self._verified = False
        self._known = (0, 0)
        self._metrics.life_changed(reason)
        if before is not None:
            self._log.warning("history.epoch_changed", reason=reason, epoch=epoch)

    async def _went_back(self, heard: int, facts: Facts, record: Record) -> tuple[str, float]:
        """Return how the stream shows that it is not what it was ("": it does not), and how long it has to stay so."""
        notes = notes_of(record, self.feed.epoch)
        reason = went_back(max(heard, self._claimed), facts, notes)
        if reason:
            newest = max(self.feed.newest_time_ns, *(time_ns for _, time_ns in notes), 0)
            return reason, CONFIRM_SECONDS if facts.last_time_ns > newest else ELECTION_SECONDS
        return ("" if self._verified else await self._verify(notes)), CONFIRM_SECONDS

    async def _verify(self, notes: list[tuple[int, int]]) -> str:
        """Compare what is known with what is stored, the newest first; return how it differs, "" where it does not."""
        for sequence, time_ns in sorted([*notes, self._known], reverse=True):
            found = await self._store.fetch(self.feed.stream, [sequence]) if sequence and time_ns else {}
            if sequence in found:
                if found[sequence].time_ns != time_ns:
                    return f"another publication is at {sequence}"
                break
        self._verified = True
        return ""

    async def _suspect(self, nonce: Record, reason: str, patience: float) -> None:
        """Serve nothing; and when it stays so, act."""
        self.doubt()
        self.problem = f"the stream went back: {reason}"
        self._suspected_at = min(self._suspected_at, self._clock.monotonic())
        if self._clock.monotonic() - self._suspected_at < patience:
            return
        # The epoch changes on every replica: the next look, here as elsewhere, finds the nonce.
        if await self.notes.end_life(nonce):
            cure = "tidewire migrate --new-generation"
            self._log.error("history.stream_went_back", problem=reason, cure=cure)

    async def _catch_up(self, facts: Facts, asked_at: float) -> None:
        """Hear what is stored and was not heard: it may be on its way, or was missed."""
        await asyncio.sleep(ON_ITS_WAY)
        if self.feed.proven(facts.last, asked_at):
            return
        if facts.last - self.feed.heard > MOST_MISSING:
            self._metrics.repaired("too_many", facts.last - self.feed.heard)
            self._cache.drop(self.feed)
            self.feed.restart(facts.last, facts.last_time_ns)
        while self.feed.heard < facts.last:
            await self._repair(min(facts.last, self.feed.heard + REPAIR_AT_ONCE))
        await self._forget_proofs()
        self.feed.proven(facts.last, asked_at)

    async def _forget_proofs(self) -> None:
        """Have no channel prove anything from before what is gone unheard; until that is done, the stream is not current."""
        gone = self._gone
        for number, timeline in enumerate(list(self._cache.of(self.feed)) if gone else ()):
            timeline.uncertain_through(gone)
            if number % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)
        self._gone = 0

    async def _repair(self, until: int) -> None:
        epoch, wanted = self.feed.epoch, range(self.feed.heard + 1, until + 1)
        found = await self._store.fetch(self.feed.stream, wanted)
        for sequence in wanted:
            if epoch != self.feed.epoch or sequence != self.feed.heard + 1:
                continue  # heard meanwhile
            message = found.get(sequence)
            if message is not None:
                self._metrics.repaired("found")
                self._apply_all(self.feed.take(message))
            else:
                self._metrics.repaired("gone")
                self._gone = sequence
                self.feed.doubt()
                self._apply_all(self.feed.skip(sequence))

    async def _take_purges(self, record: Record, facts: Facts) -> None:
        if record.revision < self._purges_revision:
            return  # from a replica of the bucket that lags
        self._purges_revision = record.revision
        purges = purges_of(record, self.feed.epoch, facts.last)
        if purges.limit != facts.limit:
            limited = purges.with_limit(facts.limit, facts.last)
            if not await self.notes.write_purges(limited, record.revision, self.feed.epoch):
                return  # somebody else did, or purged: the next look will tell
            purges = limited
        new = purges.count - self.purges.count
        if new > len(purges.recent):
            self._cache.drop(self.feed)
            self.feed.forget()
        self.purges = purges
        for subject, through in purges.recent[-new:] if 0 < new <= len(purges.recent) else ():
            self.lose(subject.encode(), through)

    def lose(self, key: bytes, through: int) -> None:
        """A channel was purged."""
        self._purged[key] = max(through, self._purged.get(key, 0))
        timeline = self._cache.get(key)
        if timeline is not None:
            timeline.lose_through(through)
            self._cache.used(key, timeline)


def _why(before: Life | None, life: Life) -> str:
    if before is None:
        return "start"
    if before.nonce != life.nonce and life.nonce:
        return "went_back"
    return "generation" if before.generation != life.generation else "elsewhere"
