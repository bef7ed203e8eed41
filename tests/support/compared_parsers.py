"""Our NATS parser beside nats-py's own, with clients that note what a parser tells them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from tidewire.platform.nats_parser import FastParser
from tidewire.platform.nats_types import RawSubscription, Traffic

MAX_PAYLOAD = 1024
RAW_SIDS = (1, 2, 17, 123456)
Event = tuple[Any, ...]


class RecordingClient:
    """Stands in for nats-py's client and notes what a parser tells it."""

    def __init__(self) -> None:
        self._max_payload = MAX_PAYLOAD
        self.events: list[Event] = []

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        self.events.append(("msg", sid, bytes(subject), bytes(reply), headers, data))

    async def _process_ping(self) -> None:
        self.events.append(("ping",))

    async def _process_pong(self) -> None:
        self.events.append(("pong",))

    async def _process_err(self, text: str) -> None:
        self.events.append(("err", text.lower()))  # as the stock parser passes it

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.events.append(("info", info))


class Harness:
    """A FastParser with raw subscriptions whose messages land in the same list as everything else."""

    def __init__(self, raising: frozenset[int] = frozenset()) -> None:
        self.client = RecordingClient()
        self.traffic = Traffic()
        self.errors: list[Exception] = []
        self.chunk_ends: list[int] = []
        self.subscriptions = {
            b"%d" % sid: RawSubscription(self._callback(sid, fails=sid in raising), b"") for sid in RAW_SIDS
        }
        self.parser = FastParser(
            self.client, self.subscriptions, self.traffic, self._chunk_end, self.errors.append
        )

    @property
    def events(self) -> list[Event]:
        return self.client.events

    def _chunk_end(self) -> None:
        self.chunk_ends.append(len(self.events))

    def _callback(self, sid: int, *, fails: bool) -> Callable[[bytes, bytes, bytes, bytes], None]:
        def callback(subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
            self.events.append(("msg", sid, subject, reply, header or None, payload))
            if fails:
                raise ValueError("as the test wants it")

        return callback


async def stock_events(chunks: list[bytes]) -> tuple[list[Event], bool]:
    """What nats-py's own parser makes of the chunks: its events, and whether it refused them."""
    client = RecordingClient()
    parser = Parser(client)
    try:
        for chunk in chunks:
            await parser.parse(chunk)
    except ProtocolError:
        return client.events, True
    return client.events, False


async def fast_events(harness: Harness, chunks: list[bytes]) -> tuple[list[Event], bool]:
    """What ours makes of them."""
    try:
        for chunk in chunks:
            await harness.parser.parse(chunk)
    except ProtocolError:
        return harness.events, True
    return harness.events, False
