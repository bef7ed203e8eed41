from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.checker import DeliveryError, Record, payload, record
from tests.support.continuity import Continuity, anonymous


def stored(
    number: int, publisher: str = "p", channel: str = "c", *, offset: int = 0, epoch: str = "e"
) -> Record:
    """Return a publication as the stream holds it, at ten times its number unless told otherwise."""
    return record(channel, payload(publisher, number), epoch=epoch, offset=offset or 10 * number)


def log(*, acknowledged: int = 4) -> Continuity:
    """Return a log in which one publisher had its publications acknowledged, and all of them are stored."""
    made = Continuity()
    for number in range(1, acknowledged + 1):
        made.acknowledged(anonymous(stored(number)))
        made.stored(stored(number))
    return made


def got(made: Continuity, *numbers: int, subscriber: str = "s") -> None:
    """Note what a subscriber was given."""
    for number in numbers:
        made.received(subscriber, stored(number, epoch=""))


def defects(made: Continuity) -> set[str]:
    """Return the kinds of defects that the check finds."""
    with pytest.raises(DeliveryError) as found:
        made.check()
    return {kind for _, kind in found.value.defects}


def test_all_in_one_span() -> None:
    """From the position on, everything up to the end."""
    made = log()
    made.subscribed("s", "c", "e", 10, recovered=False)
    got(made, 2, 3, 4)
    made.check()
    assert made.behind() == []
    assert str(made.figures) == (
        "4 acknowledged, 0 refused, 4 stored, 1 subscriptions, 3 deliveries, 0 recoveries, 0 told of a hole, "
        "0 given up with their life"
    )


def test_recovery_goes_on_with_the_span() -> None:
    """What came while the connection was away is part of it."""
    made = log()
    made.subscribed("s", "c", "e", 0, recovered=False)
    got(made, 1)
    made.unsubscribed("s", "c")
    made.subscribed("s", "c", "e", 10, recovered=True)
    got(made, 2, 3, 4)
    made.check()


@pytest.mark.parametrize("missing", [2, 3, 4])
def test_who_recovered_and_lacks_one_is_found(missing: int) -> None:
    """In the middle and at the end."""
    made = log()
    made.subscribed("s", "c", "e", 0, recovered=False)
    got(made, 1)
    made.subscribed("s", "c", "e", 10, recovered=True)
    got(made, *(number for number in (2, 3, 4) if number != missing))
    assert defects(made) == {"missing"}
    assert made.behind() == ["s in c"]


def test_who_is_told_of_a_hole_may_have_one() -> None:
    """A new span begins at the position of the reply; the old one must be whole as far as it went."""
    made = log()
    made.subscribed("s", "c", "e", 0, recovered=False)
    got(made, 1)
    made.subscribed("s", "c", "e", 30, recovered=False)
    got(made, 4)
    made.check()
    assert made.figures.holes == 1


def test_nobody_recovers_into_another_life() -> None:
    """Whatever was delivered: offsets of another life cannot go on, and without any there is nothing to go on with."""
    made = log()
    made.stored(stored(5, epoch="later", offset=1))
    made.subscribed("s", "c", "e", 0, recovered=False)
    got(made, 1, 2, 3, 4)
    made.subscribed("s", "c", "later", 0, recovered=True)
    made.received("s", stored(5, epoch="", offset=1))
    assert defects(made) == {"told recovered without a life to go on with"}
    made = log()
    made.subscribed("s", "c", "e", 0, recovered=True)
    got(made, 1, 2, 3, 4)
    assert defects(made) == {"told recovered without a life to go on with"}


@pytest.mark.parametrize(
    ("numbers", "kinds"),
    [
        ((1, 2, 2, 3, 4), {"duplicated", "out of order"}),
        ((1, 3, 2, 4), {"out of order"}),
        ((1, 2, 3, 4, 7), {"foreign"}),
    ],
)
def test_what_a_span_holds_is_exact(numbers: tuple[int, ...], kinds: set[str]) -> None:
    """Once, in order, and nothing that the stream does not hold."""
    made = log()
    made.subscribed("s", "c", "e", 0, recovered=False)
    got(made, *numbers)
    assert defects(made) == kinds


def _acknowledged_only(made: Continuity) -> None:
    made.acknowledged(anonymous(stored(9)))


def _twice(made: Continuity) -> None:
    made.stored(stored(4, offset=50))


def _refused(made: Continuity) -> None:
    made.stored(stored(9))
    made.refused(anonymous(stored(9)))


def _reordered(made: Continuity) -> None:
    made.acknowledged(anonymous(stored(0, offset=90)))
    made.stored(stored(0, offset=90))


@pytest.mark.parametrize(
    ("happens", "kind"),
    [
        (_acknowledged_only, "lost"),
        (_twice, "stored twice"),
        (_refused, "refused, and stored"),
        (_reordered, "reordered"),
    ],
)
def test_the_streams_are_judged(happens: Callable[[Continuity], None], kind: str) -> None:
    """Whatever subscribers saw."""
    made = log()
    happens(made)
    made.subscribed("s", "c", "e", 1000, recovered=False)
    assert defects(made) == {kind}


def test_an_unanswered_publication_may_be_stored_late_or_never() -> None:
    """Only acknowledged ones have an order to keep."""
    made = log()
    made.stored(stored(0, offset=50))
    made.subscribed("s", "c", "e", 1000, recovered=False)
    made.check()


def restored() -> Continuity:
    """Return a log in which a copy with 1 and 2 was put back after 4, and 5 came in the new life; all was heard by `s`."""
    made = log(acknowledged=2)
    made.copied()
    made.subscribed("s", "c", "e", 0, recovered=False)
    got(made, 1, 2, 3, 4)
    for number in (3, 4):
        made.acknowledged(anonymous(stored(number)))
        made.stored(stored(number))
    made.restored(["c"])
    made.acknowledged(anonymous(stored(5)))
    for number, offset in ((1, 10), (2, 20), (5, 30)):
        made.stored(stored(number, epoch="f", offset=offset))
    made.subscribed("s", "c", "f", 20, recovered=False)
    made.received("s", stored(5, offset=30))
    return made


def test_a_copy_that_was_put_back() -> None:
    """What was acknowledged behind it is given up; each life is judged, and offsets are used again."""
    made = restored()
    made.check()
    assert made.figures.given_up == 2
    assert made.figures.stored == 3


def test_what_the_copy_holds_is_not_given_up() -> None:
    """Nor is what was acknowledged afterwards, nor another channel."""
    made = log(acknowledged=2)
    made.copied()
    made.acknowledged(anonymous(stored(3)))
    made.acknowledged(anonymous(stored(3, channel="d")))
    made.stored(stored(3))
    made.restored(["c"])
    made.acknowledged(anonymous(stored(4)))
    made.stored(stored(1, epoch="f"))
    made.subscribed("s", "c", "f", 1000, recovered=False)
    assert made.figures.given_up == 1
    with pytest.raises(DeliveryError) as found:
        made.check()
    assert [(each.channel, each.sequence) for each in found.value.defects["the streams", "lost"]] == [
        ("c", 2),
        ("d", 3),
        ("c", 4),
    ]


def test_what_was_given_up_was_in_its_life() -> None:
    """An acknowledgement without a publication is no better for a restore that follows."""
    made = log(acknowledged=2)
    made.copied()
    made.acknowledged(anonymous(stored(3)))
    made.restored(["c"])
    made.stored(stored(1, epoch="f"))
    made.stored(stored(2, epoch="f"))
    made.subscribed("s", "c", "f", 1000, recovered=False)
    assert defects(made) == {"lost"}


@pytest.mark.parametrize("missing", [2, 3])
def test_who_has_a_hole_in_a_life_that_was_is_found(missing: int) -> None:
    """Behind the copy as well as before."""
    made = restored()
    made.subscribed("t", "c", "e", 0, recovered=False)
    got(made, *(number for number in (1, 2, 3, 4) if number != missing), subscriber="t")
    made.unsubscribed("t", "c")
    assert defects(made) == {"missing"}


def test_who_goes_on_over_a_restore_is_found() -> None:
    """As one who recovers in the life that was, or is not told at all."""
    made = restored()
    made.subscribed("t", "c", "e", 40, recovered=False)
    assert defects(made) == {"left in a life that has ended"}
    made.subscribed("t", "c", "f", 40, recovered=True)
    assert defects(made) == {"told recovered without a life to go on with"}
    made = restored()
    made.subscribed("t", "c", "e", 20, recovered=False)
    made.received("t", stored(5, offset=30))
    made.subscribed("t", "c", "f", 30, recovered=False)
    assert defects(made) == {"missing", "foreign"}


def vanished() -> Continuity:
    """Return a log in which two have read a life of a channel in memory that is gone, one of them not to its end."""
    made = Continuity()
    for number in (1, 2, 3):
        made.acknowledged(anonymous(stored(number)))
    for subscriber, numbers in (("s", (1, 2, 3)), ("t", (1, 2))):
        made.subscribed(subscriber, "c", "e", 0, recovered=False)
        got(made, *numbers, subscriber=subscriber)
    made.vanished(["c"])
    for subscriber in "st":
        made.subscribed(subscriber, "c", "f", 0, recovered=False)
    return made


def test_a_life_that_vanished_is_judged_by_who_heard_it() -> None:
    """Nothing acknowledged need be there any more, and those who heard of it agree."""
    made = vanished()
    made.check()
    assert made.figures.given_up == 3
    made.acknowledged(anonymous(stored(4)))
    assert defects(made) == {"lost"}


@pytest.mark.parametrize(
    ("numbers", "kinds"),
    [
        ((1, 3), {"missing"}),
        ((1, 2, 2), {"duplicated", "out of order"}),
        ((2, 1), {"out of order"}),
    ],
)
def test_what_is_not_as_others_heard_it_is_found(numbers: tuple[int, ...], kinds: set[str]) -> None:
    """A hole, a repetition, an order of its own."""
    made = Continuity()
    made.acknowledged(anonymous(stored(1)))
    for subscriber, heard in (("s", (1, 2, 3)), ("t", numbers)):
        made.subscribed(subscriber, "c", "e", 0, recovered=False)
        got(made, *heard, subscriber=subscriber)
    made.vanished(["c"])
    for subscriber in "st":
        made.unsubscribed(subscriber, "c")
    assert defects(made) == kinds


def test_an_epoch_that_was_kept_over_a_loss_is_found() -> None:
    """The same offset then means another publication."""
    made = vanished()
    made.subscribed("u", "c", "e", 0, recovered=False)
    made.received("u", stored(9, offset=10))
    made.unsubscribed("u", "c")
    assert defects(made) == {"at one offset", "missing"}


def test_a_life_that_ended_for_no_reason_is_found() -> None:
    """An epoch that changes under healthy streams: nobody is lied to, and all are told of holes that there are not."""
    made = Continuity()
    for number in (1, 2):
        made.acknowledged(anonymous(stored(number)))
        made.stored(stored(number, epoch="f"))
    made.subscribed("s", "c", "e", 0, recovered=False)
    got(made, 1)
    made.subscribed("s", "c", "f", 10, recovered=False)
    got(made, 2)
    assert defects(made) == {"in a life that nobody has ended"}


def test_order_and_refusals_hold_in_a_life_that_vanished() -> None:
    """For what was heard of it."""
    made = Continuity()
    for number in (1, 2):
        made.acknowledged(anonymous(stored(number)))
    made.refused(anonymous(stored(7)))
    made.subscribed("s", "c", "e", 0, recovered=False)
    for number, offset in ((2, 10), (1, 20), (7, 30)):
        made.received("s", stored(number, offset=offset))
    made.vanished(["c"])
    made.unsubscribed("s", "c")
    assert defects(made) == {"reordered", "refused, and heard"}


def test_nothing_shows_nothing() -> None:
    """A log without publications or subscribers passes for no proof."""
    with pytest.raises(AssertionError, match="nothing was acknowledged"):
        Continuity().check()
    with pytest.raises(AssertionError, match="nobody subscribed"):
        log().check()
