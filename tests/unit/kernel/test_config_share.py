from __future__ import annotations

from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, field

from tidewire.kernel.config import SHARED, ConfigError, Section
from tidewire.kernel.config_share import portion, share


class Inner(Section, frozen=True, kw_only=True):
    """A group."""

    rate: Annotated[int, Meta(extra=SHARED)] = 10


class Config(Section, frozen=True, kw_only=True):
    """What workers are told."""

    limit: Annotated[int, Meta(ge=1, extra=SHARED)] = 7
    own: int = 7
    inner: Inner = field(default_factory=Inner)


@given(st.integers(1, 10**6), st.integers(1, 256))
def test_portions_are_the_whole_and_nearly_equal(total: int, count: int) -> None:
    """Nobody gets two more than another, and the first ones get the remainder."""
    found = [portion(total, index, count) for index in range(count)]
    assert sum(found) == total
    assert found == sorted(found, reverse=True)
    assert found[0] - found[-1] <= 1


def test_only_what_is_shared_is_divided() -> None:
    """In groups, too."""
    found = [share(Config(), index, 3) for index in range(3)]
    assert [each.limit for each in found] == [3, 2, 2]
    assert [each.inner.rate for each in found] == [4, 3, 3]
    assert {each.own for each in found} == {7}


def test_one_gets_all() -> None:
    """One worker is no division."""
    assert share(Config(), 0, 1) == Config()


def test_nobody_may_go_without() -> None:
    """A worker with a limit of 0 would accept nothing; every such setting is named."""
    with pytest.raises(ConfigError) as raised:
        share(Config(limit=2, inner=Inner(rate=1)), 0, 3)
    assert [str(problem) for problem in raised.value.problems] == [
        "limit: is 2: expected at least 1 for each of 3 workers",
        "inner.rate: is 1: expected at least 1 for each of 3 workers",
    ]
