"""The checker is what every claim about loss and order stands on, so each kind of defect must be caught by it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.support.checker import Checker, DeliveryError, Record, payload, record

CHANNELS = ("live:a", "live:b")


def sent(*, history: bool = False) -> list[Record]:
    """What two publishers sent to two channels, in an order in which a subscriber may receive it."""
    records = []
    for number in range(1, 6):
        for index, channel in enumerate(CHANNELS):
            for publisher in ("p1", "p2"):
                offset = 10 * number + 2 * index + int(publisher[1]) if history else 0
                data = payload(publisher, number, text=f"{publisher} {number}")
                records.append(record(channel, data, epoch="e1" if history else "", offset=offset))
    return records


def verdict(log: list[Record], got: list[Record], **subscriber: bool) -> dict[str, list[Record]]:
    """Check a log against what one subscriber got; return the defects by kind."""
    checker = Checker()
    for each in log:
        checker.acknowledged(each)
    checker.subscribed("s", CHANNELS, **subscriber)
    for each in got:
        checker.received("s", each)
    try:
        checker.check()
    except DeliveryError as error:
        return {kind: records for (_, kind), records in error.defects.items()}
    return {}


@pytest.mark.parametrize("history", [False, True], ids=["without history", "with history"])
class TestMutations:
    """A right log passes; one defect put into it is named by its kind and its record, and nothing else is."""

    def test_a_right_log_passes(self, history: bool) -> None:
        """What was acknowledged, once and in order, is right."""
        assert verdict(sent(history=history), sent(history=history)) == {}

    def test_publishers_and_channels_may_interleave(self, history: bool) -> None:
        """Without offsets the only order is that within a publisher and channel."""
        log = sent(history=history)
        got = sorted(log, key=lambda each: (each.channel, each.offset, each.publisher, each.sequence))
        assert verdict(log, got) == {}

    @pytest.mark.parametrize("index", [0, 7, -1])
    def test_a_dropped_one_is_missing(self, history: bool, index: int) -> None:
        """A loss at the start, in the middle and at the end."""
        log = sent(history=history)
        got = log[:]
        lost = got.pop(index)
        assert verdict(log, got) == {"missing": [lost]}

    @pytest.mark.parametrize("place", [8, 20])
    def test_one_that_comes_twice_is_duplicated(self, history: bool, place: int) -> None:
        """Right away, or at the end."""
        log = sent(history=history)
        got = log[:]
        got.insert(place, log[7])
        assert verdict(log, got) == {"duplicated": [log[7]]}

    def test_two_that_are_swapped_are_reordered(self, history: bool) -> None:
        """The one that comes late is named."""
        log = sent(history=history)
        got = log[:]
        got[4], got[8] = got[8], got[4]  # the same publisher and channel
        found = verdict(log, got)
        assert set(found) == {"reordered"}
        assert log[4] in found["reordered"]

    def test_an_altered_payload_is_missing_and_foreign(self, history: bool) -> None:
        """The hash is part of what a publication is."""
        log = sent(history=history)
        got = log[:]
        got[5] = log[5]._replace(digest="0" * 64)
        assert verdict(log, got) == {"missing": [log[5]], "foreign": [got[5]]}

    def test_one_that_nobody_sent_is_foreign(self, history: bool) -> None:
        """As after an injection."""
        log = sent(history=history)
        alien = record("live:a", payload("p9", 1), epoch="e1" if history else "", offset=99 if history else 0)
        assert verdict(log, [*log, alien]) == {"foreign": [alien]}

    def test_one_of_a_channel_not_subscribed_is_foreign(self, history: bool) -> None:
        """Although it was acknowledged there."""
        log = sent(history=history)
        other = record("live:c", payload("p1", 1), epoch="e1" if history else "", offset=99 if history else 0)
        assert verdict([*log, other], [*log, other]) == {"foreign": [other]}

    def test_whoever_was_away_may_lack_some_but_nothing_else(self, history: bool) -> None:
        """A subscriber that was not there throughout still gets nothing twice, swapped or foreign."""
        log = sent(history=history)
        assert verdict(log, log[3:11], throughout=False) == {}
        assert set(verdict(log, [*log[3:11], log[3]], throughout=False)) == {"duplicated"}
        assert "reordered" in verdict(log, [log[8], log[4]], throughout=False)

    def test_every_single_mutation_is_caught(self, history: bool) -> None:
        """200 random drops, repeats and moves of a right log; a move that changes no order that counts is none."""
        log = sent(history=history)
        mutate: list[Callable[[list[Record], int, int], object]] = [
            lambda got, one, _two: got.pop(one),
            lambda got, one, two: got.insert(two, got[one]),
            lambda got, one, two: got.insert(two, got.pop(one)),
        ]
        generator = random.Random(7)
        for _ in range(200):
            got = log[:]
            kind = generator.randrange(3)
            mutate[kind](got, generator.randrange(len(log)), generator.randrange(len(log)))
            same = _orders(got) == _orders(log) if kind == 2 else False
            assert bool(verdict(log, got)) is not same


def test_an_offset_in_another_epoch_counts_anew() -> None:
    """Offsets are compared within an epoch only."""
    log = [
        record("live:a", payload("p1", 1), epoch="e1", offset=50),
        record("live:a", payload("p1", 2), epoch="e2", offset=3),
    ]
    assert verdict(log, log) == {}


def test_white_space_and_the_order_of_keys_are_no_difference() -> None:
    """Payloads are compared as JSON."""
    assert record("c", {"publisher": "p", "sequence": 1, "x": 2}) == record(
        "c", {"x": 2, "sequence": 1, "publisher": "p"}
    )


def test_the_unknown_may_be_received_once_or_not_at_all() -> None:
    """A temporary error says that the publication may have gone through."""
    known, maybe = record("live:a", payload("p1", 1)), record("live:a", payload("p1", 2))
    for got, kinds in (([known], set()), ([known, maybe], set()), ([known, maybe, maybe], {"duplicated"})):
        checker = Checker()
        checker.acknowledged(known)
        checker.unknown(maybe)
        checker.subscribed("s", CHANNELS)
        for each in got:
            checker.received("s", each)
        if not kinds:
            checker.check()
            continue
        with pytest.raises(DeliveryError) as error:
            checker.check()
        assert {kind for _, kind in error.value.defects} == kinds


def test_what_failed_for_certain_is_foreign() -> None:
    """A publish that the SDK reported as failed must never be delivered."""
    known, lost = record("live:a", payload("p1", 1)), record("live:a", payload("p1", 2))
    checker = Checker()
    checker.acknowledged(known)
    checker.failed(lost)
    checker.subscribed("s", CHANNELS)
    checker.received("s", known)
    checker.check()
    checker.received("s", lost)
    with pytest.raises(DeliveryError) as error:
        checker.check()
    assert error.value.defects == {("s", "foreign"): [lost]}


def test_a_log_without_acknowledgements_shows_nothing() -> None:
    """An empty test must not pass as proof."""
    checker = Checker()
    checker.subscribed("s", CHANNELS)
    with pytest.raises(AssertionError, match="nothing was acknowledged"):
        checker.check()


def test_the_report_names_subscriber_kind_count_and_records() -> None:
    """Who reads it knows where to look, and is not flooded."""
    checker = Checker()
    for each in sent():
        checker.acknowledged(each)
    checker.subscribed("reader-3", CHANNELS)
    checker.received("reader-3", sent()[0])
    assert not checker.complete("reader-3")
    with pytest.raises(DeliveryError) as error:
        checker.check()
    text = str(error.value)
    assert "reader-3: 19 missing: live:a p2#1 (" in text
    assert "and 14 more" in text


def _orders(got: list[Record]) -> dict[tuple[str, ...], list[int]]:
    """The orders that count, each as the list of its numbers."""
    found: dict[tuple[str, ...], list[int]] = {}
    for each in got:
        found.setdefault((each.channel, each.publisher), []).append(each.sequence)
        if each.offset:
            found.setdefault((each.channel,), []).append(each.offset)
    return found
