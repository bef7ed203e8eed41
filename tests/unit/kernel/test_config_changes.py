from __future__ import annotations

from typing import Annotated, Any

import pytest
from msgspec import Meta, field

from tidewire.kernel.config import RESTART, Duration, Secret, Section, decode, duration, secret
from tidewire.kernel.config_changes import changes, fingerprint


class Item(Section, frozen=True, kw_only=True):
    reloadable = True

    name: str
    size: int = 0
    form: Annotated[str, Meta(extra=RESTART)] = "a"
    key: Secret = secret()


class Nameless(Section, frozen=True, kw_only=True):
    port: int = 1


class Soft(Section, frozen=True, kw_only=True):
    reloadable = True

    pause: Duration = duration("5s")
    hard: Annotated[int, Meta(extra=RESTART)] = 1
    words: tuple[str, ...] = ()
    key: Secret = secret()
    items: tuple[Item, ...] = ()


class Hard(Section, frozen=True, kw_only=True):
    soft: Soft = field(default_factory=Soft)
    flag: bool = False
    places: tuple[Nameless, ...] = (Nameless(),)


def told(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What differs, in lines; `!` marks what needs a restart."""
    found = changes(decode(Hard, before), decode(Hard, after))
    return [f"{'!' * change.restart}{change}" for change in found]


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({"flag": True}, {"flag": True}, []),
        ({}, {"flag": True}, ["!flag: false -> true"]),
        ({}, {"soft": {"pause": "1m"}}, ['soft.pause: "5s" -> "1m"']),
        ({}, {"soft": {"pause": "5000ms"}}, []),
        ({}, {"soft": {"hard": 2}}, ["!soft.hard: 1 -> 2"]),
        ({"soft": {"words": ["a"]}}, {"soft": {"words": ["a", "b"]}}, ['soft.words: ["a"] -> ["a","b"]']),
        ({}, {"places": [{"port": 2}]}, ["!places[0].port: 1 -> 2"]),
        ({}, {"places": [{}, {"port": 3}]}, ["!places[1]: added"]),
    ],
)  # fmt: skip
def test_each_setting_that_differs_is_one_change(
    before: dict[str, Any], after: dict[str, Any], lines: list[str]
) -> None:
    """With its path, its values as in the file, and whether a process that runs can take it."""
    assert told(before, after) == lines


def test_items_with_a_name_are_compared_by_it() -> None:
    """Whatever their order; one that comes or goes is one change."""
    before = {"soft": {"items": [{"name": "a"}, {"name": "b", "size": 1}, {"name": "c"}]}}
    after = {"soft": {"items": [{"name": "c"}, {"name": "d"}, {"name": "b", "size": 2, "form": "z"}]}}
    assert told(before, after) == [
        "soft.items[a]: removed",
        "soft.items[b].size: 1 -> 2",
        '!soft.items[b].form: "a" -> "z"',
        "soft.items[d]: added",
    ]
    assert told(before, {"soft": {"items": before["soft"]["items"][::-1]}}) == []


def test_no_secret_is_shown() -> None:
    """Neither the old nor the new one; that it came, changed or went can be seen."""
    one, two = {"soft": {"key": "first"}}, {"soft": {"key": "second"}}
    assert told({}, one) == ["soft.key: none -> ***"]
    assert told(one, two) == ["soft.key: *** -> ***"]
    assert told(one, one) == []
    items = [{"soft": {"items": [{"name": "a", "key": key}]}} for key in ("first", "second")]
    assert told(*items) == ["soft.items[a].key: *** -> ***"]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"soft": {"pause": "6s"}}, False),
        ({"soft": {"items": [{"name": "b"}, {"name": "a", "size": 1}]}}, False),
        ({"soft": {"items": [{"name": "b"}, {"name": "a"}]}}, True),
        ({"soft": {"items": [{"name": "a", "form": "z", "key": "k"}, {"name": "b"}]}}, True),
        ({"soft": {"hard": 2, "key": "k"}, "flag": True, "places": []}, True),
    ],
)
def test_fingerprint_is_that_of_what_a_reload_can_change(change: dict[str, Any], same: bool) -> None:
    """Secrets are left out, since a weak one could be guessed from it; what each process has for itself, too."""
    base = {"soft": {"items": [{"name": "a"}, {"name": "b"}]}}
    if "items" not in change["soft"]:
        change["soft"].update(base["soft"])
    assert (fingerprint(decode(Hard, base)) == fingerprint(decode(Hard, change))) is same
