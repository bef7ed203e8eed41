from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, field

from tidewire.kernel.config import (
    REPORTED,
    ConfigError,
    Duration,
    Problem,
    Secret,
    Section,
    Text,
    decode,
    duration,
    repeated,
    secret,
)


def low_below_high(limits: Limits) -> Iterator[Problem]:
    """A rule between two fields."""
    if limits.low >= limits.high:
        yield Problem("low", "expected less than high")


class Limits(Section, frozen=True, kw_only=True):
    checks = (low_below_high,)
    hints = MappingProxyType({"hihg": "here it is limits.high"})

    low: Annotated[int, Meta(ge=0, le=100)] = 1
    high: int = 10


class Item(Section, frozen=True, kw_only=True):
    name: Annotated[str, Meta(pattern="^[a-z]+$", extra={"hint": "a name is lower case"})]
    size: int = 0


def names_differ(example: Example) -> Iterator[Problem]:
    """A rule between the items of a list."""
    yield from repeated("items", example.items, "name")


def never_thirteen(example: Example) -> Iterator[Problem]:
    """A rule about the whole."""
    if example.number == 13:
        yield Problem("", "13 is not a lucky configuration")


class Example(Section, frozen=True, kw_only=True):
    checks = (names_differ, never_thirteen)
    others = frozenset({"neighbour"})

    number: int = 0
    flag: bool = False
    level: Literal["low", "high"] = "low"
    words: Annotated[tuple[Annotated[str, Meta(min_length=2)], ...], Meta(min_length=1)] = ("ab",)
    pause: Annotated[Duration, Meta(extra={"at_least": "1s", "at_most": "1m"})] = duration("5s")
    short: Annotated[Duration, Meta(extra={"below": "4s"})] = duration("3s")
    later: Annotated[int, Meta(extra={"not_yet": "it comes with the moon"})] = 0
    key: Secret = secret()
    limits: Limits = field(default_factory=Limits)
    items: tuple[Item, ...] = ()


def problems(mapping: Mapping[str, object]) -> list[str]:
    """The lines that decoding `mapping` gives."""
    with pytest.raises(ConfigError) as error:
        decode(Example, mapping)
    return [str(problem) for problem in error.value.problems]


def test_nothing_gives_the_defaults() -> None:
    """An empty mapping is the default configuration."""
    assert decode(Example, {}) == Example()


def test_values_are_converted_to_their_types() -> None:
    """Lists become tuples, groups Structs, durations seconds."""
    config = decode(
        Example,
        {
            "number": 5,
            "level": "high",
            "words": ["one", "two"],
            "pause": "1m",
            "key": "k",
            "limits": {"low": 2},
            "items": [{"name": "a"}, {"name": "b", "size": 3}],
        },
    )
    assert config.words == ("one", "two")
    assert config.pause == 60.0
    assert config.key == Secret("k")
    assert config.limits == Limits(low=2)
    assert config.items == (Item(name="a"), Item(name="b", size=3))


def test_every_problem_is_reported_at_once() -> None:
    """One run names all that is wrong, each with its path, in the order of the settings."""
    assert problems(
        {
            "numbr": 1,
            "number": "5",
            "flag": 1,
            "level": "hig",
            "words": ["ok", "x", 3],
            "pause": "2x",
            "key": 7,
            "limits": {"low": 101, "hgh": 1},
            "items": [{"name": "A"}, {"size": 1}, "text", {"name": "b", "size": None}],
        }
    ) == [
        "numbr: unknown setting; did you mean number?",
        "number: expected int, got str",
        "flag: expected bool, got int",
        "level: expected one of low, high, got 'hig'",
        "words[1]: expected str of length >= 2",
        "words[2]: expected str, got int; put it in quotes",
        "pause: expected a duration such as 25s, 500ms or 1m, got '2x'",
        "key: expected text, got int; put it in quotes",
        "limits.hgh: unknown setting; did you mean high?",
        "limits.low: expected int <= 100",
        "items[0].name: a name is lower case",
        "items[1].name: missing",
        "items[2]: expected a group of settings, got text",
        "items[3].size: is empty: give it a value or remove the line",
    ]


def test_an_unknown_name_without_a_close_one_is_just_unknown() -> None:
    """No far-fetched suggestion."""
    assert problems({"zzzzzz": 1}) == ["zzzzzz: unknown setting"]


def test_a_name_from_elsewhere_has_its_hint_and_no_suggestion() -> None:
    """The hint is certain, likeness is a guess."""
    assert problems({"limits": {"hihg": 1}}) == ["limits.hihg: unknown setting; here it is limits.high"]


def test_settings_of_other_processes_are_passed_over_at_the_top_alone() -> None:
    """They may be anything: their own process checks them."""
    assert decode(Example, {"number": 2, "neighbour": {"port": "x"}}) == Example(number=2)
    assert problems({"neighbours": 1, "limits": {"neighbour": 1}}) == [
        "neighbours: unknown setting",
        "limits.neighbour: unknown setting",
    ]


def test_a_name_that_is_no_text_is_refused() -> None:
    """YAML reads `on:` as true; that is said, not ignored."""
    mapping: dict[object, object] = {True: 1}
    assert problems(mapping) == ["True: a name must be text, got true or false; put it in quotes"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("500ms", "pause: expected at least 1s, got 500ms"),
        (61, "pause: expected at most 1m, got 61s"),
        (True, "pause: expected a duration such as 25s, 500ms or 1m, got bool"),
    ],
)
def test_durations_keep_their_limits(value: object, line: str) -> None:
    """Limits of durations are part of the annotation."""
    assert problems({"pause": value}) == [line]


def test_a_bound_may_be_exclusive() -> None:
    """`below` refuses the bound itself."""
    assert problems({"short": "4s"}) == ["short: expected less than 4s, got 4s"]
    assert decode(Example, {"short": "3999ms"}).short == pytest.approx(3.999)


def test_lists_are_lists_and_keep_their_least_length() -> None:
    """A lone text is not a list of one."""
    assert problems({"words": "ab", "items": {}}) == [
        "words: expected a list, got text",
        "items: expected a list, got a group",
    ]
    assert problems({"words": []}) == ["words: expected at least 1 item"]


def test_not_yet_accepts_only_the_default() -> None:
    """A setting without effect so far is never accepted silently."""
    assert decode(Example, {"later": 0}).later == 0
    assert problems({"later": 1}) == ["later: not yet: it comes with the moon"]


def test_checks_are_reported_with_all_else_and_their_path() -> None:
    """Rules between fields count as problems of their section."""
    assert problems({"number": 13, "limits": {"low": 10}, "flag": "no"}) == [
        "flag: expected bool, got str",
        "limits.low: expected less than high",
        "13 is not a lucky configuration",
    ]


def test_a_check_that_would_have_to_guess_is_left_out() -> None:
    """A rule about a field that is itself wrong says nothing."""
    assert problems({"limits": {"low": 50, "high": "x"}}) == ["limits.high: expected int, got str"]


def test_defaults_are_checked_too() -> None:
    """A section that is not given must still pass its checks."""

    class Group(Section, frozen=True, kw_only=True):
        inner: Limits = field(default_factory=lambda: Limits(low=20))

    class Top(Section, frozen=True, kw_only=True):
        group: Group = field(default_factory=Group)

    Group.__annotations__ = {"inner": Limits}
    Top.__annotations__ = {"group": Group}
    with pytest.raises(ConfigError) as error:
        decode(Top, {})
    assert str(error.value) == "group.inner.low: expected less than high"


def test_repeated_values_are_found_among_wrong_ones() -> None:
    """One bad item does not hide what is wrong with the others."""
    items = [{"name": "a"}, {"name": "?"}, {"name": "a", "size": "x"}, "text"]
    assert "items[2].name: 'a' is items[0] already" in problems({"items": items})


def test_numbers_and_booleans_are_read_from_the_environments_text() -> None:
    """What has only text is read leniently, and problems name its origin."""
    config = decode(Example, {"number": Text("7", "X"), "flag": Text("true", "Y"), "pause": Text("9", "Z")})
    assert (config.number, config.flag, config.pause) == (7, True, 9.0)
    assert problems({"number": Text("many", "TIDEWIRE_NUMBER")}) == [
        "number: expected int, got str (from TIDEWIRE_NUMBER)"
    ]


def test_a_reported_value_is_not_reported_again() -> None:
    """A value whose problem is known elsewhere only keeps checks from guessing."""
    assert problems({"limits": {"low": 50, "high": REPORTED}, "number": "x"}) == [
        "number: expected int, got str"
    ]


def test_secrets_do_not_show_in_a_configuration() -> None:
    """Neither the Struct nor an error shows a secret."""
    config = decode(Example, {"key": "hunter2"})
    assert "hunter2" not in repr(config)
    assert "hunter2" not in "".join(problems({"key": ["hunter2"]}))


def test_an_error_shows_its_problems() -> None:
    """The exception's own text names all."""
    assert str(ConfigError([Problem("a", "bad"), Problem("", "worse")])) == "a: bad; worse"


texts = st.text("ab5 \n\x00.é", max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    ["number", "flag", "level", "words", "pause", "later", "key", "limits", "items", "other"]
)


@given(st.dictionaries(names, json_values, max_size=6))
def test_any_data_is_a_configuration_or_a_config_error(mapping: dict[str, object]) -> None:
    """No data makes the loader fail in another way."""
    try:
        decode(Example, mapping)
    except ConfigError as error:
        lines = [str(problem) for problem in error.problems]
    else:
        return
    assert lines
    assert all(line.isprintable() for line in lines)
