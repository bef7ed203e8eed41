"""The store port on JetStream: what its streams hold, by direct gets where any replica may answer, else by their leaders."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tidewire.history.adapters.batched_gets import BatchedGets
from tidewire.history.feed import Facts
from tidewire.history.messages import Message, message_of, nanoseconds, published
from tidewire.history.ports import StoreAway
from tidewire.history.turns import Turns
from tidewire.kernel.streams import GENERATION
from tidewire.platform.jetstream import API, STREAM_NOT_FOUND, JetStream, JetStreamError, said_by_leader

if TYPE_CHECKING:
    from tidewire.platform.nats_link import NatsLink

TIMEOUT: Final = 2.0
"""Seconds for one answer."""
BATCH: Final = 100
BATCH_BYTES: Final = 1 << 20
MOST_SUBJECTS: Final = 1_000
"""Below the 1,024 that nats-server takes in one request."""
LAGGING_TRIES: Final = 6
LAGGING_PAUSE: Final = 0.02
"""Seconds before a replica that lags is asked again, twice as long each time."""
NOT_FOUND: Final = 404


class JetStreamStore:
    """`ports.Store`. At most `concurrency` requests of reads are under way; others wait for their turn, see `turns`."""

    def __init__(self, link: NatsLink, inbox_prefix: str, concurrency: int) -> None:
        self._js = JetStream(link, TIMEOUT)
        self._batches = BatchedGets(link, inbox_prefix, TIMEOUT)
        self._turn = Turns(concurrency)

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return self._turn.waiting

    async def facts(self, stream: str, subject: bytes = b"") -> Facts | None:
        """See ports.Store."""
        name = f"STREAM.INFO.{stream}"
        try:
            if not subject:  # by which a stream is followed: it must not wait behind reads
                return _facts(said_by_leader(await self._js.call(name)), "")
            answer = await self._call(name, {"subjects_filter": subject.decode()})
            return _facts(said_by_leader(answer), subject.decode())
        except JetStreamError as error:
            if error.err_code == STREAM_NOT_FOUND:
                return None
            raise StoreAway(str(error)) from error

    async def fetch(self, stream: str, sequences: Iterable[int]) -> Mapping[int, Message]:
        """See ports.Store."""
        found = await asyncio.gather(*(self._one(stream, sequence) for sequence in sequences))
        return {message.sequence: message for message in found if message is not None}

    async def newest_of(
        self, stream: str, subjects: Sequence[bytes], up_to: int
    ) -> Mapping[bytes, Message | None]:
        """See ports.Store."""
        found: dict[bytes, Message | None] = {}
        if len(subjects) > 1:
            names = [subject.decode() for subject in subjects]
            messages, reached = await self._batch(stream, {"multi_last": names, "batch": MOST_SUBJECTS})
            if reached >= up_to:
                found = {message.key: message for message in messages}
        unsure = [subject for subject in subjects if subject not in found]
        newest = await asyncio.gather(*(self._newest(stream, subject) for subject in unsure))
        return found | dict(zip(unsure, newest, strict=True))

    async def oldest(self, stream: str, subject: bytes) -> Message | None:
        """See ports.Store."""
        return await self._from_leader(stream, {"seq": 1, "next_by_subj": subject.decode()})

    async def scan(self, stream: str, subject: bytes, since: int, until: int, most: int) -> Sequence[Message]:
        """See ports.Store."""
        for attempt in range(LAGGING_TRIES):
            found, beyond = await self._pages(stream, subject, since, until, most)
            if beyond or await self._is_all(stream, subject, since, found):
                return found
            await asyncio.sleep(LAGGING_PAUSE * 2**attempt)
        raise StoreAway(f"no replica of {stream} has caught up with its leader")

    async def purge(self, stream: str, subject: bytes, through: int) -> int:
        """See ports.Store."""
        request = {"filter": subject.decode(), "seq": through + 1}
        try:
            return int((await self._call(f"STREAM.PURGE.{stream}", request)).get("purged", 0))
        except JetStreamError as error:
            raise StoreAway(str(error)) from error

    # ------------------------------------------------------------------ parts of it
    async def _newest(self, stream: str, subject: bytes) -> Message | None:
        return await self._from_leader(stream, {"last_by_subj": subject.decode()})

    async def _pages(
        self, stream: str, subject: bytes, since: int, until: int, most: int
    ) -> tuple[list[Message], bool]:
        """Return what a replica has in (since, until], and whether it has gone as far as it was to."""
        found: list[Message] = []
        while len(found) <= most:
            request = {
                "seq": since + 1,
                "next_by_subj": subject.decode(),
                "batch": min(BATCH, most + 1),
                "max_bytes": BATCH_BYTES,
            }
            page, _ = await self._batch(stream, request)
            if not page:
                return found, False
            found += [message for message in page if message.sequence <= until]
            since = page[-1].sequence
            if since >= until:
                return found, True
        return found, True

    async def _is_all(self, stream: str, subject: bytes, since: int, found: list[Message]) -> bool:
        """Whether a replica that came to its end has gone as far as the leader is."""
        newest = await self._newest(stream, subject)
        if newest is None:
            found.clear()  # gone meanwhile
            return True
        return newest.sequence <= (found[-1].sequence if found else since)

    async def _one(self, stream: str, sequence: int) -> Message | None:
        """Return a message; a replica that does not have it may lag, so that its leader decides."""
        async with self._turn:
            try:
                header, payload = await self._js.ask(
                    f"{API}DIRECT.GET.{stream}", msgspec.json.encode({"seq": sequence})
                )
            except JetStreamError as error:
                raise StoreAway(str(error)) from error
        found = message_of(header, payload)
        if found is not None and found.sequence == sequence:
            return found
        return await self._from_leader(stream, {"seq": sequence})

    async def _from_leader(self, stream: str, request: object) -> Message | None:
        try:
            answer = await self._call(f"STREAM.MSG.GET.{stream}", request)
        except JetStreamError as error:
            if error.code == NOT_FOUND and error.err_code != STREAM_NOT_FOUND:
                return None
            raise StoreAway(str(error)) from error
        return stored_message(stream, answer["message"])

    async def _batch(self, stream: str, request: object) -> tuple[list[Message], int]:
        async with self._turn:
            return await self._batches.get(stream, request)

    async def _call(self, name: str, request: object) -> dict[str, Any]:
        async with self._turn:
            return await self._js.call(name, request)


def stored_message(stream: str, said: dict[str, Any]) -> Message:
    """Return the message that a leader describes as JSON. Raises StoreAway for what is none."""
    time_ns = nanoseconds(said["time"].encode())
    if time_ns is None:
        raise StoreAway(f"{stream} gave a message the time {said['time']!r}")
    lines = published(base64.b64decode(said.get("hdrs", "")))
    data = base64.b64decode(said.get("data", ""))
    return Message(stream.encode(), said["subject"].encode(), said["seq"], time_ns, None, lines, data)


def _facts(answer: dict[str, Any], subject: str) -> Facts:
    config, state = answer["config"], answer["state"]
    generation = (config.get("metadata") or {}).get(GENERATION, "0")
    return Facts(
        created=answer["created"],
        generation=int(generation) if generation.isdigit() else 0,
        first=state["first_seq"],
        last=state["last_seq"],
        last_time_ns=max(0, nanoseconds(state["last_ts"].encode()) or 0),  # of an empty stream the year 1
        limit=max(0, config.get("max_msgs_per_subject", 0)),
        count=(state.get("subjects") or {}).get(subject, 0),
    )
