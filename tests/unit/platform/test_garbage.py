from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tidewire.platform.garbage import settle


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_a_growing_number_of_objects_is_not_looked_at_again_and_again() -> None:
    """Without it a herd of 10,000 would bring several full collections, the last of them the longest."""
    settle()
    full = gc.get_stats()[2]["collections"]
    kept = [[number] for number in range(1_000_000)]
    assert gc.get_stats()[2]["collections"] == full
    assert gc.get_stats()[1]["collections"] > 0
    assert len(kept) == 1_000_000


def test_objects_in_flight_are_not_looked_at_while_they_are_few() -> None:
    """As those of a thousand publications that are not acknowledged yet."""
    settle()
    gc.collect()
    young = gc.get_stats()[0]["collections"]
    kept = [[number] for number in range(8_000)]
    assert gc.get_stats()[0]["collections"] == young
    assert len(kept) == 8_000


def test_what_was_there_is_never_looked_at() -> None:
    """Modules, classes, the configuration."""
    settle()
    assert gc.get_freeze_count() > 10_000
