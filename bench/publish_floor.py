"""What a publish command with history costs where no edge is: the same bytes in and out, and nothing decided in between.

Frames are read and commands decoded; each is published with an id and a reply subject, pipelined; JetStream's answers are
decoded and counted, and those of one read told in one frame. There is no session, right, limit, order, repetition, timeout
or metric: what an edge costs beyond this is its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import msgspec

from tests.support.edges import PARTITIONS
from tidewire.edge.adapters.stream_publisher import Acknowledgement
from tidewire.edge.frames import FrameReader
from tidewire.edge.framing import WEBSOCKET_JSON
from tidewire.edge.wire.commands import PublishRequest
from tidewire.kernel.publication_ids import Minter
from tidewire.kernel.subjects import in_subject
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import DeafListener, LinkOptions, Message

INBOX = b"_INBOX_floor."
INFO = b'{"user":"user-1","client":"0f8f2f2e-4b7c-4d0e-9c3a-0a4f9d0c7b1e"}'
HEADER = (
    b"NATS/1.0\r\nNats-Msg-Id: %b\r\nTw-V: 1\r\nTw-Time: 1800000000000000\r\nTw-Info: " + INFO + b"\r\n\r\n"
)
MESSAGE_SIZE = 65_536


class FloorSocket:
    """Stands where `Socket` does: `receive` takes a client's bytes, `heard` is told of what is written."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._reader = FrameReader(MESSAGE_SIZE)
        self.heard: Callable[[bytes], None] = lambda _data: None

    def receive(self, data: bytes) -> None:
        """Publish what the commands of one read say."""
        self._floor.publish(self, self._reader.feed(data))


class Floor(DeafListener):
    """Publishes to the streams, and tells clients what came of it."""

    def __init__(self, url: str) -> None:
        self.link = NatsLink(LinkOptions(urls=(url,)), self)
        self._minter = Minter()
        self._decode = msgspec.json.Decoder(Acknowledgement).decode
        self._subject = lru_cache(65_536)(lambda channel: in_subject(channel, PARTITIONS))
        self._waiting: dict[bytes, tuple[FloorSocket, int]] = {}
        self._told: dict[FloorSocket, list[int]] = {}
        self.link.subscribe(INBOX + b"*", self._answered)

    def publish(self, socket: FloorSocket, frames: list[bytes]) -> None:
        """Publish the data of commands that came together."""
        messages: list[Message] = []
        for command in WEBSOCKET_JSON.codec.burst(frames) or ():
            request = command.publish or PublishRequest()
            token = self._minter.mint()
            self._waiting[token] = socket, command.id
            subject = self._subject(request.channel)
            messages.append((subject, INBOX + token, HEADER % token, bytes(request.data)))
        self.link.publish_each(messages)

    def _answered(self, subject: bytes, _reply: bytes, _header: bytes, payload: bytes) -> None:
        socket, number = self._waiting.pop(subject[len(INBOX) :])
        if not self._decode(payload).seq:
            raise RuntimeError(f"not stored: {payload!r}")
        self._told.setdefault(socket, []).append(number)

    def chunk_end(self) -> None:
        """See `LinkListener`."""
        told, self._told = self._told, {}
        for socket, numbers in told.items():
            socket.heard(WEBSOCKET_JSON.together([WEBSOCKET_JSON.codec.published(numbers)]))
