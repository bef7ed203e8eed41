"""What one stream's follower writes down in the cluster, and reads there: see `records`."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import msgspec

from tidewire.history.ports import StoreAway
from tidewire.history.records import ABSENT, Purges, Record, notes_of, purges_of, with_note

if TYPE_CHECKING:
    from tidewire.history.feed import Facts
    from tidewire.history.ports import Notebook
    from tidewire.kernel.clock import Clock

NOTE_SECONDS: Final = 5.0
WRITE_TRIES: Final = 8


class StreamNotes:
    """The records of one stream. Every method raises StoreAway."""

    def __init__(self, stream: str, notebook: Notebook, clock: Clock) -> None:
        self._stream = stream
        self._notebook = notebook
        self._clock = clock
        self._nonce = ABSENT
        self._noted_at = -NOTE_SECONDS

    async def nonce(self, seen: Record) -> Record:
        """Return the nonce. A replica of the bucket that lags must not bring an old life back."""
        if seen.revision != self._nonce.revision:
            self._nonce = await self._notebook.read(f"nonce.{self._stream}")
        return self._nonce

    async def end_life(self, nonce: Record) -> bool:
        """Write another nonce, so that the epoch changes on every replica; return whether nobody else did before."""
        value = secrets.token_hex(8).encode()
        return await self._notebook.write(f"nonce.{self._stream}", value, nonce.revision)

    async def note(self, facts: Facts, record: Record, epoch: str) -> None:
        """Note where the stream ends, now and then; `record` holds the notes as they are."""
        now = self._clock.monotonic()
        if now - self._noted_at < NOTE_SECONDS:
            return
        notes = with_note(notes_of(record, epoch), facts.last, facts.last_time_ns)
        if notes is not None:
            value = msgspec.json.encode(notes)
            await self._notebook.write(f"notes.{self._stream}", value, record.revision, epoch)
            self._noted_at = now

    async def note_purge(self, key: bytes, through: int, epoch: str) -> None:
        """Tell every replica, and those to come, that a channel is purged: before it is, so that no proof is wrong."""
        for _ in range(WRITE_TRIES):
            record = await self._notebook.read(f"purges.{self._stream}")
            noted = purges_of(record, epoch, through).with_purge(key.decode(), through)
            if await self.write_purges(noted, record.revision, epoch):
                return
        raise StoreAway("others write about the same stream all the time")

    async def write_purges(self, purges: Purges, revision: int, epoch: str) -> bool:
        """Write the purges in place of those of a revision; return whether they still were of it."""
        value = msgspec.json.encode(purges)
        return await self._notebook.write(f"purges.{self._stream}", value, revision, epoch)
