"""Publications to namespaces with history, on JetStream: what is sent, and which answers are believed.

All answers come to one inbox of this edge's; its last token, random and used for one attempt or for repetitions of the same
message, says what is answered. Two things must be right before an answer counts as an acknowledgement: it came on that
token, and it names the stream that the channel belongs to. JetStream sends its acknowledgement to whatever reply subject a
publisher names, so neither alone would do.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from tidewire.edge import pending
from tidewire.edge.pending import ACKNOWLEDGED, Last, Place, Terms, Verdict
from tidewire.kernel.publication_ids import Minter
from tidewire.kernel.streams import stream_name
from tidewire.kernel.subjects import SUBJECT_CACHE, in_subject
from tidewire.platform.jetstream import WRONG_SEQUENCE
from tidewire.platform.nats_types import NO_RESPONDERS, LinkError, PayloadTooLarge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tidewire.edge.pending import Demands, Flight, Pending, Result
    from tidewire.edge.ports import AnswerMetrics
    from tidewire.kernel.clock import Clock
    from tidewire.options.storage_options import StorageProfile
    from tidewire.platform.nats_link import NatsLink
    from tidewire.platform.nats_types import Message

DIRECT_GET: Final = "$JS.API.DIRECT.GET"
RETRY_SHARE: Final = 0.45
"""Of the duplicate window: how long an id is used again."""
FILE_BATCH: Final = 32
"""Where one replica keeps its stream in files, nats-server makes files for each batch, too (`newBatchStore`): some 4 ms of its
CPU and as long a wait, against 0.03 ms for a message by itself. With replicas, or in memory, a batch costs no more than that."""
NOT_FOUND: Final = b"NATS/1.0 404"
NOBODY_CODES: Final = frozenset({10008, 10009})
"""JetStream has no leader at this moment, or is asked at the wrong place."""
IN_PROCESS: Final = 10158

_STORED = re.compile(
    rb"\r\n(Nats-Sequence|Nats-Subject|Nats-Stream|Nats-Msg-Id|Tw-Version|Tw-Version-Epoch):[ \t]*([^\r\n]*)"
)


class ApiError(msgspec.Struct, frozen=True):
    """Why JetStream did not store a message."""

    err_code: int = 0
    description: str = ""


class Acknowledgement(msgspec.Struct, frozen=True):
    """JetStream's answer to a publication."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    batch: str = ""
    count: int = 0
    error: ApiError | None = None


_ACKNOWLEDGEMENT = msgspec.json.Decoder(Acknowledgement)


def terms_of(profile: StorageProfile) -> Terms:
    """Return what a profile means to who publishes."""
    costly = profile.storage == "file" and profile.replicas == 1
    return Terms(float(profile.duplicate_window), FILE_BATCH if costly else 2)


class StreamPublisher:
    """`ports.StreamPort` on a NATS link."""

    def __init__(
        self,
        link: NatsLink,
        partitions: int,
        inbox_prefix: str,
        terms: Mapping[str, Terms],
        clock: Clock,
        metrics: AnswerMetrics,
    ) -> None:
        """`terms`: of each storage profile."""
        self._link = link
        self._partitions = partitions
        self._terms = terms
        self._clock = clock
        self._metrics = metrics
        self._minter = Minter()
        self._flights: dict[bytes, Flight] = {}
        self.stored: Callable[[Flight], None] = _nobody
        """Told what JetStream has acknowledged; `answered`, what else it says to a publication; `found`, what it holds."""
        self.answered: Callable[[Flight, Verdict], None] = _nobody
        self.found: Callable[[Flight, Last | None], None] = _nobody
        self.mapped: Callable[[], bool] = lambda: True
        """Whether the node behind the link maps subjects; one that does not counts as away."""
        self.place = lru_cache(SUBJECT_CACHE)(self._place)
        self._inbox = b"%b.%b." % (inbox_prefix.encode(), self._minter.mint())
        self._inbox_size = len(self._inbox)
        link.subscribe(self._inbox + b"*", self._receive)

    def _place(self, channel: str, profile: str) -> Place:
        """See ports.StreamPort; `place` remembers it."""
        subject = in_subject(channel, self._partitions)
        _, _, partition, namespace, _ = subject.decode().split(".", 4)
        terms = self._terms[profile]
        stream = stream_name(profile, int(partition))
        return Place(subject, stream, namespace, terms.window * RETRY_SHARE, terms.least_batch)

    def fields(self, info: bytes, key: str, trace: bytes, demands: Demands | None) -> bytes:
        """See ports.StreamPort."""
        return b"Tw-V: 1\r\nTw-Time: %d\r\nTw-Info: %b\r\n%b%b%b" % (
            int(self._clock.wall() * 1e6),
            info,
            f"Tw-Key: {key}\r\n".encode() if key else b"",
            _demanded(demands) if demands is not None else b"",
            trace,
        )

    # To JetStream.

    def send(self, flight: Flight) -> Result | None:
        """See ports.StreamPort."""
        if not self.mapped():
            return pending.AWAY
        if not flight.token:
            self._expect(flight)
        try:
            if len(flight.publications) > 1:
                self._send_batch(flight)
            else:
                self._send_one(flight, flight.publications[0])
        except LinkError as error:
            return pending.TOO_LARGE if isinstance(error, PayloadTooLarge) else pending.AWAY
        return None

    def _send_one(self, flight: Flight, publication: Pending) -> None:
        if not publication.id:
            publication.id = self._minter.mint()
        expected = publication.expected
        header = b"NATS/1.0\r\nNats-Msg-Id: %b\r\n%b%b\r\n" % (
            publication.id,
            b"" if expected is None else b"Nats-Expected-Last-Subject-Sequence: %d\r\n" % expected,
            publication.fields,
        )
        self._link.publish(flight.lane.place.subject, publication.data, header, self._inbox + flight.token)

    def send_all(self, flights: Sequence[Flight]) -> bool:
        """See ports.StreamPort."""
        if not self.mapped():
            return False
        inbox, count = self._inbox, len(flights)
        ids, tokens = self._minter.mint_all(count), self._minter.mint_all(count)
        messages: list[Message] = []
        for flight, publication_id, token in zip(flights, ids, tokens, strict=True):
            publication = flight.publications[0]
            header = b"NATS/1.0\r\nNats-Msg-Id: %b\r\n%b\r\n" % (publication_id, publication.fields)
            messages.append((flight.lane.place.subject, inbox + token, header, publication.data))
            publication.id, flight.token = publication_id, token
        try:
            self._link.publish_each(messages)
        except LinkError:
            for flight in flights:
                flight.token = b""
            return False
        self._flights.update(zip(tokens, flights, strict=True))
        return True

    def _send_batch(self, flight: Flight) -> None:
        """Only the last message is answered. All are sent or none: a batch that does not end is one of the stream's 50 for 10 s."""
        reply, last = self._inbox + flight.token, len(flight.publications)
        subject = flight.lane.place.subject
        messages: list[Message] = []
        for number, publication in enumerate(flight.publications, 1):
            if not publication.id:
                publication.id = self._minter.mint()
            ends = number == last
            header = (
                b"NATS/1.0\r\nNats-Msg-Id: %b\r\nNats-Batch-Id: %b\r\nNats-Batch-Sequence: %d\r\n%b%b\r\n"
                % (
                    publication.id,
                    flight.first.id,
                    number,
                    b"Nats-Batch-Commit: 1\r\n" if ends else b"",
                    publication.fields,
                )
            )
            messages.append((subject, reply if ends else b"", header, publication.data))
        self._link.publish_each(messages)

    def ask(self, flight: Flight) -> Result | None:
        """See ports.StreamPort."""
        self.forget(flight)
        self._expect(flight)
        place = flight.lane.place
        subject = b"%b.%b.%b" % (DIRECT_GET.encode(), place.stream.encode(), place.subject)
        try:
            self._link.publish(subject, b"", b"", self._inbox + flight.token)
        except LinkError:
            return pending.AWAY
        return None

    def _expect(self, flight: Flight) -> None:
        flight.token = token = self._minter.mint()
        self._flights[token] = flight

    def forget(self, flight: Flight) -> None:
        """See ports.StreamPort."""
        self._flights.pop(flight.token, None)
        flight.token = b""

    # From JetStream.

    def _receive(self, subject: bytes, _reply: bytes, header: bytes, payload: bytes) -> None:
        flight = self._flights.get(subject[self._inbox_size :])
        if flight is None:
            self._metrics.ignored("unexpected")
        elif flight.asks:
            self.forget(flight)
            self.found(flight, self._last(flight, header))
        elif header:
            if header.startswith(NO_RESPONDERS):
                self._metrics.refused(Verdict.NOBODY, "no stream answers")
                self.answered(flight, Verdict.NOBODY)
            else:
                self._metrics.ignored("malformed")
        else:
            verdict = self._verdict(flight, payload)
            if verdict is ACKNOWLEDGED:
                del self._flights[flight.token]
                flight.token = b""
                self.stored(flight)
            elif verdict is not None:
                self.answered(flight, verdict)

    def _verdict(self, flight: Flight, payload: bytes) -> Verdict | None:
        """Return what an answer says, None (counted) where it is not to be believed."""
        try:
            answer = _ACKNOWLEDGEMENT.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._metrics.ignored("malformed")
            return None
        if answer.error is not None:
            return self._refusal(answer.error)
        if answer.stream != flight.lane.place.stream or answer.seq <= 0:
            self._metrics.ignored("other_stream")
            return None
        several = len(flight.publications)
        if several > 1 and (answer.count != several or answer.batch.encode() != flight.first.id):
            self._metrics.ignored("other_batch")
            return None
        return Verdict.DUPLICATE if answer.duplicate else ACKNOWLEDGED

    def _refusal(self, error: ApiError) -> Verdict:
        if error.err_code in WRONG_SEQUENCE:
            return Verdict.OUTRUN
        if error.err_code == IN_PROCESS:
            return Verdict.IN_PROCESS
        verdict = Verdict.NOBODY if error.err_code in NOBODY_CODES else Verdict.REFUSED
        self._metrics.refused(verdict, f"{error.description} ({error.err_code})")
        return verdict

    def _last(self, flight: Flight, header: bytes) -> Last | None:
        """Return what is held, None where the answer does not tell."""
        if header.startswith(NOT_FOUND):
            return Last()
        fields = dict(_STORED.findall(header))  # the last one of a name counts: the server's
        place = flight.lane.place
        sequence = fields.get(b"Nats-Sequence", b"")
        if (
            fields.get(b"Nats-Stream") != place.stream.encode()
            or fields.get(b"Nats-Subject") != place.subject
        ):
            if not header.startswith(NO_RESPONDERS):
                self._metrics.ignored("malformed")
            return None
        return Last(
            int(sequence),
            fields.get(b"Nats-Msg-Id", b""),
            _number(fields.get(b"Tw-Version", b"")),
            fields.get(b"Tw-Version-Epoch", b"").decode(errors="replace"),
        )


def _number(digits: bytes) -> int:
    return int(digits) if digits.isdigit() and len(digits) < 20 else 0


def _demanded(demands: Demands) -> bytes:
    lines = ""
    if demands.version:
        lines += f"Tw-Version: {demands.version}\r\n"
    if demands.version_epoch:
        lines += f"Tw-Version-Epoch: {demands.version_epoch}\r\n"
    if demands.ttl:
        lines += f"Nats-TTL: {demands.ttl}\r\n"
    return lines.encode()


def _nobody(*_: object) -> None:
    """Stand in until somebody listens."""
