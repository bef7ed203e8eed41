"""Tags filters: which publications of a channel a subscription wants, judged by their tags (client protocol, `tf`).

A leaf compares the tag `key` with `val` or `vals`; `and`, `or` and `not` combine nodes. A publication without the tag
passes `neq`, `nin` and `nex` only. `lt`, `lte`, `gt` and `gte` compare decimal numbers; what is none never passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from tidewire.kernel.errors import TidewireError

if TYPE_CHECKING:
    from tidewire.edge.wire.commands import FilterNode

MAX_NODES: Final = 64
"""Nodes and values of one filter: it is evaluated for each publication, in the loop that serves everybody."""
MAX_NODES_OF_CONNECTION: Final = 512
"""Of all filters of one connection: each may take 3 KiB of memory."""
MAX_DEPTH: Final = 8
MAX_TEXT: Final = 256
"""Characters of a key or a value."""

Tags = Mapping[str, str]
LONGEST_NUMBER: Final = 62
_NUMBER: Final = re.compile(r"[+-]?\d{1,30}(\.\d{1,30})?", re.ASCII)


class FilterError(TidewireError):
    """A filter that cannot be evaluated; the message says why."""


class TagsFilter:
    """A checked filter. Two that were made of equal nodes are equal, so that subscriptions with them share the work."""

    __slots__ = ("_hash", "_node", "passes", "size")

    def __init__(self, node: FilterNode) -> None:
        """Check a filter. Raises FilterError."""
        self.size = size_of(node, MAX_NODES)
        """Nodes and values."""
        if self.size > MAX_NODES:
            raise FilterError(f"more than {MAX_NODES} nodes and values")
        self._node = node
        self._hash = hash(node)
        self.passes: Callable[[Tags], bool] = _compiled(node, MAX_DEPTH)
        """Return whether a publication with these tags is wanted."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TagsFilter) and self._node == other._node

    def __hash__(self) -> int:
        return self._hash


def size_of(node: FilterNode, most: int) -> int:
    """Return the number of nodes and values, any number over `most` for more. No recursion: the depth is not checked yet."""
    count, waiting = 0, [node]
    while waiting and count <= most:
        each = waiting.pop()
        count += 1 + len(each.vals)
        waiting += each.nodes
    return count


def _compiled(node: FilterNode, depth: int) -> Callable[[Tags], bool]:
    if not depth:
        raise FilterError(f"nested deeper than {MAX_DEPTH}")
    if not node.op:
        return _leaf(node)
    children = [_compiled(each, depth - 1) for each in node.nodes]
    match node.op:
        case "and" if children:
            return lambda tags: all(child(tags) for child in children)
        case "or" if children:
            return lambda tags: any(child(tags) for child in children)
        case "not" if len(children) == 1:
            return lambda tags: not children[0](tags)
    raise FilterError("an op is and, or (with nodes) or not (with one node)")


def _leaf(node: FilterNode) -> Callable[[Tags], bool]:
    if not node.key or any(len(text) > MAX_TEXT for text in (node.key, node.val, *node.vals)):
        raise FilterError(f"a leaf has a key, and texts of at most {MAX_TEXT} characters")
    make = _COMPARISONS.get(node.cmp)
    if make is None:
        raise FilterError(f"cmp is one of {', '.join(_COMPARISONS)}")
    key, test = node.key, make(node)
    return lambda tags: test(tags.get(key))


def _one_of(node: FilterNode) -> frozenset[str]:
    if not node.vals:
        raise FilterError("in and nin need vals")
    return frozenset(node.vals)


def _ordered(node: FilterNode, holds: Callable[[Decimal, Decimal], bool]) -> Callable[[str | None], bool]:
    bound = _number(node.val)
    if bound is None:
        raise FilterError("lt, lte, gt and gte need a decimal number as val")

    def test(value: str | None) -> bool:
        number = None if value is None else _number(value)
        return number is not None and holds(number, bound)

    return test


def _number(text: str) -> Decimal | None:
    return parsed(text) if len(text) <= LONGEST_NUMBER else None


@lru_cache(256)  # the filters of a channel all ask for the numbers of the same few tags
def parsed(text: str) -> Decimal | None:
    """Return the number that a tag is, None for one that is none."""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _in(node: FilterNode) -> Callable[[str | None], bool]:
    values = _one_of(node)
    return lambda value: value in values


def _not_in(node: FilterNode) -> Callable[[str | None], bool]:
    values = _one_of(node)
    return lambda value: value not in values


_COMPARISONS: Final[dict[str, Callable[[FilterNode], Callable[[str | None], bool]]]] = {
    "eq": lambda node: lambda value: value == node.val,
    "neq": lambda node: lambda value: value != node.val,
    "in": _in,
    "nin": _not_in,
    "ex": lambda _: lambda value: value is not None,
    "nex": lambda _: lambda value: value is None,
    "sw": lambda node: lambda value: value is not None and value.startswith(node.val),
    "ew": lambda node: lambda value: value is not None and value.endswith(node.val),
    "ct": lambda node: lambda value: value is not None and node.val in value,
    "lt": lambda node: _ordered(node, Decimal.__lt__),
    "lte": lambda node: _ordered(node, Decimal.__le__),
    "gt": lambda node: _ordered(node, Decimal.__gt__),
    "gte": lambda node: _ordered(node, Decimal.__ge__),
}
