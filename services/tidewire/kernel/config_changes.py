"""What differs between two configurations, and what a running process can take of it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from tidewire.kernel.config import join
from tidewire.kernel.config_fields import Kind, Setting, plain, settings_of
from tidewire.kernel.config_types import Secret

S = TypeVar("S", bound=msgspec.Struct)
Items = tuple[msgspec.Struct, ...]

FINGERPRINT_LETTERS = 12
NAME = "name"


class Change(msgspec.Struct, frozen=True):
    """One setting that differs: its path, whether it needs a restart, and what became of it in words that show no secret.

    Items of a list of sections are told apart by their name, or else their first required setting:
    `channel.namespaces[chat].presence`, `client.token.hmac_keys[2026-01].secret`; where that is not one item's alone, or they
    have none, by their place.
    """

    path: str
    restart: bool
    what: str

    def __str__(self) -> str:
        """One line for a person."""
        return f"{self.path}: {self.what}"


def changes(before: S, after: S) -> tuple[Change, ...]:
    """What `after` changes, in the order of the settings. The order of a list's sections is none, unless it counts (ORDERED)."""
    return tuple(_in_section(before, after, ""))


def fingerprint(config: msgspec.Struct) -> str:
    """A short hash of everything that a reload can change but secrets: processes with equal ones agree on it."""
    text = msgspec.json.encode(_reloadable(config), order="deterministic")
    return hashlib.sha256(text).hexdigest()[:FINGERPRINT_LETTERS]


def _in_section(before: msgspec.Struct, after: msgspec.Struct, path: str) -> Iterator[Change]:
    for setting in settings_of(type(after)):
        old, new, here = getattr(before, setting.name), getattr(after, setting.name), join(path, setting.name)
        if setting.kind is Kind.SECTION:
            yield from _in_section(old, new, here)
        elif setting.kind is Kind.SECTIONS:
            yield from _in_sections(setting, old, new, here)
        elif old != new:
            yield Change(here, setting.restart, f"{_words(old)} -> {_words(new)}")


def _in_sections(setting: Setting, before: Items, after: Items, path: str) -> Iterator[Change]:
    old, new = _by_name(setting, before), _by_name(setting, after)
    for name in {**old, **new}:
        here = f"{path}[{name}]"
        if name not in new:
            yield Change(here, setting.restart, "removed")
        elif name not in old:
            yield Change(here, setting.restart, "added")
        else:
            yield from _in_section(old[name], new[name], here)
    if setting.ordered and [name for name in old if name in new] != [name for name in new if name in old]:
        yield Change(path, setting.restart, "another order")


def _by_name(setting: Setting, items: Items) -> dict[str, msgspec.Struct]:
    required = [inner.name for inner in settings_of(setting.base) if inner.required]
    field = NAME if NAME in required else next(iter(required), None)
    names = [str(index if field is None else getattr(item, field)) for index, item in enumerate(items)]
    return dict(
        zip(names if len(set(names)) == len(names) else map(str, range(len(names))), items, strict=True)
    )


def _words(value: object) -> str:
    if isinstance(value, Secret):
        return str(value) or "none"
    return msgspec.json.encode(plain(value)).decode()


def _reloadable(section: msgspec.Struct) -> dict[str, object]:
    found: dict[str, object] = {}
    for setting in settings_of(type(section)):
        value = getattr(section, setting.name)
        if setting.kind is Kind.SECTION:
            found[setting.name] = _reloadable(value)
        elif setting.restart:
            continue
        elif setting.kind is Kind.SECTIONS:
            named = _by_name(setting, value)
            found[setting.name] = {name: _reloadable(item) for name, item in named.items()}
            if setting.ordered:
                found[f"order of {setting.name}"] = list(named)
        else:
            found[setting.name] = plain(value)
    return found
