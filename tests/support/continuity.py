"""The checker's other half, for channels with history: nobody who was told that nothing is missing may miss anything.

A channel has lives, each named by an epoch. What the streams hold at the end of a life is the truth about it: each
acknowledged publication once, each publisher's in its order. What a subscriber holds of a channel is a row of spans. A span
begins where a subscribe reply says that it is (epoch and offset), goes on over every reply that says `recovered`, and ends
with the reply that does not, or the unsubscription. Within a span the subscriber must have been given exactly what its life
holds behind its beginning, up to the last that it was given; who is subscribed in the end, up to the end of the last life.

Lives end only by an operator's hand or by what a setting does not promise to outlive:

- a copy of the streams is put back (`copied`, `restored`). The life before it was read to its end, and is judged as any
  other. What was acknowledged between the copy and its return is in that life, and need not be in the next one; everything
  else must be.
- streams in memory are gone (`vanished`). Nobody can read them any more, so what was heard of that life must agree: one
  publication at each offset, and no span lacks what another has.

Nobody may be told `recovered` from one life into another, nor be left in a life that has ended; and a life that nobody has
ended goes on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping

import msgspec

from tests.support.checker import DeliveryError, Record

Place = tuple[str, str]
"""A channel and an epoch: a life of the channel."""
Verdicts = Iterable[tuple[str, list[Record]]]
"""Kinds of defects, and the records that show them."""


class Span(msgspec.Struct):
    """What a subscriber was given without being told of a hole. Offsets are of one epoch."""

    epoch: str
    start: int
    open: bool = True
    got: list[Record] = []
    recoveries: int = 0


class Figures(msgspec.Struct):
    """What was counted. `holes`: how often somebody was told that something is missing."""

    acknowledged: int
    refused: int
    stored: int
    subscriptions: int
    deliveries: int
    recoveries: int
    holes: int
    given_up: int

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged, {self.refused} refused, {self.stored} stored, "
            f"{self.subscriptions} subscriptions, {self.deliveries} deliveries, {self.recoveries} recoveries, "
            f"{self.holes} told of a hole, {self.given_up} given up with their life"
        )


def anonymous(record: Record) -> Record:
    """Return what a publisher knows of its publication, who is told no offset."""
    return record._replace(epoch="", offset=0)


class Continuity:
    """The log of one test. `stored` is told at the end of each life, from the streams themselves."""

    def __init__(self) -> None:
        self._acknowledged: dict[Record, None] = {}
        self._refused: set[Record] = set()
        self._spans: dict[tuple[str, str], list[Span]] = defaultdict(list)
        self._stored: dict[Place, list[Record]] = defaultdict(list)
        self._ended: set[Place] = set()
        self._vanished: set[str] = set()
        self._copied = 0
        self._given_up: set[Record] = set()
        self._false_promises: list[tuple[str, Record]] = []
        self._known: dict[Record, Record] = {}

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
        if recovered:
            self._false_promises.append((subscriber, Record(channel, epoch, offset, "", subscriber, 0)))
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
        record = got._replace(epoch=span.epoch)
        span.got.append(self._known.setdefault(record, record))  # one object for all who were given it

    # What befalls the streams.

    def stored(self, record: Record) -> None:
        """A stream holds this, with epoch and offset; in the order of offsets for each channel."""
        self._stored[record.channel, record.epoch].append(self._known.setdefault(record, record))

    def copied(self) -> None:
        """A copy was made of all streams, which holds whatever is acknowledged so far."""
        self._copied = len(self._acknowledged)

    def restored(self, channels: Iterable[str]) -> None:
        """Nobody writes any more, `stored` has told all of these channels, and the copy was put back in their place."""
        wanted = set(channels)
        self._ended.update(place for place in self._stored if place[0] in wanted)
        since = list(self._acknowledged)[self._copied :]
        self._given_up.update(sent for sent in since if sent.channel in wanted)

    def vanished(self, channels: Iterable[str]) -> None:
        """All that these channels held is gone, as their storage does not outlive what befell it, and nobody has read it."""
        wanted = set(channels)
        self._vanished |= wanted
        self._ended.update(
            (channel, span.epoch)
            for (_, channel), spans in self._spans.items()
            for span in spans
            if channel in wanted
        )
        self._given_up.update(sent for sent in self._acknowledged if sent.channel in wanted)

    # The verdict.

    @property
    def figures(self) -> Figures:
        """Return what was logged, for a test to print."""
        spans = [span for row in self._spans.values() for span in row]
        return Figures(
            acknowledged=len(self._acknowledged),
            refused=len(self._refused),
            stored=sum(len(row) for place, row in self._stored.items() if place not in self._ended),
            subscriptions=len(self._spans),
            deliveries=sum(len(span.got) for span in spans),
            recoveries=sum(span.recoveries for span in spans),
            holes=len(spans) - len(self._spans),
            given_up=len(self._given_up),
        )

    def behind(self) -> list[str]:
        """Return who is subscribed and has not been given the end of its channel yet; more may still come."""
        return [
            f"{subscriber} in {channel}"
            for (subscriber, channel), spans in self._spans.items()
            if spans and spans[-1].open and self._lacks(channel, spans[-1])
        ]

    def _lacks(self, channel: str, span: Span) -> bool:
        first, end = _due(self._stored.get((channel, span.epoch), []), span)
        return len(span.got) < end - first

    def check(self) -> None:
        """Raise DeliveryError unless everything acknowledged is stored, once and in order, and no span has a hole."""
        assert self._acknowledged, "nothing was acknowledged, so nothing is shown"
        assert any(self._spans.values()), "nobody subscribed, so nothing is shown"
        defects: dict[tuple[str, str], list[Record]] = {}
        for who, verdicts in self._all_verdicts():
            for kind, records in verdicts:
                if records:
                    defects[who, kind] = records
        if defects:
            raise DeliveryError(defects, len(self._spans), len(self._acknowledged))

    def _all_verdicts(self) -> Iterable[tuple[str, Verdicts]]:
        vanished = self._heard_of_vanished()
        yield "the streams", self._judge_stored()
        yield "what was heard", self._judge_heard(vanished)
        for subscriber, record in self._false_promises:
            yield subscriber, [("told recovered without a life to go on with", [record])]
        for (subscriber, channel), spans in self._spans.items():
            for number, span in enumerate(spans):
                place = channel, span.epoch
                row = vanished.get(place) or self._stored.get(place, [])
                yield f"{subscriber} in {channel}, span {number}", self._judge(channel, span, row)

    # What the streams hold.

    def _judge_stored(self) -> Verdicts:
        rows = self._stored.values()
        counts = {place: Counter(map(anonymous, row)) for place, row in self._stored.items()}
        anywhere = {sent for each in counts.values() for sent in each}
        last = {sent for place, each in counts.items() if place not in self._ended for sent in each}
        yield "lost", [sent for sent in self._acknowledged if not self._is_kept(sent, last, anywhere)]
        yield "stored twice", [sent for each in counts.values() for sent in each if each[sent] > 1]
        yield "refused, and stored", [sent for sent in self._refused if sent in anywhere]
        yield "reordered", [record for row in rows for record in _out_of_order(row, self._acknowledged)]

    def _is_kept(self, sent: Record, last: Container[Record], anywhere: Container[Record]) -> bool:
        """What was given up must at least have been in the life that was, where somebody could read that."""
        if sent not in self._given_up:
            return sent in last
        return sent in anywhere or sent.channel in self._vanished

    # What was heard of lives that nobody can read any more.

    def _heard_of_vanished(self) -> dict[Place, list[Record]]:
        """Return all that anybody was given of each such life, in the order of offsets."""
        heard: dict[Place, set[Record]] = defaultdict(set)
        for (_, channel), spans in self._spans.items():
            for span in spans:
                if channel in self._vanished and (channel, span.epoch) in self._ended:
                    heard[channel, span.epoch].update(span.got)
        return {place: sorted(records, key=lambda each: each.offset) for place, records in heard.items()}

    def _judge_heard(self, vanished: Mapping[Place, list[Record]]) -> Verdicts:
        rows = vanished.values()
        counts = Counter(each._replace(digest="", publisher="", sequence=0) for row in rows for each in row)
        yield "at one offset", [place for place, count in counts.items() if count > 1]
        yield "reordered", [record for row in rows for record in _out_of_order(row, self._acknowledged)]
        yield "refused, and heard", [each for row in rows for each in row if anonymous(each) in self._refused]

    # What subscribers were given.

    def _judge(self, channel: str, span: Span, row: list[Record]) -> Verdicts:
        if span.open and (channel, span.epoch) in self._ended:
            yield "left in a life that has ended", [Record(channel, span.epoch, span.start, "", "", 0)]
        if span.got and not row:
            yield "in a life that nobody has ended", span.got
            return
        first, end = _due(row, span)
        due = row[first:end]
        if span.got == due:
            return
        expected, wanted = set(due), Counter(span.got)
        yield "missing", [each for each in due if each not in wanted]
        yield "duplicated", [each for each, count in wanted.items() if count > 1]
        yield "foreign", [each for each in wanted if each not in expected]
        offsets = [each.offset for each in span.got]
        yield (
            "out of order",
            [each for each, before in zip(span.got[1:], offsets, strict=False) if each.offset <= before],
        )


def _due(row: list[Record], span: Span) -> tuple[int, int]:
    """Return which part of a life's row the subscriber must have been given."""
    last = row[-1].offset if span.open and row else max((each.offset for each in span.got), default=0)
    first, end = (bisect_right(row, offset, key=_offset) for offset in (span.start, last))
    return first, max(first, end)


def _offset(record: Record) -> int:
    return record.offset


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
