"""How far one stream was followed, in which life of it, and what of that is certain. Pure.

JetStream publishes again whatever it stores, in the order of its sequences, so what is heard of a stream has no holes: a
missing number is a publication that was missed, and is asked for. The end of the stream shows only by asking where it is,
which is done every second: what is held is *current* for some seconds after it was found to be all there is.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from tidewire.history.messages import Message

MOST_WAITING: Final = 2_000
"""Publications that wait for a hole before them to be filled; further ones are asked for, too."""
MOST_WAITING_BYTES: Final = 16 << 20
"""Bytes of those."""
MOST_MISSING: Final = 2_000
"""Holes up to this size are filled one by one; beyond, the stream is followed anew from its end."""
CURRENT_SECONDS: Final = 5.0


class Life(msgspec.Struct, frozen=True):
    """What names a life of a stream; together they are its epoch."""

    created: str
    generation: int
    nonce: str


class Facts(msgspec.Struct, frozen=True):
    """What the stream's leader says. `count` is of one subject, where it was asked for; `first` is 0 in a new stream."""

    created: str
    generation: int
    first: int
    last: int
    last_time_ns: int
    limit: int
    """Most publications of a subject; 0 = no limit."""
    count: int = 0


class Feed:
    """One stream, as it is followed. What it says about itself is true in one life only: `begin` starts another."""

    def __init__(self, stream: str, profile: str, partition: int) -> None:
        self.stream = stream
        self.profile = profile
        self.partition = partition
        self.life: Life | None = None
        self.epoch = ""
        self.base = 0
        """Whatever was stored in (base, heard] was heard, and is in the channels' timelines."""
        self.heard = 0
        self.heard_time_ns = 0
        """When that was stored; 0 where nobody knows, since it is gone."""
        self.forgotten = 0
        """The newest publication of a channel whose timeline is no more."""
        self.current_at = -math.inf
        self.newest_time_ns = 0
        self._waiting: dict[int, Message] = {}
        self._waiting_bytes = 0

    @property
    def floor(self) -> int:
        """For a channel without a timeline: nothing of it was stored in (floor, heard]."""
        return max(self.base, self.forgotten)

    def begin(self, life: Life, epoch: str, last: int, last_time_ns: int) -> None:
        """Follow the stream from its end, `last`, on: all timelines of it are worth nothing."""
        self.life, self.epoch = life, epoch
        self.restart(last, last_time_ns)

    def restart(self, last: int, last_time_ns: int) -> None:
        """In the same life, go on at the stream's end, since too much was missed."""
        self.heard, self.heard_time_ns = last, last_time_ns
        self.newest_time_ns = last_time_ns
        self.forget()

    def forget(self) -> None:
        """Go on from here as if nothing had been heard: all timelines are worth nothing."""
        self.base = self.heard
        self.forgotten = 0
        self.current_at = -math.inf
        self._waiting.clear()
        self._waiting_bytes = 0

    def take(self, message: Message) -> list[Message]:
        """Return what can be applied now, in order: nothing for what was heard before, or has a hole before it."""
        if message.sequence != self.heard + 1:
            if message.sequence > self.heard:
                self._let_wait(message)
            return []
        self._hear(message)
        if not self._waiting:
            return [message]
        return [message, *self._ready()]

    def skip(self, sequence: int) -> list[Message]:
        """The next one is gone for ever, unheard; return what can be applied now."""
        if sequence != self.heard + 1:
            return []
        self.heard = self.base = sequence
        self.heard_time_ns = 0
        self._no_longer_waits(sequence)
        return self._ready()

    def is_other(self, message: Message) -> bool:
        """Whether a message at a place that was heard is younger than all that was: the stream has gone back."""
        return message.sequence <= self.heard and message.time_ns > self.newest_time_ns

    @property
    def missing(self) -> int:
        """How many publications are known to have been missed: those before the first that waits."""
        return min(self._waiting) - self.heard - 1 if self._waiting else 0

    def proven(self, last: int, asked_at: float) -> bool:
        """Note that the stream ended at `last` when it was asked at this (monotonic) time; return whether all is heard."""
        if self.heard >= last:
            self.current_at = max(self.current_at, asked_at)
            return True
        return False

    def doubt(self) -> None:
        """Something may have been missed: what is held is not current until the stream says so."""
        self.current_at = -math.inf

    def is_current(self, now: float) -> bool:
        """Whether what is held was all there is, some seconds ago at most."""
        return now - self.current_at <= CURRENT_SECONDS

    def _ready(self) -> list[Message]:
        ready = []
        while (following := self._no_longer_waits(self.heard + 1)) is not None:
            self._hear(following)
            ready.append(following)
        return ready

    def _let_wait(self, message: Message) -> None:
        size = _size(message)
        room = len(self._waiting) < MOST_WAITING and self._waiting_bytes + size <= MOST_WAITING_BYTES
        if room and message.sequence not in self._waiting:
            self._waiting[message.sequence] = message
            self._waiting_bytes += size

    def _no_longer_waits(self, sequence: int) -> Message | None:
        message = self._waiting.pop(sequence, None)
        if message is not None:
            self._waiting_bytes -= _size(message)
        return message

    def _hear(self, message: Message) -> None:
        self.heard, self.heard_time_ns = message.sequence, message.time_ns
        self.newest_time_ns = max(self.newest_time_ns, message.time_ns)


def _size(message: Message) -> int:
    return len(message.lines) + len(message.data)
