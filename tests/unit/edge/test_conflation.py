from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.tracing import RecordingTracer
from tidewire.edge.conflation import Conflated, Delivery, key_of, latest
from tidewire.edge.ports import Publication

KEYS = st.sampled_from([b"", b"a", b"b", b"c"])
TAGS = st.sampled_from([None, {"side": "buy"}, {"side": "sell"}])
CHANNELS = st.sampled_from(["", "stocks:x"])


def publications(keys: list[tuple[bytes, dict[str, str] | None, str]]) -> list[Publication]:
    """One of each, with its number as data."""
    return [
        Publication(b"%d" % number, key=key, tags=tags, channel=channel)
        for number, (key, tags, channel) in enumerate(keys)
    ]


MANY = st.lists(st.tuples(KEYS, TAGS, CHANNELS), max_size=40).map(publications)


def expected(given: list[Publication]) -> list[Publication]:
    """By its definition: what no later one with the same key replaces."""
    return [
        each
        for index, each in enumerate(given)
        if key_of(each) is None or key_of(each) not in map(key_of, given[index + 1 :])
    ]


@given(MANY)
def test_latest_of_each_key_stays_where_it_came_and_nothing_without_a_key_is_lost(
    given: list[Publication],
) -> None:
    """Order of arrival of what is left."""
    assert [each for _, each in latest((key_of(each), each) for each in given)] == expected(given)


@given(MANY, st.sampled_from(["buy", "sell", None]))
def test_what_waits_is_conflated_as_if_everything_had_waited(
    given: list[Publication], side: str | None
) -> None:
    """Whatever a filter lets pass: the older one of a key, too, where the newer one has other tags."""
    waiting = Conflated(given)

    def chosen(some: list[Publication]) -> list[Publication]:
        passed = [each for each in some if side is None or (each.tags or {}).get("side") == side]
        return [each for _, each in latest((key_of(each), each) for each in passed)]

    assert chosen(list(waiting)) == chosen(given)
    assert len(waiting) + waiting.replaced == len(given)


def test_keys_of_different_channels_of_a_pattern_are_different() -> None:
    """A pattern hears many channels, each with keys of its own."""
    one, two = (Publication(b"1", key=b"k", channel=f"stocks:{name}") for name in "ab")
    assert list(Conflated([one, two])) == [one, two]


def test_span_of_a_replaced_publication_ends() -> None:
    """It reached nobody."""
    tracer = RecordingTracer()
    span = tracer.deliver("chat:a", b"traceparent")
    waiting = Conflated([Publication(b"1", key=b"k", span=span)])
    assert tracer.ended == []
    waiting.append(Publication(b"2", key=b"k"))
    assert tracer.ended == [("deliver chat:a subscribers=0", 0)]


def test_delivery_knows_what_it_keeps_for_the_slow() -> None:
    """Delays do not matter for that."""
    delivery = Delivery(0.1, 10, True, 100)
    assert delivery.keeps_like(Delivery(0.2, 20, True, 100))
    assert not delivery.keeps_like(Delivery(0.1, 10, True, 99))
    assert not delivery.keeps_like(Delivery(0.1, 10, False, 100))
    assert not delivery.keeps_like(None)
