"""The checker's other half, for channels with history: nobody who was told that nothing is missing may miss anything.

What the streams hold in the end is the truth: each acknowledged publication once, each publisher's in its order. What a
subscriber holds of a channel is a row of spans. A span begins where a subscribe reply says that it is (epoch and offset),
goes on over every reply that says `recovered`, and ends with the reply that does not, or the unsubscription. Within a span
the subscriber must have been given exactly what the stream holds behind its beginning, up to the last that it was given;
who is subscribed in the end, up to the stream's end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from tests.support.checker import DeliveryError, Record

Place = tuple[str, str]
"""A channel and an epoch."""


class Span(msgspec.Struct):
    """What a subscriber was given without being told of a hole. Offsets are of one epoch."""

    epoch: str
    start: int
    open: bool = True
    got: list[Record] = []
    recoveries: int = 0


def anonymous(record: Record) -> Record:
    """Return what a publisher knows of its publication, who is told no offset."""
    return record._replace(epoch="", offset=0)


class Continuity:
    """The log of one test. `stored` is told last, from the streams themselves."""

    def __init__(self) -> None:
        self._acknowledged: dict[Record, None] = {}
        self._refused: set[Record] = set()
        self._spans: dict[tuple[str, str], list[Span]] = defaultdict(list)
        self._stored: dict[Place, list[Record]] = defaultdict(list)
        self._lost_lives: set[Place] = set()

    # What publishers report, without epoch and offset.

    def acknowledged(self, sent: Record) -> None:
        """The publisher was told that it is stored."""
        assert sent not in self._acknowledged, f"acknowledged twice: {sent}"
        self._acknowledged[sent] = None

    def refused(self, sent: Record) -> None:
        """The publisher was told for certain that it is not stored."""
        self._refused.add(sent)

    # What subscribers report.

    def subscribed(self, subscriber: str, channel: str, epoch: str, offset: int, *, recovered: bool) -> None:
        """A subscribe reply came: where the subscriber is now, or that it has `recovered` all since it was last there."""
        spans = self._spans[subscriber, channel]
        if recovered and spans and spans[-1].epoch == epoch:
            spans[-1].open = True
            spans[-1].recoveries += 1
            return
        if spans:
            spans[-1].open = False
        spans.append(Span(epoch, offset))

    def unsubscribed(self, subscriber: str, channel: str) -> None:
        """The subscription has ended, or its connection."""
        for span in self._spans[subscriber, channel][-1:]:
            span.open = False

    def received(self, subscriber: str, got: Record) -> None:
        """The subscriber was given this; the epoch is the one of its span."""
        span = self._spans[subscriber, got.channel][-1]
        span.got.append(got._replace(epoch=span.epoch))

    # What the streams hold.

    def stored(self, record: Record) -> None:
        """A stream holds this, with epoch and offset; in the order of offsets for each channel."""
        self._stored[record.channel, record.epoch].append(record)

    def lost(self, channel: str, epoch: str) -> None:
        """This life of the channel was destroyed on purpose: what it held need not be there any more."""
        self._lost_lives.add((channel, epoch))

    # The verdict.

    @property
    def counts(self) -> str:
        """Return what was logged, for a test to print."""
        spans = [span for row in self._spans.values() for span in row]
        return (
            f"{len(self._acknowledged)} acknowledged, {len(self._refused)} refused, "
            f"{sum(map(len, self._stored.values()))} stored, {len(self._spans)} subscriptions, "
            f"{sum(len(span.got) for span in spans)} deliveries, {sum(span.recoveries for span in spans)} recoveries, "
            f"{len(spans) - len(self._spans)} told of a hole"
        )

    def behind(self) -> list[str]:
        """Return who is subscribed and has not been given the end of its channel yet; more may still come."""
        return [
            f"{subscriber} in {channel}"
            for (subscriber, channel), spans in self._spans.items()
            if spans and spans[-1].open and len(spans[-1].got) < len(self._due(channel, spans[-1]))
        ]

    def check(self) -> None:
        """Raise DeliveryError unless everything acknowledged is stored, once and in order, and no span has a hole."""
        assert self._acknowledged, "nothing was acknowledged, so nothing is shown"
        assert any(self._spans.values()), "nobody subscribed, so nothing is shown"
        defects: dict[tuple[str, str], list[Record]] = {}
        for kind, records in self._judge_stored():
            if records:
                defects["the streams", kind] = records
        for (subscriber, channel), spans in self._spans.items():
            for number, span in enumerate(spans):
                for kind, records in self._judge(channel, span):
                    if records:
                        defects[f"{subscriber} in {channel}, span {number}", kind] = records
        if defects:
            raise DeliveryError(defects, len(self._spans), len(self._acknowledged))

    def _judge_stored(self) -> Iterable[tuple[str, list[Record]]]:
        rows = self._stored.values()
        counts = Counter(anonymous(record) for row in rows for record in row)
        excused = {channel for channel, _ in self._lost_lives}
        yield (
            "lost",
            [sent for sent in self._acknowledged if sent not in counts and sent.channel not in excused],
        )
        yield "stored twice", [sent for sent, count in counts.items() if count > 1]
        yield "refused, and stored", [sent for sent in self._refused if sent in counts]
        yield "reordered", [record for row in rows for record in _out_of_order(row, self._acknowledged)]

    def _judge(self, channel: str, span: Span) -> Iterable[tuple[str, list[Record]]]:
        if (channel, span.epoch) in self._lost_lives:
            return
        due = self._due(channel, span)
        expected, wanted = set(due), Counter(span.got)
        yield "missing", [each for each in due if each not in wanted]
        yield "duplicated", [each for each, count in wanted.items() if count > 1]
        yield "foreign", [each for each in wanted if each not in expected]
        offsets = [each.offset for each in span.got]
        yield (
            "out of order",
            [each for each, before in zip(span.got[1:], offsets, strict=False) if each.offset <= before],
        )

    def _due(self, channel: str, span: Span) -> list[Record]:
        """Return what the subscriber must have been given."""
        row = self._stored[channel, span.epoch]
        last = row[-1].offset if span.open and row else max((each.offset for each in span.got), default=0)
        return [record for record in row if span.start < record.offset <= last]


def _out_of_order(row: Iterable[Record], acknowledged: Mapping[Record, None]) -> list[Record]:
    """Return acknowledged publications that are stored behind a later one of their publisher."""
    newest: dict[str, int] = defaultdict(int)
    found = []
    for record in row:
        if anonymous(record) not in acknowledged:
            continue
        if record.sequence < newest[record.publisher]:
            found.append(record)
        newest[record.publisher] = max(newest[record.publisher], record.sequence)
    return found
