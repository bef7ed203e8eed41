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
    assert made.counts == (
        "4 acknowledged, 0 refused, 4 stored, 1 subscriptions, 3 deliveries, 0 recoveries, 0 told of a hole"
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
    assert "1 told of a hole" in made.counts


def test_another_epoch_is_no_recovery() -> None:
    """Whatever the reply says, offsets of another life cannot go on."""
    made = log()
    made.stored(stored(5, epoch="later", offset=1))
    made.subscribed("s", "c", "e", 0, recovered=False)
    got(made, 1, 2, 3, 4)
    made.subscribed("s", "c", "later", 0, recovered=True)
    made.received("s", stored(5, epoch="", offset=1))
    made.check()


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


def test_a_life_that_was_destroyed_is_excused() -> None:
    """Of its channel nothing acknowledged need be there; other channels are judged as ever."""
    made = log()
    made.acknowledged(anonymous(stored(5)))
    made.lost("c", "e")
    made.subscribed("s", "c", "e", 0, recovered=False)
    made.check()
    made.acknowledged(anonymous(stored(5, channel="d")))
    assert defects(made) == {"lost"}


def test_nothing_shows_nothing() -> None:
    """A log without publications or subscribers passes for no proof."""
    with pytest.raises(AssertionError, match="nothing was acknowledged"):
        Continuity().check()
    with pytest.raises(AssertionError, match="nobody subscribed"):
        log().check()
