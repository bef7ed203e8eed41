from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidewire.presence.compact import EMPTY, MOST_PAIRS, drop, get, items, keys, put, size, values

KEYS = st.sampled_from([f"k{number}" for number in range(2 * MOST_PAIRS)])


@given(st.lists(st.tuples(st.booleans(), KEYS, st.integers())))
def test_it_is_a_map(steps: list[tuple[bool, str, int]]) -> None:
    """Whatever is put and dropped, small or large."""
    compact, wanted = EMPTY, dict[str, int]()
    for add, key, value in steps:
        if add:
            compact, wanted[key] = put(compact, key, value), value
        else:
            compact = drop(compact, key)
            wanted.pop(key, None)
        assert dict(items(compact)) == wanted
        assert size(compact) == len(wanted)
        assert get(compact, key) == wanted.get(key)
        assert set(keys(compact)) == set(wanted)
        assert sorted(values(compact)) == sorted(wanted.values())


def test_few_are_a_tuple_and_many_are_not() -> None:
    """And few again are a tuple again, without what a dict that was large keeps."""
    compact = EMPTY
    for number in range(MOST_PAIRS + 1):
        assert isinstance(compact, tuple)
        compact = put(compact, str(number), number)
    assert isinstance(compact, dict)
    for number in range(MOST_PAIRS):
        compact = drop(compact, str(number))
    assert compact == (str(MOST_PAIRS), MOST_PAIRS)
