"""The broker port on NATS: subjects, headers and acknowledgements of channels without history.

A publication is acknowledged when nats-server itself has processed it: a PING follows the publications of one loop turn,
and its PONG comes after the server's deliveries of them, and after its refusals (the rights of the edge's NATS user).
What NATS then does with them is at most once, like core NATS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from tidewire.edge.adapters.stored_messages import HEADER, NOT_STORED, Stamp, StoredMessages
from tidewire.edge.policies.publication_keys import key_problem
from tidewire.edge.ports import Done, Publication, Sink
from tidewire.edge.untraced import OFF
from tidewire.kernel import errors
from tidewire.kernel.channels import is_restricted
from tidewire.kernel.subjects import (
    CONTROL_ALL,
    channel_of,
    control_subject,
    in_pattern,
    in_subject,
    rpc_subject,
)
from tidewire.platform.nats_types import NO_RESPONDERS, LinkError, LinkState, PayloadTooLarge

if TYPE_CHECKING:
    from tidewire.edge.ports import Metrics, Tracer
    from tidewire.kernel.clock import Clock
    from tidewire.kernel.errors import ReplyError
    from tidewire.platform.nats_link import NatsLink

MESSAGE_SUBJECT = b"tw.ev.message"
VERSION = b"1"
AWAY = errors.INTERNAL.saying("temporarily not possible: NATS is away")
UNCERTAIN = errors.INTERNAL.saying(
    "temporarily not possible: NATS did not confirm it, though it may have been done"
)
TOO_LARGE = errors.BAD_REQUEST.saying("bad request: larger than the NATS server takes (its max_payload)")
UNANSWERED = errors.INTERNAL.saying("the method did not answer in time")
APPLICATION_CODES = range(400, 2000)
MAX_APPLICATION_MESSAGE = 256
VISIBLE = "".join(chr(byte) for byte in range(0x21, 0x7F) if chr(byte) != "%")

_TAGS = msgspec.json.Decoder(dict[str, str])
_HEADER = re.compile(rb"\r\n(Tw-V|Tw-Time|Tw-Info|Tw-Tags|Tw-Key|Tw-Delta):[ \t]*([^\r\n]*)")


class NatsBroker:
    """`ports.Broker` on a NATS link. `mapped` is set by the probe: a node without the mapping counts as away."""

    def __init__(
        self,
        link: NatsLink,
        partitions: int,
        publish_timeout: float,
        call_timeout: float,
        clock: Clock,
        metrics: Metrics,
        soon: Callable[[Done, ReplyError], None],
        tracer: Tracer = OFF,
    ) -> None:
        self.stored = StoredMessages(partitions, {})
        """Which channels have history; may change at any time, for subscriptions to come."""
        self._link = link
        self._partitions = partitions
        self._publish_timeout = publish_timeout
        self.call_timeout = call_timeout
        """Seconds that a call may wait; may change at any time, for calls to come."""
        self._clock = clock
        self._metrics = metrics
        self._soon = soon
        self._tracer = tracer
        self.mapped = True

    @property
    def available(self) -> bool:
        """See ports.Broker."""
        return self.mapped and self._link.state is LinkState.CONNECTED

    def publish(
        self, channel: str, data: Sequence[bytes], info: bytes, trace: bytes = b"", key: str = ""
    ) -> ReplyError | None:
        """See ports.Broker."""
        if not self.mapped:
            return AWAY
        header = b"NATS/1.0\r\nTw-V: 1\r\nTw-Time: %d\r\nTw-Info: %b\r\n%b%b\r\n" % (
            int(self._clock.wall() * 1e6),
            info,
            f"Tw-Key: {key}\r\n".encode() if key else b"",
            trace,
        )
        try:
            self._link.publish_all(in_subject(channel, self._partitions), data, header)
        except PayloadTooLarge:
            return TOO_LARGE
        except LinkError:
            return AWAY
        return None

    @property
    def turn(self) -> int:
        """See ports.Broker."""
        return self._link.turn

    def acknowledge(self, done: Done) -> None:
        """See ports.Broker."""
        if not self._confirm(done):
            self._soon(done, UNCERTAIN)  # it was written, but too much waits to learn what became of it

    def subscribe(self, channel: str, sink: Sink, done: Done) -> int:
        """See ports.Broker."""

        def receive(_subject: bytes, _reply: bytes, header: bytes, payload: bytes) -> None:
            publication = self.parse(channel, header, payload)
            if publication is not None:
                sink.receive(publication)

        def receive_stored(_subject: bytes, _reply: bytes, header: bytes, payload: bytes) -> None:
            publication = self._parse_stored(channel, header, payload)
            if publication is not None:
                sink.receive(publication)

        subject = self.stored.subject(channel)
        if subject is None:
            handle = self._link.subscribe(in_subject(channel, self._partitions), receive)
        else:
            handle = self._link.subscribe(subject, receive_stored)
        if not self._confirm(done):
            self._soon(done, AWAY)
        return handle

    def subscribe_pattern(self, pattern: str, sink: Sink, done: Done) -> int:
        """See ports.Broker."""
        subject = self.stored.pattern(pattern)
        parse = self.parse if subject is None else self._parse_stored

        def receive(subject: bytes, _reply: bytes, header: bytes, payload: bytes) -> None:
            channel = channel_of(subject, self._partitions)
            if channel is None or is_restricted(channel):
                self._metrics.publication_dropped("restricted" if channel else "forged_subject")
                return
            publication = parse(channel, header, payload)
            if publication is not None:
                sink.receive(msgspec.structs.replace(publication, channel=channel, offset=0))

        handle = self._link.subscribe(subject or in_pattern(pattern), receive)
        if not self._confirm(done):
            self._soon(done, AWAY)
        return handle

    def unsubscribe(self, handle: int) -> None:
        """See ports.Broker."""
        self._link.unsubscribe(handle)

    def order(self, node: str, order: bytes) -> bool:
        """See ports.Broker."""
        return self._tell(control_subject(node) if node else CONTROL_ALL, order, b"")

    def take_orders(self, node: str, obey: Callable[[bytes], None]) -> None:
        """Hear the orders for all edges and for this one. Raises LinkError."""

        def receive(_subject: bytes, _reply: bytes, _header: bytes, payload: bytes) -> None:
            obey(payload)

        for subject in (CONTROL_ALL, control_subject(node)):
            self._link.subscribe(subject, receive)

    def call(
        self,
        method: str,
        user: str,
        client: str,
        data: bytes,
        done: Callable[[bytes | ReplyError], None],
        trace: bytes = b"",
    ) -> ReplyError | None:
        """See ports.Broker."""
        if not self.available:
            return AWAY
        try:
            self._link.request(
                rpc_subject(method),
                data,
                _caller(user, client, trace),
                self.call_timeout,
                lambda header, payload: done(_answer(header, payload)),
            )
        except PayloadTooLarge:
            return TOO_LARGE
        except LinkError:
            return AWAY
        return None

    def send(self, user: str, client: str, data: bytes) -> bool:
        """See ports.Broker."""
        return self._tell(MESSAGE_SUBJECT, data, _caller(user, client))

    def _tell(self, subject: bytes, data: bytes, header: bytes) -> bool:
        if not self.available:
            return False
        try:
            self._link.publish(subject, data, header)
        except LinkError:
            return False
        return True

    def _confirm(self, done: Done) -> bool:
        """Call `done` once nats-server has processed all that was written so far; False: it never will be called."""
        if not self.mapped:
            return False
        try:
            self._link.barrier(
                lambda confirmed: done(None if confirmed else UNCERTAIN), self._publish_timeout
            )
        except LinkError:
            return False
        return True

    def parse(self, channel: str, header: bytes, payload: bytes) -> Publication | None:
        """Return the publication, or None (counted) where its headers are not what this version understands."""
        if not header:
            return Publication(payload)
        return self._publication(channel, header, payload, dict(_HEADER.findall(header)))

    def parse_kept(
        self, channel: str, header: bytes, payload: bytes, offset: int, time_ns: int
    ) -> Publication | None:
        """Return the same of one that history has kept, which belongs to no trace any more."""
        fields = dict(_HEADER.findall(header))
        return self._publication(channel, b"", payload, fields, Stamp(offset, 0, time_ns))

    def _parse_stored(self, channel: str, header: bytes, payload: bytes) -> Publication | None:
        """Return the same of a message that a stream has published again, None (counted) where it was not the stream."""
        fields = dict(HEADER.findall(header))
        stamp = self.stored.stamp(channel, fields)
        if stamp is None:
            self._metrics.publication_dropped("forged")
            return None
        return self._publication(channel, header, payload, fields, stamp)

    def _publication(
        self,
        channel: str,
        header: bytes,
        payload: bytes,
        fields: Mapping[bytes, bytes],
        stamp: Stamp = NOT_STORED,
    ) -> Publication | None:
        if fields.get(b"Tw-V", VERSION) != VERSION:
            self._metrics.publication_dropped("version")
            return None
        tags: Mapping[str, str] | None = None
        try:
            if b"Tw-Tags" in fields:
                tags = _TAGS.decode(fields[b"Tw-Tags"])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._metrics.publication_dropped("malformed")
            return None
        sent = fields.get(b"Tw-Time", b"")
        sent_us = int(sent) if sent.isdigit() and len(sent) < 20 else 0
        span = self._tracer.deliver(channel, header) if header else None
        key, delta = self._key(fields), fields.get(b"Tw-Delta") == b"1"
        return Publication(payload, fields.get(b"Tw-Info"), tags, sent_us, "", span, key, delta, *stamp)

    def _key(self, fields: Mapping[bytes, bytes]) -> bytes:
        """Return the key, or nothing (counted) where it is none: the data are delivered, and never conflated."""
        if b"Tw-Key" not in fields:
            return b""
        key = fields[b"Tw-Key"].rstrip(b" \t")
        if key_problem(key) is not None:
            self._metrics.key_ignored()
            return b""
        return key


def _caller(user: str, client: str, trace: bytes = b"") -> bytes:
    """Return the header block that tells a responder who calls.

    The user is percent-encoded outside visible ASCII: no name can end a header, and none can hide behind another by
    spaces that header parsers strip.
    """
    caller = f"NATS/1.0\r\nTw-V: 1\r\nTw-User: {quote(user, safe=VISIBLE)}\r\nTw-Client: {client}\r\n"
    return caller.encode() + trace + b"\r\n"


def _answer(header: bytes | None, payload: bytes) -> bytes | ReplyError:
    """Return a responder's payload, or the error it stands for (ADR-32 service error headers)."""
    if header is None:
        return UNANSWERED
    if header.startswith(NO_RESPONDERS) and not payload:
        return errors.METHOD_NOT_FOUND
    found = re.search(rb"\r\nNats-Service-Error-Code:[ \t]*([^\r\n]*)", header)
    if found is None:
        return payload
    digits = found[1].strip()
    code = int(digits) if digits.isdigit() and len(digits) < 10 else 0
    if code not in APPLICATION_CODES:
        return errors.INTERNAL
    text = re.search(rb"\r\nNats-Service-Error:[ \t]*([^\r\n]*)", header)
    message = text[1].decode(errors="replace").strip()[:MAX_APPLICATION_MESSAGE] if text else ""
    return errors.ReplyError(code, message or "application error")
