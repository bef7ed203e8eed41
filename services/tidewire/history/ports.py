"""What the history service needs from outside, and whom it tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from tidewire.history.feed import Facts
from tidewire.history.messages import Message
from tidewire.history.records import Record
from tidewire.kernel.errors import TidewireError


class StoreAway(TidewireError):
    """The streams cannot be read now; the sentence says why."""


class Store(Protocol):
    """The streams. Every method is bounded in time, and raises StoreAway."""

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""

    async def facts(self, stream: str, subject: bytes = b"") -> Facts | None:
        """Return what the leader says, with the count of a subject; None: there is no such stream."""

    async def fetch(self, stream: str, sequences: Iterable[int]) -> Mapping[int, Message]:
        """Return those of these that are stored: what is not in it is gone, says the leader."""

    async def newest_of(
        self, stream: str, subjects: Sequence[bytes], up_to: int
    ) -> Mapping[bytes, Message | None]:
        """Return the newest of each of at most 1,000 subjects, as it is where the stream is at `up_to` or later."""

    async def oldest(self, stream: str, subject: bytes) -> Message | None:
        """Return the oldest of a subject, as the leader has it."""

    async def scan(self, stream: str, subject: bytes, since: int, until: int, most: int) -> Sequence[Message]:
        """Return what is stored of a subject in (since, until], oldest first; beyond `most` it may stop.

        It is complete also where a replica that lags answers.
        """

    async def purge(self, stream: str, subject: bytes, through: int) -> int:
        """Remove what is stored of a subject up to a sequence; return how many."""


class Notebook(Protocol):
    """The records in the cluster. Every method is bounded in time, and raises StoreAway."""

    async def read_all(self, streams: Sequence[str]) -> Mapping[str, Record]:
        """Return the records by key; those that are not there are left out."""

    async def read(self, key: str) -> Record:
        """Return one, as the leader has it."""

    async def write(self, key: str, value: bytes, revision: int, epoch: str = "") -> bool:
        """Write one if it has this revision still; return whether it had."""


class Metrics(Protocol):
    """Hears what happens."""

    def heard(self, profile: str) -> None:
        """A publication was taken."""

    def dropped(self, reason: str) -> None:
        """A message was not believed, or is no channel's."""

    def repaired(self, outcome: str, count: int = 1) -> None:
        """Publications that had not come live were looked for: found, gone, or too many."""

    def life_changed(self, reason: str) -> None:
        """The channels of a stream have another epoch: start, generation, went_back or elsewhere."""

    def read(self, source: str, outcome: str) -> None:
        """A read was answered, from memory or from the stream."""

    def refused(self) -> None:
        """A read was refused, since too many are under way for who asks."""

    def joined(self) -> None:
        """A read waits for the same one that is under way."""

    def positions(self, source: str, count: int) -> None:
        """So many positions were told."""

    def purged(self) -> None:
        """A channel was purged."""
