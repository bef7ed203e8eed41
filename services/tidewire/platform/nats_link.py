"""The only door to NATS: synchronous publish, subscribe, barrier and request over a connection that comes back."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final, NoReturn

from tidewire.platform.nats_calls import WaitingCalls
from tidewire.platform.nats_client import LinkClient
from tidewire.platform.nats_files import readable
from tidewire.platform.nats_grammar import check_subject, equal_publications, publication, publications
from tidewire.platform.nats_keeper import Keeper, KeeperHooks
from tidewire.platform.nats_outgoing import Outgoing
from tidewire.platform.nats_types import (
    BarrierCallback,
    LinkAway,
    LinkError,
    LinkListener,
    LinkOptions,
    LinkState,
    LinkStats,
    Message,
    MessageCallback,
    PayloadTooLarge,
    RawSubscription,
    ReplyCallback,
    Traffic,
)

CLOSE_TIMEOUT = 2.0
"""Seconds that `close` waits for the server to take what was written."""
# Python 3.11 finds a member of an Enum by a call of a Python function; a name of the module is there at once.
_CONNECTED: Final = LinkState.CONNECTED


class NatsLink:
    """One connection to NATS that comes back by itself.

    Belongs to one event loop. All methods but `start` and `close` return at once, and what they send is written
    once per turn of the loop, in the order of the calls.
    """

    def __init__(self, options: LinkOptions, listener: LinkListener) -> None:
        """Prepare; nothing is connected before `start`.

        Raises:
            LinkError: A URL or a TLS file in `options` cannot be used.
        """
        self._credentials_file = options.credentials_file
        self.last_error: Exception | None = None
        """The newest error: why the link is away, or what `link_error` was about."""
        self._listener = listener
        self._state = LinkState.CONNECTING
        self._subscriptions: dict[bytes, RawSubscription] = {}
        self._traffic = Traffic()
        self._out_msgs = self._out_bytes = self._reconnects = self._callback_errors = 0
        self._outgoing = Outgoing(options.max_pending, self._overrun)
        self._calls = WaitingCalls(options.max_outstanding, self._callback_raised)
        hooks = KeeperHooks(self._up, self._down, self._failed, self._error, self._chunk_end)
        self._keeper = Keeper(options, self._subscriptions, self._traffic, self._outgoing, self._calls, hooks)
        self._inbox = f"{options.inbox_prefix}.{secrets.token_hex(8)}.".encode()
        self.subscribe(self._inbox + b"*", self._on_reply)

    # ------------------------------------------------------------------ what it is
    @property
    def state(self) -> LinkState:
        """Where the link stands."""
        return self._state

    @property
    def nc(self) -> LinkClient:
        """The nats-py client of the present connection, for JetStream management.

        It ends with its connection, and its own subscriptions with it: take it anew after `link_back`.
        """
        return self._keeper.client

    @property
    def max_payload(self) -> int:
        """Bytes of header and payload that the server accepts in one message."""
        return self._keeper.client.max_payload

    @property
    def server_name(self) -> str:
        """The name of the server that the link talks to, or tried last."""
        return str(self._keeper.client.server_info.get("server_name", ""))

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait for the socket."""
        return self._outgoing.waiting

    @property
    def stats(self) -> LinkStats:
        """Totals of the raw subscriptions' messages, of the publications, and of what happened to the link."""
        return LinkStats(
            in_msgs=self._traffic.in_msgs,
            in_bytes=self._traffic.in_bytes,
            out_msgs=self._out_msgs,
            out_bytes=self._out_bytes,
            reconnects=self._reconnects,
            callback_errors=self._callback_errors,
        )

    # ------------------------------------------------------------------ life
    async def start(self) -> None:
        """Connect, and send the subscriptions made so far; `link_back` is not called for this.

        Raises:
            LinkError: No server could be used within three times `connect_timeout`; at once where trying again is
                pointless, as with wrong credentials. The sentence names the server, never a password.
        """
        readable(self._credentials_file)
        await self._keeper.start()

    async def close(self) -> None:
        """Give the server at most 2 s to take what was written, then close for good. Pending calls fail."""
        if self._state is LinkState.CONNECTED:
            await self._keeper.passes(CLOSE_TIMEOUT)
        self._state = LinkState.CLOSED
        await self._keeper.stop()
        self._calls.fail_all()

    def reconnect(self, reason: str) -> None:
        """Leave this connection and make a new one, on another server where there is one."""
        self._keeper.lost(self._keeper.client, LinkError(reason))

    # ------------------------------------------------------------------ what it does
    def subscribe(self, subject: bytes, callback: MessageCallback, queue: bytes = b"") -> int:
        """Have `callback` called for each message, also after reconnects; while away this is only noted.

        Whether the server takes the subscription is told by a barrier and by `link_error("permissions")`.

        Raises:
            ValueError: The subject is empty, or subject or queue group hold white space.
        """
        check_subject(subject)
        to = subject
        if queue:
            check_subject(queue)
            to = b"%b %b" % (subject, queue)
        sid = self._keeper.client.next_sid()
        line = b"SUB %b %d\r\n" % (to, sid)
        self._subscriptions[b"%d" % sid] = RawSubscription(callback, line)
        if self._outgoing.attached:
            self._outgoing.control(line)
        return sid

    def unsubscribe(self, sid: int) -> None:
        """End a subscription: its callback is not called again. An unknown sid is ignored."""
        if self._subscriptions.pop(b"%d" % sid, None) is not None and self._outgoing.attached:
            self._outgoing.control(b"UNSUB %d\r\n" % sid)

    def publish(self, subject: bytes, payload: bytes, header: bytes = b"", reply: bytes = b"") -> None:
        """Send one message. Only an answer or a barrier tells that it arrived.

        `header` is b"" or a whole block, from `NATS/1.0` to its empty line.

        Raises:
            LinkAway: There is no connection.
            LinkFull: More than `max_pending` bytes wait for the socket.
            PayloadTooLarge: Header and payload are over the server's limit.
            ValueError: Subject or reply could not stand on a protocol line, or the header block does not end.
        """
        size = len(header) + len(payload)
        if self._state is not _CONNECTED or size > self._keeper.client.max_payload:
            self._refuse(size)
        self._outgoing.message(publication(subject, reply, header, payload))
        self._out_msgs += 1
        self._out_bytes += size

    def publish_all(self, subject: bytes, payloads: Sequence[bytes], header: bytes) -> None:
        """Send messages with the same header block, never b"", to a subject, in order: all, or none where it raises.

        Raises:
            LinkAway, LinkFull, PayloadTooLarge, ValueError: As `publish`, for any of them.
        """
        size = len(header) + max(map(len, payloads))
        if self._state is not _CONNECTED or size > self._keeper.client.max_payload:
            self._refuse(size)
        self._outgoing.messages(equal_publications(subject, header, payloads))
        self._out_bytes += len(header) * len(payloads) + sum(map(len, payloads))
        self._out_msgs += len(payloads)

    def publish_each(self, messages: Sequence[Message]) -> None:
        """Send messages, at least one, in order: all, or none where it raises.

        Raises:
            LinkAway, LinkFull, PayloadTooLarge, ValueError: As `publish`, for any of them.
        """
        size = max([len(header) + len(payload) for _, _, header, payload in messages])
        if self._state is not _CONNECTED or size > self._keeper.client.max_payload:
            self._refuse(size)
        pieces, total = publications(messages)
        self._outgoing.messages(pieces)
        self._out_bytes += total
        self._out_msgs += len(messages)

    def _refuse(self, size: int) -> NoReturn:
        if self._state is not _CONNECTED:
            raise LinkAway("NATS is away")
        raise PayloadTooLarge(size, self._keeper.client.max_payload)

    @property
    def turn(self) -> int:
        """A number that changes when a PING is written: barriers of the same turn pass together."""
        return self._outgoing.turn

    def barrier(self, callback: BarrierCallback, timeout: float) -> None:
        """Tell when the server has processed all that the link was given before this call, or later in this `turn`.

        False: it did not say so in time, or it refused one of the commands since the barrier before this one; which
        one, only `last_error` tells, so all barriers of one loop turn fail together.
        Before the callback, all that the server sent until then is delivered, and `chunk_end` was called.

        Raises:
            LinkAway: There is no connection.
            LinkFull: Too many barriers wait already.
        """
        if self._state is not _CONNECTED:
            raise LinkAway("NATS is away")
        unsent = self._outgoing.unsent_ping
        number = self._calls.add_barrier(callback, timeout, unsent=unsent)
        if number != unsent:
            self._outgoing.ping(number)

    def request(
        self, subject: bytes, payload: bytes, header: bytes, timeout: float, callback: ReplyCallback
    ) -> None:
        """Publish with a reply subject of ours and pass the first answer on; "NATS/1.0 503" says nobody listens.

        Raises:
            LinkAway, LinkFull, PayloadTooLarge, ValueError: As `publish`; the callback is not called then.
        """
        number = self._calls.add_request(callback, timeout)
        try:
            self.publish(subject, payload, header, self._inbox + b"%d" % number)
        except BaseException:
            self._calls.cancel_request(number)
            raise

    # ------------------------------------------------------------------ what it hears
    def _on_reply(self, subject: bytes, _reply: bytes, header: bytes, payload: bytes) -> None:
        token = subject[len(self._inbox) :]
        if token.isdigit():
            self._calls.answer(int(token), header, payload)

    def _up(self) -> None:
        if self._state is LinkState.CLOSED:
            return  # the connection was there in the moment of the end
        first = self._state is LinkState.CONNECTING
        self._state = LinkState.CONNECTED
        if not first:
            self._reconnects += 1
            try:
                self._listener.link_back()
            except Exception as error:  # noqa: BLE001 - reported; the link goes on
                self._callback_raised(error)

    def _down(self, error: Exception) -> None:
        self.last_error = error
        if self._state is LinkState.CONNECTED:
            self._state = LinkState.AWAY
            try:
                self._listener.link_away()
            except Exception as raised:  # noqa: BLE001 - reported; the link goes on
                self._callback_raised(raised)
        self._calls.fail_all()

    def _failed(self, error: Exception) -> None:
        if isinstance(error, LinkError) and not error.final:
            self.last_error = error  # an outage, which the listener knows of
        else:
            self._error("other", error)

    def _chunk_end(self) -> None:
        try:
            self._listener.chunk_end()
        except Exception as error:  # noqa: BLE001 - reported; raising would end the read loop
            self._callback_raised(error)
        answered = self._outgoing.answered
        if answered:
            batches = answered[:]
            answered.clear()
            for numbers, taken in batches:
                self._calls.end_barriers(numbers, taken=taken)

    def _overrun(self) -> None:
        self.reconnect("NATS does not take our bytes")

    def _callback_raised(self, error: Exception) -> None:
        self._error("callback", error)

    def _error(self, kind: str, error: Exception) -> None:
        self.last_error = error
        if kind == "callback":
            self._callback_errors += 1
        try:
            self._listener.link_error(kind)
        except Exception as raised:  # noqa: BLE001 - who hears of errors must not cause one
            self.last_error = raised
            self._callback_errors += 1
