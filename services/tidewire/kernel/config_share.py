"""What one of several workers gets of a configuration that is written for all of them together. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import msgspec

from tidewire.kernel.config import ConfigError, Problem, join
from tidewire.kernel.config_fields import Kind, settings_of

S = TypeVar("S", bound=msgspec.Struct)


def portion(total: int, index: int, count: int) -> int:
    """The part of `total` that part number `index` (from 0) of `count` gets: the first ones share the remainder."""
    whole, rest = divmod(total, count)
    return whole + (index < rest)


def share(config: S, index: int, count: int) -> S:
    """The configuration of worker `index` (from 0) of `count`: its portion of each `SHARED` setting, all others as they are.

    Raises ConfigError where a worker would get nothing of one.
    """
    problems = [
        Problem(path, f"is {total}: expected at least 1 for each of {count} workers")
        for path, total in _shared(config, "")
        if total < count
    ]
    if problems:
        raise ConfigError(problems)
    return _portions(config, index, count)


def _shared(section: msgspec.Struct, path: str) -> Iterator[tuple[str, int]]:
    for setting in settings_of(type(section)):
        value, here = getattr(section, setting.name), join(path, setting.name)
        if setting.kind is Kind.SECTION:
            yield from _shared(value, here)
        elif setting.shared:
            yield here, value


def _portions(section: S, index: int, count: int) -> S:
    found: dict[str, object] = {}
    for setting in settings_of(type(section)):
        value = getattr(section, setting.name)
        if setting.kind is Kind.SECTION:
            found[setting.name] = _portions(value, index, count)
        elif setting.shared:
            found[setting.name] = portion(value, index, count)
    return msgspec.structs.replace(section, **found)
