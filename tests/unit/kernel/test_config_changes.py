from __future__ import annotations

from typing import Annotated, Any

import pytest
from msgspec import Meta, field

from tidewire.kernel.config import RESTART, Duration, Secret, Section, decode, duration, secret
from tidewire.kernel.config_changes import changes, fingerprint
from tidewire.options.rate_limit_options import RateLimitsConfig


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


class Twin(Section, frozen=True, kw_only=True):
    url: str
    size: int = 0


class Twins(Section, frozen=True, kw_only=True):
    twins: tuple[Twin, ...] = ()


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


def test_items_that_inherit_what_is_required_are_compared_by_their_name() -> None:
    """Two rate limits of the same number are two: a change of the first was none, and no reload took it."""
    rules = [{"name": name, "command": "publish", "key": ["user"], "limit": 5} for name in ("a", "b")]

    def limits(**change: Any) -> RateLimitsConfig:
        return decode(
            RateLimitsConfig, {"replicas": ["dns:///r:1"], "rules": [{**rules[0], **change}, rules[1]]}
        )

    before, after = limits(), limits(when_down="deny")
    assert [str(change) for change in changes(before, after)] == ['rules[a].when_down: "allow" -> "deny"']
    assert fingerprint(before) != fingerprint(after)


def test_another_order_is_a_change_where_the_first_that_fits_counts() -> None:
    """Of gateways' rules; not of clients' rules, all of which apply."""
    gateways = [{"name": "a", "domain": "d", "entries": ["k=1"], "limit": 1}]
    gateways += [{"name": "b", "domain": "d", "entries": ["k"], "limit": 2}]
    clients = [{"name": name, "command": "rpc", "key": ["user"], "limit": 5} for name in ("c", "d")]
    both = {"replicas": ["dns:///r:1"], "rules": clients, "envoy": gateways}
    before = decode(RateLimitsConfig, both)
    turned = decode(RateLimitsConfig, {**both, "envoy": gateways[::-1]})
    assert [str(change) for change in changes(before, turned)] == ["envoy: another order"]
    assert fingerprint(before) != fingerprint(turned)
    assert not changes(before, decode(RateLimitsConfig, {**both, "rules": clients[::-1]}))


def test_items_that_share_what_tells_them_apart_are_compared_by_their_place() -> None:
    """None of them is lost."""
    before, after = ({"twins": [{"url": "u", "size": size}, {"url": "u"}]} for size in (1, 2))
    assert [str(change) for change in changes(decode(Twins, before), decode(Twins, after))] == [
        "twins[0].size: 1 -> 2"
    ]


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
