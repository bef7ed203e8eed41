from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.protocol import protocol
from tidewire.edge.policies.filters import MAX_DEPTH, MAX_NODES, MAX_TEXT, FilterError, TagsFilter, parsed
from tidewire.edge.wire.commands import FilterNode

LEAF = FilterNode(key="k", cmp="ex")
COMPARISONS = ("eq", "neq", "in", "nin", "ex", "nex", "sw", "ew", "ct", "lt", "lte", "gt", "gte")


def passes(tags: dict[str, str], **leaf: Any) -> bool:
    """Whether tags pass a filter of one leaf on the key `k`."""
    return TagsFilter(FilterNode(**{"key": "k", **leaf})).passes(tags)


def nested(depth: int) -> FilterNode:
    """A filter of this depth, its leaf included."""
    node = LEAF
    for _ in range(depth - 1):
        node = FilterNode(op="not", nodes=(node,))
    return node


@protocol("subscribe.tags_filter")
@pytest.mark.parametrize(
    ("cmp", "operand", "yes", "no"),
    [
        ("eq", {"val": "a"}, ["a"], ["", "A", "ab"]),
        ("eq", {"val": ""}, [""], ["a"]),
        ("neq", {"val": "a"}, ["b", ""], ["a"]),
        ("in", {"vals": ("a", "b")}, ["a", "b"], ["c", "", "ab"]),
        ("nin", {"vals": ("a", "b")}, ["c", ""], ["a", "b"]),
        ("ex", {}, ["", "a"], []),
        ("nex", {}, [], ["", "a"]),
        ("sw", {"val": "ab"}, ["ab", "abc"], ["a", "cab", ""]),
        ("ew", {"val": "ab"}, ["ab", "cab"], ["b", "abc", ""]),
        ("ct", {"val": "ab"}, ["ab", "cabc"], ["a b", "ba", ""]),
        ("lt", {"val": "10"}, ["9", "-11", "9.999999999999999999999"], ["10", "10.0", "11", "ten"]),
        ("lte", {"val": "10"}, ["9", "10", "10.0", "+10"], ["10.000000000000000000001", "11"]),
        ("gt", {"val": "-1.5"}, ["0", "-1.49999999999999999999"], ["-1.5", "-2", "x"]),
        ("gte", {"val": "0.1"}, ["0.1", "0.10", "1"], ["0", "0.09999999999999999999"]),
    ],
)
def test_each_comparison(cmp: str, operand: dict[str, Any], yes: list[str], no: list[str]) -> None:
    """On text, or on exact decimal numbers."""
    for value in yes:
        assert passes({"k": value, "other": "?"}, cmp=cmp, **operand), value
    for value in no:
        assert not passes({"k": value, "other": "?"}, cmp=cmp, **operand), value


@protocol("subscribe.tags_filter")
@pytest.mark.parametrize("cmp", COMPARISONS)
def test_publication_without_the_tag_passes_only_what_says_not(cmp: str) -> None:
    """With no tags at all, or with others."""
    for tags in ({}, {"other": "1"}):
        assert passes(tags, cmp=cmp, val="1", vals=("1",)) is (cmp in {"neq", "nin", "nex"})


@pytest.mark.parametrize(
    "value", ["", "1e5", "0x1", "1_0", " 1", "1 ", "1.", ".5", "NaN", "inf", "\u0661", "9" * 31]
)
@pytest.mark.parametrize("cmp", ["lt", "lte", "gt", "gte"])
def test_what_is_no_plain_decimal_number_passes_no_order_and_bounds_none(cmp: str, value: str) -> None:
    """In a tag it never passes, in the filter it is an error."""
    assert not passes({"k": value}, cmp=cmp, val="0")
    with pytest.raises(FilterError, match="decimal number"):
        passes({}, cmp=cmp, val=value)


def test_long_tags_are_not_remembered() -> None:
    """Numbers are, since many filters ask for the same ones; a tag may be as long as a message."""
    wanted = TagsFilter(FilterNode(key="k", cmp="gt", val="0"))
    before = parsed.cache_info()
    assert not wanted.passes({"k": "1" * 100_000})
    assert parsed.cache_info() == before


def test_nodes_combine() -> None:
    """Every one, at least one, and the opposite of the one."""
    one, other = (FilterNode(key=key, cmp="ex") for key in "ab")
    both, either = (TagsFilter(FilterNode(op=op, nodes=(one, other))) for op in ("and", "or"))
    none = TagsFilter(FilterNode(op="not", nodes=(one,)))
    for tags in ({}, {"a": ""}, {"b": ""}, {"a": "", "b": ""}):
        assert both.passes(tags) is (len(tags) == 2)
        assert either.passes(tags) is (len(tags) > 0)
        assert none.passes(tags) is ("a" not in tags)


@protocol("subscribe.tags_filter", "error.107")
@pytest.mark.parametrize(
    ("node", "why"),
    [
        (FilterNode(), "a leaf has a key"),
        (FilterNode(cmp="ex"), "a leaf has a key"),
        (FilterNode(key="k"), "cmp is one of eq, neq, in, nin, ex, nex, sw, ew, ct, lt, lte, gt, gte"),
        (FilterNode(key="k", cmp="EQ"), "cmp is one of"),
        (FilterNode(key="k", cmp="in"), "in and nin need vals"),
        (FilterNode(key="k", cmp="nin", val="a"), "in and nin need vals"),
        (FilterNode(op="and"), "an op is"),
        (FilterNode(op="or"), "an op is"),
        (FilterNode(op="not"), "an op is"),
        (FilterNode(op="not", nodes=(LEAF, LEAF)), "an op is"),
        (FilterNode(op="xor", nodes=(LEAF,)), "an op is"),
        (FilterNode(op="AND", nodes=(LEAF,)), "an op is"),
        (FilterNode(op="and", nodes=(LEAF, FilterNode())), "a leaf has a key"),
        (FilterNode(key="k" * (MAX_TEXT + 1), cmp="ex"), "at most 256 characters"),
        (FilterNode(key="k", cmp="eq", val="v" * (MAX_TEXT + 1)), "at most 256 characters"),
        (FilterNode(key="k", cmp="in", vals=("v", "v" * (MAX_TEXT + 1))), "at most 256 characters"),
        (nested(MAX_DEPTH + 1), "nested deeper than 8"),
        (FilterNode(op="or", nodes=(LEAF,) * MAX_NODES), "more than 64 nodes and values"),
        (FilterNode(key="k", cmp="in", vals=("v",) * MAX_NODES), "more than 64 nodes and values"),
        (nested(500), "more than 64 nodes and values"),
        (FilterNode(key="k", cmp="ex", nodes=(LEAF,) * MAX_NODES), "more than 64 nodes and values"),
    ],
)
def test_filters_that_cannot_be(node: FilterNode, why: str) -> None:
    """Each is refused, in words for whoever wrote it."""
    with pytest.raises(FilterError, match=why):
        TagsFilter(node)


def test_filters_at_their_bounds() -> None:
    """As many nodes, as deep and with texts as long as may be."""
    assert TagsFilter(FilterNode(op="or", nodes=(LEAF,) * (MAX_NODES - 1))).passes({"k": ""})
    assert TagsFilter(FilterNode(key="k", cmp="in", vals=("v",) * (MAX_NODES - 1))).passes({"k": "v"})
    assert TagsFilter(nested(MAX_DEPTH)).passes({"k": ""}) is (MAX_DEPTH % 2 == 1)
    longest = "x" * MAX_TEXT
    assert TagsFilter(FilterNode(key=longest, cmp="eq", val=longest)).passes({longest: longest})


def test_equal_filters_are_one() -> None:
    """They share the work of a fan-out; all others are different."""
    made = [TagsFilter(FilterNode(key="k", cmp="in", vals=("a", val))) for val in ("b", "b", "c")]
    assert made[0] == made[1]
    assert hash(made[0]) == hash(made[1])
    assert made[0] != made[2]
    assert made[0] != FilterNode(key="k", cmp="in", vals=("a", "b"))
    assert len(set(made)) == 2


# Against an evaluator that takes the words literally.

_texts = st.sampled_from(["", "a", "ab", "b", "1", "2.5", "-3", "10"])
_keys = st.sampled_from(["k", "l", "m"])
_numbers = st.sampled_from(["1", "2.5", "-3", "10", "0010.0"])
_leaves = st.builds(
    lambda key, cmp, val, vals, number: FilterNode(
        key=key, cmp=cmp, val=number if cmp in {"lt", "lte", "gt", "gte"} else val, vals=tuple(vals)
    ),
    _keys,
    st.sampled_from(COMPARISONS),
    _texts,
    st.lists(_texts, min_size=1, max_size=3),
    _numbers,
)
_nodes = st.recursive(
    _leaves,
    lambda inner: (
        st.builds(
            lambda op, nodes: FilterNode(op=op, nodes=tuple(nodes)),
            st.sampled_from(["and", "or"]),
            st.lists(inner, min_size=1, max_size=3),
        )
        | st.builds(lambda node: FilterNode(op="not", nodes=(node,)), inner)
    ),
    max_leaves=8,
)


def naive(node: FilterNode, tags: dict[str, str]) -> bool:
    """What a filter means, word by word."""
    match node.op:
        case "and":
            return all(naive(each, tags) for each in node.nodes)
        case "or":
            return any(naive(each, tags) for each in node.nodes)
        case "not":
            return not naive(node.nodes[0], tags)
    value = tags.get(node.key)
    if value is None:
        return node.cmp in {"neq", "nin", "nex"}
    if node.cmp in {"lt", "lte", "gt", "gte"}:
        return _ordered(node.cmp, value, Decimal(node.val))
    return {
        "eq": value == node.val,
        "neq": value != node.val,
        "in": value in node.vals,
        "nin": value not in node.vals,
        "ex": True,
        "nex": False,
        "sw": value[: len(node.val)] == node.val,
        "ew": value.removesuffix(node.val) + node.val == value,
        "ct": value.count(node.val) > 0,
    }[node.cmp]


def _ordered(cmp: str, value: str, bound: Decimal) -> bool:
    try:
        number = Decimal(value)
    except ArithmeticError:
        return False
    return {"lt": number < bound, "lte": number <= bound, "gt": number > bound, "gte": number >= bound}[cmp]


@given(_nodes, st.dictionaries(_keys, _texts | _numbers))
def test_filter_means_what_it_says(node: FilterNode, tags: dict[str, str]) -> None:
    """Any tree, any tags."""
    try:
        found = TagsFilter(node)
    except FilterError:  # too deep: judged above
        return
    assert found.passes(tags) is naive(node, tags)
    assert found == TagsFilter(node)
