"""A parser for nats-py that delivers our own subscriptions synchronously, straight from the read buffer.

It takes the place of `Client._ps` in nats-py 2.16 and promises the same verdicts as `nats.protocol.parser.Parser`,
with these differences, each on purpose:

- messages of raw subscriptions go to plain callbacks, and what a callback raises is reported, never raised: an
  exception here would end nats-py's read loop while it still calls itself connected;
- lines and frames are bounded, and a line that makes no sense is an error at once (the stock parser waits for ever
  when more than 4 KiB are buffered);
- an `-ERR` without text, or a text that is not UTF-8 or JSON, does not end the read loop by an unplanned exception;
  its text keeps its case, since it may name a subject.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from nats.errors import ProtocolError
from nats.protocol.parser import ERR_RE, INFO_RE, OK_RE, PING_RE, PONG_RE, Parser

from tidewire.platform.nats_types import RawSubscription, Traffic

MAX_LINE = 32 * 1024
"""Longest control line. Larger than the server's limit for a publisher's line (4 KiB), since a subject mapping and
the subscription id make the line that arrives longer, and INFO lists every server of the cluster."""

MAX_ADDED_HEADERS = 64 * 1024
"""What a frame may hold beyond max_payload: republishing by JetStream adds headers after the limit was checked."""

MAX_DIGITS = 19
"""Digits of a size or of a subscription's id. More would be over any bound, and very many are slow to read as a number."""

_CRLF = b"\r\n"
_H, _M, _SPACE = b"HM "
_USUAL = re.compile(rb"HMSG (\S+) (\d{1,19}) (\d{1,19}) (\d{1,19})\r\n")
"""The line of a message with headers and without a reply subject, as nats-server writes it: found at half the cost."""


def _message_line(line: bytes) -> tuple[bytes, bytes, bytes, int, int]:
    """Take a MSG or HMSG line apart: subject, sid, reply, bytes of header, bytes of header and payload.

    Raises:
        ProtocolError: The line is neither.
    """
    words = line.split()
    if line[0] == _M:
        if len(words) == 4:
            op, subject, sid, size = words
            reply = b""
        elif len(words) == 5:
            op, subject, sid, reply, size = words
        else:
            raise ProtocolError("nats: malformed MSG")
        if op == b"MSG" and size.isdigit() and len(size) <= MAX_DIGITS and line[-1] > _SPACE:
            return subject, sid, reply, 0, int(size)
        raise ProtocolError("nats: malformed MSG")
    if len(words) == 5:
        op, subject, sid, head, size = words
        reply = b""
    elif len(words) == 6:
        op, subject, sid, reply, head, size = words
    else:
        raise ProtocolError("nats: malformed HMSG")
    digits = size.isdigit() and head.isdigit() and max(len(size), len(head)) <= MAX_DIGITS
    if op == b"HMSG" and digits and line[-1] > _SPACE:
        header_size, total = int(head), int(size)
        if header_size <= total:
            return subject, sid, reply, header_size, total
    raise ProtocolError("nats: malformed HMSG")


class FastParser(Parser):
    """Splits the server's bytes into messages and control lines; feed it with `parse`."""

    def __init__(
        self,
        nc: Any,  # noqa: ANN401 - nats-py's client, of which this uses private coroutines
        subscriptions: Mapping[bytes, RawSubscription],
        traffic: Traffic,
        on_chunk_end: Callable[[], None],
        on_callback_error: Callable[[Exception], None],
    ) -> None:
        """Serve `subscriptions` (by the digits of their sid); other sids go to nats-py.

        `on_chunk_end` is called after each `parse` that found something whole; both hooks must not raise.
        """
        self._subscriptions = subscriptions
        self._traffic = traffic
        self._on_chunk_end = on_chunk_end
        self._on_callback_error = on_callback_error
        self._closed = False
        self._life = 0
        super().__init__(nc)

    def reset(self) -> None:
        """Forget what is buffered; a `parse` under way drops the rest of its chunk."""
        super().reset()
        self._life += 1
        self._parts: list[bytes] = []
        self._have = 0
        self._want = 0

    def close(self) -> None:
        """Deliver nothing any more, whatever an old read loop may still bring."""
        self.reset()
        self._closed = True

    async def parse(self, data: bytes = b"") -> None:
        """Deliver every message and control line that `data` completes, in their order.

        Raises:
            ProtocolError: The bytes are not the NATS protocol, or a line or frame is over its bound.
        """
        self._traffic.chunks += 1
        if self._have:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._want:
                return
            data = b"".join(self._parts)
            self._parts.clear()
            self._have = 0
        try:
            await self._deliver(data)
        finally:
            self._on_chunk_end()

    def _keep(self, rest: bytes, want: int) -> None:
        """Hold an unfinished frame until `want` bytes of it are here; pieces are joined once, not per chunk."""
        self._parts.append(rest)
        self._have = len(rest)
        self._want = want

    async def _deliver(self, data: bytes) -> None:  # noqa: C901, PLR0912, PLR0915 - the hot loop
        if self._closed:
            return
        nc = self.nc
        find, match = data.find, _USUAL.match
        subscription_of = self._subscriptions.get
        limit = nc._max_payload + MAX_ADDED_HEADERS
        life = self._life
        end = len(data)
        pos = msgs = msg_bytes = 0
        try:
            while pos < end:
                kind = data[pos]
                usual = match(data, pos, pos + MAX_LINE) if kind == _H else None
                if usual is not None:
                    subject, sid, head_size, size = usual.groups()
                    reply, head, total, start = b"", int(head_size), int(size), usual.end()
                    if head > total:
                        raise ProtocolError("nats: malformed HMSG")
                else:
                    eol = find(_CRLF, pos, pos + MAX_LINE)
                    if eol < 0:
                        if end - pos >= MAX_LINE:
                            raise ProtocolError("nats: control line too long")
                        self._keep(data[pos:], end - pos + 1)
                        return
                    start = eol + 2
                    if kind not in b"MH":
                        await self._control(data[pos:start])
                        if self._life != life:
                            return
                        pos = start
                        continue
                    subject, sid, reply, head, total = _message_line(data[pos:eol])
                if total > limit:
                    raise ProtocolError("nats: message larger than the server announced")
                subscription = subscription_of(sid)
                if subscription is None and not (sid.isdigit() and len(sid) <= MAX_DIGITS):
                    raise ProtocolError("nats: malformed MSG")
                stop = start + total
                if stop + 2 > end:
                    self._keep(data[pos:], stop + 2 - pos)
                    return
                if subscription is not None:
                    msgs += 1
                    msg_bytes += total
                    try:
                        if head:
                            split = start + head
                            subscription.callback(subject, reply, data[start:split], data[split:stop])
                        else:
                            subscription.callback(subject, reply, b"", data[start:stop])
                    except Exception as error:  # noqa: BLE001 - reported; raising would end the read loop
                        self._on_callback_error(error)
                else:
                    await self._hand_over(int(sid), subject, reply, data[start:stop], head)
                if self._life != life:
                    return
                pos = stop + 2
        finally:
            self._traffic.in_msgs += msgs
            self._traffic.in_bytes += msg_bytes

    async def _hand_over(self, sid: int, subject: bytes, reply: bytes, body: bytes, head: int) -> None:
        """Give a message to nats-py's own subscriptions."""
        header = body[:head] if head else None
        try:
            await self.nc._process_msg(sid, subject, reply, body[head:], header)
        except ProtocolError:
            raise
        except Exception as error:  # noqa: BLE001 - reported; a strange header must not end the read loop
            self._on_callback_error(error)

    async def _control(self, line: bytes) -> None:
        """Act on one line that is not a message, as the stock parser does."""
        nc = self.nc
        if PING_RE.match(line):
            await nc._process_ping()
        elif PONG_RE.match(line):
            await nc._process_pong()
        elif OK_RE.match(line):
            return
        elif found := ERR_RE.match(line):
            await nc._process_err((found[1] or b"").decode("utf-8", "replace"))
        elif found := INFO_RE.match(line):
            try:
                info = json.loads(found[1].decode())
            except ValueError:
                raise ProtocolError("nats: malformed INFO") from None
            await nc._process_info(info)
        else:
            raise ProtocolError("nats: unknown protocol")
