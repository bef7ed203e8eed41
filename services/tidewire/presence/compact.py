"""A map that is small in memory while it has few entries: most channels have few members, and most users one connection. Pure.

It is a flat tuple of keys and values, and a dict beyond MOST_PAIRS. `put` and `drop` return the map to keep from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

MOST_PAIRS: Final = 6
FEW_PAIRS: Final = 3
"""A dict that has shrunk to so many is a tuple again."""

Compact = tuple[Any, ...] | dict[str, Any]
EMPTY: Final[Compact] = ()


def get(pairs: Compact, key: str) -> Any:  # noqa: ANN401 - whatever was put
    """Return the value of a key, or None."""
    if isinstance(pairs, dict):
        return pairs.get(key)
    for index in range(0, len(pairs), 2):
        if pairs[index] == key:
            return pairs[index + 1]
    return None


def put(pairs: Compact, key: str, value: object) -> Compact:
    """Return the map with this value for the key."""
    if isinstance(pairs, dict):
        pairs[key] = value
        return pairs
    for index in range(0, len(pairs), 2):
        if pairs[index] == key:
            return (*pairs[: index + 1], value, *pairs[index + 2 :])
    if len(pairs) < 2 * MOST_PAIRS:
        return (*pairs, key, value)
    return {**dict(items(pairs)), key: value}


def drop(pairs: Compact, key: str) -> Compact:
    """Return the map without the key."""
    if isinstance(pairs, dict):
        pairs.pop(key, None)
        return pairs if len(pairs) > FEW_PAIRS else tuple(each for pair in pairs.items() for each in pair)
    for index in range(0, len(pairs), 2):
        if pairs[index] == key:
            return pairs[:index] + pairs[index + 2 :]
    return pairs


def size(pairs: Compact) -> int:
    """Return how many keys there are."""
    return len(pairs) if isinstance(pairs, dict) else len(pairs) // 2


def items(pairs: Compact) -> Iterable[tuple[str, Any]]:
    """Return keys with their values."""
    return pairs.items() if isinstance(pairs, dict) else zip(pairs[::2], pairs[1::2], strict=True)


def values(pairs: Compact) -> Iterable[Any]:
    """Return the values."""
    return pairs.values() if isinstance(pairs, dict) else iter(pairs[1::2])


def keys(pairs: Compact) -> Iterator[str]:
    """Return the keys."""
    return iter(pairs) if isinstance(pairs, dict) else iter(pairs[::2])
