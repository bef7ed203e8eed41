"""The one checker of every claim about loss and order: what was acknowledged is what each subscriber received.

Publishers report what was acknowledged, what failed for certain and what nobody can know (a temporary error may have
been delivered all the same); subscribers report what they received, in order. `check` then demands of each subscriber:
everything acknowledged, once, in order; of the unknown at most one each, in order; nothing else.

A publication with history is identified by (channel, epoch, offset). Without history epoch is "" and offset 0, and what
identifies it is the publisher's own running number in the payload. The hash of the payload is part of the identity, so
an altered publication is one that is missing and one that is foreign.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tests.support.wait import eventually

SHOWN = 5
"""Records named per subscriber and defect; the report gives the counts of all."""


class Record(NamedTuple):
    """One publication as it was sent or received."""

    channel: str
    epoch: str
    offset: int
    digest: str
    publisher: str
    sequence: int

    def __str__(self) -> str:
        place = f"@{self.epoch}:{self.offset}" if self.offset else ""
        return f"{self.channel}{place} {self.publisher}#{self.sequence} ({self.digest[:8]})"


def payload(publisher: str, sequence: int, **more: object) -> dict[str, object]:
    """Return data that carries who published it and as which of its own, counted per channel."""
    return {"publisher": publisher, "sequence": sequence, **more}


def record(channel: str, data: Mapping[str, Any], *, epoch: str = "", offset: int = 0) -> Record:
    """Return the record of a publication. `data` is compared as JSON, whatever its white space and key order."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Record(
        channel, epoch, offset, digest, str(data.get("publisher", "")), int(data.get("sequence", 0))
    )


class DeliveryError(AssertionError):
    """What was received is not what was acknowledged. `defects` maps (subscriber, kind) to the records."""

    def __init__(self, defects: Mapping[tuple[str, str], list[Record]], subscribers: int, sent: int) -> None:
        self.defects = defects
        lines = [f"{sent} publications acknowledged, {subscribers} subscribers, defects:"]
        for (subscriber, kind), records in defects.items():
            named = ", ".join(map(str, records[:SHOWN]))
            more = f" and {len(records) - SHOWN} more" if len(records) > SHOWN else ""
            lines.append(f"  {subscriber}: {len(records)} {kind}: {named}{more}")
        super().__init__("\n".join(lines))


class Checker:
    """The log of one test."""

    def __init__(self) -> None:
        self._acknowledged: dict[Record, None] = {}
        self._unknown: set[Record] = set()
        self._failed: set[Record] = set()
        self._received: dict[str, list[Record]] = {}
        self._channels: dict[str, frozenset[str]] = {}
        self._partial: set[str] = set()

    # What publishers report.

    def acknowledged(self, sent: Record) -> None:
        """The publisher was told that it worked: every subscriber must have it."""
        assert sent not in self._acknowledged, (
            f"acknowledged twice, so the test's payloads are not unique: {sent}"
        )
        self._acknowledged[sent] = None

    def unknown(self, sent: Record) -> None:
        """The publisher was told that it may or may not have worked: subscribers may have it, once."""
        self._unknown.add(sent)

    def failed(self, sent: Record) -> None:
        """The publisher was told that it did not work: nobody may ever have it."""
        self._failed.add(sent)

    # What subscribers report.

    def subscribed(self, subscriber: str, channels: Iterable[str], *, throughout: bool = True) -> None:
        """Name a subscriber. Unless it was there `throughout`, it may lack publications, but has no other excuse."""
        self._channels[subscriber] = frozenset(channels)
        self._received.setdefault(subscriber, [])
        if not throughout:
            self._partial.add(subscriber)

    def received(self, subscriber: str, got: Record) -> None:
        """The subscriber was given this."""
        self._received[subscriber].append(got)

    # The verdict.

    @property
    def counts(self) -> str:
        """Return what was logged, for a test to print."""
        deliveries = sum(map(len, self._received.values()))
        return (
            f"{len(self._acknowledged)} acknowledged, {len(self._unknown)} unknown, {len(self._failed)} failed, "
            f"{len(self._received)} subscribers, {deliveries} deliveries"
        )

    def complete(self, subscriber: str) -> bool:
        """Return whether the subscriber has as many as it must have: worth a check, more may still come."""
        return len(self._received[subscriber]) >= len(self._owed(subscriber))

    async def check_when_complete(self, timeout: float) -> None:
        """Wait until all who were there throughout have as many as they must have, at most `timeout` s; then check."""
        owed = {name: len(self._owed(name)) for name in self._received.keys() - self._partial}

        def complete() -> bool:
            return all(len(self._received[name]) >= count for name, count in owed.items())

        with contextlib.suppress(AssertionError):  # the check says what is missing
            await eventually(complete, timeout)
        self.check()

    def check(self) -> None:
        """Raise DeliveryError unless every subscriber received exactly what it should have, in order."""
        assert self._acknowledged, "nothing was acknowledged, so nothing is shown"
        defects: dict[tuple[str, str], list[Record]] = {}
        for subscriber, got in self._received.items():
            for kind, records in self._judge(subscriber, got):
                if records:
                    defects[subscriber, kind] = records
        if defects:
            raise DeliveryError(defects, len(self._received), len(self._acknowledged))

    def _owed(self, subscriber: str) -> list[Record]:
        channels = self._channels[subscriber]
        return [sent for sent in self._acknowledged if sent.channel in channels]

    def _judge(self, subscriber: str, got: list[Record]) -> Iterable[tuple[str, list[Record]]]:
        counts = Counter(got)
        channels = self._channels[subscriber]
        if subscriber not in self._partial:
            yield "missing", [sent for sent in self._owed(subscriber) if sent not in counts]
        yield "duplicated", [each for each, count in counts.items() if count > 1]
        yield "reordered", _out_of_order(got)
        allowed = self._acknowledged.keys() | self._unknown
        yield "foreign", [each for each in counts if each not in allowed or each.channel not in channels]


def _out_of_order(got: Iterable[Record]) -> list[Record]:
    """Return what came after something later: by offset within an epoch, by number within publisher and channel."""
    newest: dict[tuple[str, str, str], int] = defaultdict(int)
    seen: set[Record] = set()
    found = []
    for each in got:
        if each in seen:
            continue
        seen.add(each)
        keys = []
        if each.offset:
            keys.append((("offset", each.channel, each.epoch), each.offset))
        if each.sequence:
            keys.append((("number", each.channel, each.publisher), each.sequence))
        if any(number < newest[key] for key, number in keys):
            found.append(each)
        for key, number in keys:
            newest[key] = max(newest[key], number)
    return found
