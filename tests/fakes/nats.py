"""A NATS link without a server: the test delivers, confirms and answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from tidewire.platform.nats_types import (
    BarrierCallback,
    LinkAway,
    LinkError,
    LinkState,
    LinkStats,
    Message,
    MessageCallback,
    ReplyCallback,
)


class Published(msgspec.Struct, frozen=True):
    """One message as it was handed to the link."""

    subject: bytes
    payload: bytes
    header: bytes = b""
    reply: bytes = b""


class FakeLink:
    """The link's methods; `fails` names what raises which error, `on_publish` may bring a message back."""

    def __init__(self) -> None:
        self.state = LinkState.CONNECTED
        self.fails: dict[str, LinkError] = {}
        self.published: list[Published] = []
        self.subscribed: dict[int, tuple[bytes, MessageCallback, bytes]] = {}
        self.stats = LinkStats(1, 20, 3, 40, 5, 7)
        self.pending_bytes = 6
        self.answers: bool | None = None
        """How barriers end by themselves, soon; None: the test ends them."""
        self.barriers: list[tuple[BarrierCallback, float]] = []
        self.requests: list[tuple[Published, float, ReplyCallback]] = []
        self.on_publish: Callable[[Published], None] = lambda _message: None
        self._sid = 0

    def subscribe(self, subject: bytes, callback: MessageCallback, queue: bytes = b"") -> int:
        self._sid += 1
        self.subscribed[self._sid] = (subject, callback, queue)
        return self._sid

    def unsubscribe(self, sid: int) -> None:
        del self.subscribed[sid]

    def publish(self, subject: bytes, payload: bytes, header: bytes = b"", reply: bytes = b"") -> None:
        self._check("publish")
        message = Published(subject, payload, header, reply)
        self.published.append(message)
        self.on_publish(message)

    def publish_all(self, subject: bytes, payloads: Sequence[bytes], header: bytes) -> None:
        for payload in payloads:
            self.publish(subject, payload, header)

    def publish_each(self, messages: Sequence[Message]) -> None:
        self._check("publish_each")
        for subject, reply, header, payload in messages:
            self.publish(subject, payload, header, reply)

    def barrier(self, callback: BarrierCallback, timeout: float) -> None:
        self._check("barrier")
        if self.answers is None:
            self.barriers.append((callback, timeout))
        else:
            asyncio.get_running_loop().call_soon(callback, self.answers)

    def request(
        self, subject: bytes, payload: bytes, header: bytes, timeout: float, callback: ReplyCallback
    ) -> None:
        self._check("request")
        self.requests.append((Published(subject, payload, header), timeout, callback))

    def deliver(self, subject: bytes, payload: bytes, header: bytes = b"", reply: bytes = b"") -> None:
        """Give a message to every subscription whose subject it matches; `*` and `>` as in NATS."""
        for wanted, callback, _ in list(self.subscribed.values()):
            if _matches(wanted.split(b"."), subject.split(b".")):
                callback(subject, reply, header, payload)

    def _check(self, method: str) -> None:
        if method in self.fails:
            raise self.fails[method]
        if self.state is not LinkState.CONNECTED:
            raise LinkAway("NATS is away")


def _matches(wanted: list[bytes], subject: list[bytes]) -> bool:
    if wanted[-1:] == [b">"]:
        wanted = wanted[:-1] + [b"*"] * max(1, len(subject) - len(wanted) + 1)
    return len(wanted) == len(subject) and all(
        token in {b"*", part} for token, part in zip(wanted, subject, strict=True)
    )
