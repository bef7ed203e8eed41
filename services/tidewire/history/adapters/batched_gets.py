"""Requests of JetStream that are answered by many messages: batched direct gets."""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import TYPE_CHECKING, Final

import msgspec

from tidewire.history.messages import Message, message_of
from tidewire.history.ports import StoreAway
from tidewire.platform.jetstream import API
from tidewire.platform.nats_types import LinkError

if TYPE_CHECKING:
    from tidewire.platform.nats_link import NatsLink

_UP_TO = re.compile(rb"\r\nNats-UpTo-Sequence:[ \t]*(\d+)")
END: Final = b"NATS/1.0 204"
NONE: Final = b"NATS/1.0 404"


class _Collecting:
    """The answers to one request, until the last of them."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def take(self, header: bytes, payload: bytes) -> None:
        """Take an answer. A publication may look like a status, but JetStream says where it is stored."""
        message = message_of(header, payload)
        if message is not None:
            self.messages.append(message)
        elif not self.done.done():
            if header.startswith((END, NONE)):
                self.done.set_result(int(up_to[1]) if (up_to := _UP_TO.search(header)) else 0)
            else:
                line = header.partition(b"\r\n")[0].decode(errors="replace")
                self.done.set_exception(StoreAway(f"JetStream answered {line or payload[:80]!r}"))


class BatchedGets:
    """Asks for several messages at once. The answers come to an inbox of its own."""

    def __init__(self, link: NatsLink, inbox_prefix: str, timeout: float) -> None:
        self._link = link
        self._timeout = timeout
        self._inbox = f"{inbox_prefix}.{secrets.token_hex(8)}.".encode()
        self._open: dict[bytes, _Collecting] = {}
        self._number = 0
        link.subscribe(self._inbox + b"*", self._receive)

    async def get(self, stream: str, request: object) -> tuple[list[Message], int]:
        """Return what a direct get of the stream brings, and up to where the replica had it (0: not told).

        Raises StoreAway.
        """
        self._number += 1
        token, collecting = b"%d" % self._number, _Collecting()
        self._open[token] = collecting
        try:
            subject = f"{API}DIRECT.GET.{stream}".encode()
            self._link.publish(subject, msgspec.json.encode(request), b"", self._inbox + token)
            async with asyncio.timeout(self._timeout):
                up_to = await collecting.done
        except LinkError as error:
            raise StoreAway(str(error)) from error
        except TimeoutError:
            raise StoreAway(f"{stream} did not answer within {self._timeout:g} s") from None
        finally:
            del self._open[token]
        return collecting.messages, up_to

    def _receive(self, subject: bytes, _reply: bytes, header: bytes, payload: bytes) -> None:
        collecting = self._open.get(subject[len(self._inbox) :])
        if collecting is not None:
            collecting.take(header, payload)
