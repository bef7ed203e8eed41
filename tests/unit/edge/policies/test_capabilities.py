from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.protocol import protocol
from tidewire.edge.policies import capabilities
from tidewire.edge.policies.capabilities import NONE, Capabilities, Capability, Entry, flaw

SUB, PUB = Capability.SUBSCRIBE, Capability.PUBLISH


def caps(*entries: dict[str, Any]) -> Capabilities:
    """Capabilities as the claim writes them; they may only subscribe unless told otherwise."""
    written = [{"allow": ["sub"], **entry} for entry in entries]
    return Capabilities(msgspec.convert(written, tuple[Entry, ...]))


def wildcard(*channels: str, allow: tuple[str, ...] = ("sub",)) -> dict[str, Any]:
    """A wildcard entry."""
    return {"channels": channels, "match": "wildcard", "allow": allow}


def regex(*channels: str) -> dict[str, Any]:
    """An entry of expressions."""
    return {"channels": channels, "match": "regex"}


@protocol("token.caps")
@pytest.mark.parametrize(
    ("entry", "covered", "not_covered"),
    [
        ({"channels": ["news", "user_42"]}, ["news", "user_42"], ["new", "news2", "NEWS", "*", ""]),
        ({"channels": ["a*"]}, ["a*"], ["a", "ab"]),
        ({"channels": ["$p:a", "d#42"]}, ["$p:a", "d#42"], ["$p:b", "d#43"]),
        ({"channels": []}, [], ["", "a"]),
        (
            wildcard("user:*"),
            ["user:", "user:1", "user:1.2:3"],
            ["user", "users:1", "xuser:1", "$user:1", "user:a#1"],
        ),
        (wildcard("*"), ["a", "a:b.c"], ["$a", "$a:b", "a#1"]),
        (wildcard("a*b*c"), ["abc", "axxbxxc", "abbcc", "a*b*c"], ["ab", "ac", "acb", "abcd", "xabc"]),
        (wildcard("ab*ba"), ["abba", "abxba"], ["aba", "ab"]),
        (wildcard("a.b*"), ["a.b", "a.bc"], ["axb"]),
        (wildcard("plain"), ["plain"], ["plain2"]),
        (wildcard("$p:*"), [], ["$p:a"]),
        (regex("user:[0-9]+"), ["user:1", "user:42"], ["user:", "user:1x", "xuser:1", "user:1\n"]),
        (regex("a|b:.*"), ["a", "b:x"], ["ax", "c"]),
        (regex(".*"), ["a", "ä:b"], ["$a", "a#1"]),
        (regex(r"\$p:a"), [], ["$p:a"]),
    ],
)
def test_which_channels_an_entry_covers(
    entry: dict[str, Any], covered: list[str], not_covered: list[str]
) -> None:
    """The whole name; private and user-limited channels by exact entries only."""
    granted = caps(entry)
    assert [channel for channel in covered if not granted.allows(SUB, channel)] == []
    assert [channel for channel in not_covered if granted.allows(SUB, channel)] == []


@protocol("token.caps")
def test_the_first_entry_that_covers_decides_alone() -> None:
    """As the claim's inventor has it: a narrow entry before a wide one takes away."""
    granted = caps({"channels": ["a"], "allow": ["pub"]}, wildcard("*", allow=("sub", "hst")))
    assert granted.allows(PUB, "a")
    assert not granted.allows(SUB, "a")
    assert not granted.allows(PUB, "b")
    assert granted.allows(SUB, "b")
    assert granted.allows(Capability.HISTORY, "b")
    assert not granted.allows(Capability.PRESENCE, "b")


@protocol("token.caps")
@pytest.mark.parametrize(
    ("entries", "allowed", "refused"),
    [
        ([{"channels": ["s:n.*"]}], ["s:n.*"], ["s:n.a*", "s:*", "s:n.**"]),
        ([wildcard("s:*")], ["s:n.*", "s:*", "s:a*b"], ["*", "s*", "t:*", "$s:*", "s:*#1"]),
        ([wildcard("s:n.*")], ["s:n.*", "s:n.a.*"], ["s:*", "s:*.n", "s:*.*"]),
        ([wildcard("s:*.open")], ["s:*.open", "s:a*.open"], ["s:*", "s:*.*", "s:a.o*n"]),
        ([regex(".*"), regex(r"s:n\.\*")], [], ["s:n.*", "s:*"]),
        ([{"channels": ["$s:*"]}], ["$s:*"], ["$s:a*"]),
        ([wildcard("s:*", allow=("pub",))], [], ["s:*"]),
        ([{"channels": ["s:n.x"], "allow": []}, wildcard("s:*")], ["s:m.*"], ["s:n.*", "s:*", "s:>"]),
        ([wildcard("s:n.*", allow=()), wildcard("s:*")], [], ["s:m.*"]),
        ([], [], ["s:*"]),
    ],
)
def test_pattern_subscriptions(entries: list[dict[str, Any]], allowed: list[str], refused: list[str]) -> None:
    """Only what covers everything that the pattern may stand for; what an earlier entry forbids stays forbidden."""
    granted = caps(*entries)
    assert [pattern for pattern in allowed if not granted.allows_pattern(pattern)] == []
    assert [pattern for pattern in refused if granted.allows_pattern(pattern)] == []


@protocol("token.allow")
def test_those_of_a_subscription_token_are_on_its_channel() -> None:
    """None at all without the claim."""
    granted = Capabilities.on("$p:a", frozenset([PUB]))
    assert granted.allows(PUB, "$p:a")
    assert not granted.allows(PUB, "$p:b")
    assert not granted.allows(SUB, "$p:a")
    assert Capabilities.on("$p:a", frozenset()) is NONE
    assert not NONE.allows(SUB, "a")


@protocol("token.caps")
@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([{"channels": ["a"]}] * 65, "caps: over 64 entries"),
        ([{"channels": [str(number) for number in range(257)]}], "caps: over 256 channels"),
        ([regex(*map(str, range(17)))], "caps: over 16 regular expressions"),
        ([{"channels": ["x" * 8193]}], "caps: over 8192 characters"),
        ([regex("(")], "caps: no regular expression: missing ): ("),
        ([regex(r"(a)\1")], r"caps: no regular expression: invalid escape sequence: \1"),
        ([regex("(?:a{1000}){1000}")], "caps: no regular expression: invalid repetition size: {1000}"),
        ([regex(r"[\pL]{100}")], "caps: no regular expression: pattern too large - compile failed"),
    ],
    ids=["entries", "channels", "regexes", "length", "syntax", "back reference", "repetition", "size"],
)
def test_bounds(entries: list[dict[str, Any]], why: str) -> None:
    """What a token may cost; the log learns which bound it was."""
    assert flaw(caps(*entries).entries) == why


def test_what_is_within_the_bounds_has_no_flaw() -> None:
    """Each bound is reached here, and not exceeded."""
    exact: list[dict[str, Any]] = [{"channels": [f"c{number}" for number in range(256 - 62 - 16)]}]
    others = [{"channels": [f"d{number}"]} for number in range(62)]
    assert flaw(caps(*exact, *others, regex(*(f"r{number}" for number in range(16)))).entries) is None
    assert flaw(caps({"channels": ["x" * 8192]}).entries) is None


def test_compiled_expressions_are_kept_and_bounded() -> None:
    """The same expression in the tokens of many users is compiled once."""
    before = capabilities.compiled.cache_info()
    for _ in range(3):
        assert caps(regex("kept:[a-z]{1,7}")).allows(SUB, "kept:abc")
    after = capabilities.compiled.cache_info()
    assert after.misses == before.misses + 1
    assert after.maxsize == capabilities.CACHED_REGEXES
