"""Bytes on their way to the server: collected within one turn of the loop, written in one piece, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tidewire.platform.nats_client import PING, LinkClient
from tidewire.platform.nats_types import LinkFull

Answered = tuple[list[int], bool]
"""The barriers of one PING, and whether the server took all that was written before it."""


class _Pong:
    """Waits in nats-py's line for the PONG that ends the barriers of one loop turn."""

    __slots__ = ("_answered", "_numbers", "_taken")

    def __init__(self, numbers: list[int], answered: list[Answered]) -> None:
        self._numbers = numbers
        self._answered = answered
        self._taken = True

    def refuse(self) -> None:
        self._taken = False

    def done(self) -> bool:
        return False

    def set_result(self, _result: bool, /) -> None:
        self._answered.append((self._numbers, self._taken))


class Outgoing:
    """Collects commands for the attached client; without one, commands are dropped (they are sent anew later)."""

    def __init__(self, limit: int, overrun: Callable[[], None]) -> None:
        """Refuse messages beyond `limit` waiting bytes; call `overrun` when control lines alone pass twice that."""
        self.answered: list[Answered] = []
        """Barriers whose PONG has come, in order; the reader empties it."""
        self.turn = 0
        """How many PINGs were written; all that is sent in one turn stands before its PING."""
        self._limit = limit
        self._overrun = overrun
        self._client: LinkClient | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._unsent = 0
        self._pings: list[int] = []
        self._scheduled = False

    @property
    def attached(self) -> bool:
        """Whether there is a connection to write to."""
        return self._client is not None

    @property
    def waiting(self) -> int:
        """Bytes that are not in the hands of the operating system yet."""
        return self._size + self._measure()

    @property
    def unsent_ping(self) -> int:
        """The newest number that waits for a PING which is not written yet; 0 for none."""
        return self._pings[-1] if self._pings else 0

    def attach(self, client: LinkClient) -> None:
        """Write to this client from now on."""
        self.detach()
        self._client = client

    def detach(self) -> None:
        """Forget the client and all that was not written."""
        self._client = None
        self._parts.clear()
        self._pings.clear()
        self.answered.clear()
        self._size = self._unsent = 0

    def message(self, message: bytes) -> None:
        """Send one publication (`nats_grammar.publication`).

        Raises:
            LinkFull: More than the limit waits already.
        """
        if self._size + self._unsent > self._limit:
            self._refuse_when_full()
        self._parts.append(message)
        self._size += len(message)
        if not self._scheduled:
            self._schedule()

    def messages(self, pieces: Sequence[bytes]) -> None:
        """Send the pieces of publications, at least one, in order.

        Raises:
            LinkFull: More than the limit waits already: all are refused.
        """
        self._refuse_when_full()
        self._parts += pieces
        self._size += sum(map(len, pieces))
        if not self._scheduled:
            self._schedule()

    def _refuse_when_full(self) -> None:
        # What waited in the socket is measured once a turn: it can only have become less since.
        if self._size + self._unsent > self._limit and self._size + self._measure() > self._limit:
            raise LinkFull(f"more than {self._limit} bytes wait for the NATS socket")

    def control(self, line: bytes) -> None:
        """Send a SUB or UNSUB line; never refused, since what it changes is already decided."""
        self._parts.append(line)
        self._size += len(line)
        if self._size + self._unsent > 2 * self._limit and self._size + self._measure() > 2 * self._limit:
            self._overrun()
            return
        if not self._scheduled:
            self._schedule()

    def bulk(self, lines: bytes) -> None:
        """Write many lines at once, ahead of what this turn has collected."""
        if self._client is not None and not self._client.wire.is_closing():
            self._client.wire.write(lines)

    def ping(self, number: int) -> None:
        """Put `number` into `answered` when the server has processed all that was written up to this turn's end."""
        self._pings.append(number)
        if not self._scheduled:
            self._schedule()

    def flush(self) -> None:
        """Write what this turn has collected, and one PING if anybody waits for it."""
        self._scheduled = False
        client = self._client
        if client is None or client.wire.is_closing():  # lost, and about to be reported so
            self._parts.clear()
            self._size = 0
            return
        if self._pings:
            # nats-py appends to the same line when it writes a PING of its own, so the order on the wire is kept.
            client.await_pong(_Pong(self._pings, self.answered))
            self._pings = []
            self.turn += 1
            self._parts.append(PING)
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
            client.wire.write(data)
            self._unsent = self._measure()

    def _measure(self) -> int:
        if self._client is None:
            return 0
        self._unsent = unsent = self._client.wire.get_write_buffer_size()
        return unsent

    def _schedule(self) -> None:
        self._scheduled = True
        asyncio.get_running_loop().call_soon(self.flush)
