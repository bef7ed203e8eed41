"""JetStream as lanes see it, without a network: attempts are processed, lost and answered when and as the test says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidewire.edge.pending import TOO_LARGE, Demands, Flight, Last, Pending, Place, Result, Verdict

PLACE = Place(b"tw.in.0.kept.a", "TW_default_0", "kept", 13.5)


class Copy:
    """A publication as it went out: later attempts do not change it."""

    def __init__(self, publication: Pending) -> None:
        self.publication = publication
        self.id = publication.id
        self.data = publication.data
        self.expected = publication.expected
        demands = publication.demands or Demands()
        self.version, self.epoch = demands.version, demands.version_epoch


class Attempt:
    """What one `send` or `ask` put on the wire."""

    def __init__(self, flight: Flight, sent_at: float) -> None:
        self.flight = flight
        self.token = flight.token
        self.asks = flight.asks
        self.copies = [] if flight.asks else [Copy(each) for each in flight.publications]
        self.sent_at = sent_at
        self.answer: Any = None
        """A Verdict, or for a question Last or None in a tuple."""

    @property
    def expected_by_lanes(self) -> bool:
        """Whether the lanes still hear answers to it."""
        return bool(self.token) and self.flight.token == self.token


class ModelPort:
    """`ports.StreamPort` in front of one stream. `stored` is the truth: (id, data, version, epoch), oldest first."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._tokens = 0
        self.away: Result | None = None
        self.too_large = b"too large"
        """The data that are never taken."""
        self.attempts: list[Attempt] = []
        self.stored: dict[str, list[Copy]] = {}
        self.ids: dict[bytes, None] = {}
        self.sequence = 0
        self.sequences: dict[str, int] = {}

    # The port.

    def place(self, channel: str, profile: str) -> Place:
        return PLACE

    def fields(self, info: bytes, key: str, trace: bytes, demands: Demands | None) -> bytes:
        return b"fields\r\n"

    def send(self, flight: Flight) -> Result | None:
        return self._put(flight)

    def send_all(self, flights: Sequence[Flight]) -> bool:
        if self.away is not None or any(flight.first.data == self.too_large for flight in flights):
            return False
        return all(self._put(flight) is None for flight in flights)

    def ask(self, flight: Flight) -> Result | None:
        self.forget(flight)
        return self._put(flight)

    def forget(self, flight: Flight) -> None:
        flight.token = b""

    def _put(self, flight: Flight) -> Result | None:
        if self.away is not None:
            return self.away
        for each in flight.publications:
            if each.data == self.too_large:
                return TOO_LARGE
            if not each.id:
                each.id = self._mint()
        if not flight.token:
            flight.token = self._mint()
        self.attempts.append(Attempt(flight, self._clock.monotonic()))
        return None

    def _mint(self) -> bytes:
        self._tokens += 1
        return b"m%d" % self._tokens

    # The stream.

    def process(self, attempt: Attempt) -> None:
        """Let the stream do what JetStream does, and note its answer."""
        channel = attempt.flight.lane.channel
        held = self.stored.setdefault(channel, [])
        if attempt.asks:
            newest = held[-1] if held else None
            last = (
                Last()
                if newest is None
                else Last(self.sequences[channel], newest.id, newest.version, newest.epoch)
            )
            attempt.answer = (last,)
        elif len(attempt.copies) > 1:
            ids = [copy.id for copy in attempt.copies]
            if len(set(ids)) < len(ids) or any(number in self.ids for number in ids):
                attempt.answer = Verdict.REFUSED
            else:
                self._store(channel, attempt.copies)
                attempt.answer = Verdict.STORED
        else:
            attempt.answer = self._single(channel, attempt.copies[0])

    def _single(self, channel: str, copy: Copy) -> Verdict:
        if copy.expected is not None and copy.expected != self.sequences.get(channel, 0):
            return Verdict.OUTRUN  # looked at before the id, as nats-server does
        if copy.id in self.ids:
            return Verdict.DUPLICATE
        self._store(channel, [copy])
        return Verdict.STORED

    def _store(self, channel: str, copies: list[Copy]) -> None:
        for copy in copies:
            self.sequence += 1
            self.sequences[channel] = self.sequence
            self.ids[copy.id] = None
            self.stored[channel].append(copy)
