from __future__ import annotations

from typing import Annotated

import pytest
from msgspec import Meta, field

from tidewire.kernel.config import RESTART, Duration, Secret, Section, duration, secret
from tidewire.kernel.config_fields import Kind, plain, settings_of, walk


class Inner(Section, frozen=True, kw_only=True):
    value: Annotated[int, Meta(ge=1, description="a number")] = 1
    key: Secret = secret()


class Outer(Section, frozen=True, kw_only=True):
    name: str
    names: Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(description="names")] = ()
    later: Annotated[bool, Meta(extra={"not_yet": "it comes later"})] = False
    pause: Duration = duration("5s")
    inner: Annotated[Inner, Meta(description="inside")] = field(default_factory=Inner)
    inners: tuple[Inner, ...] = ()


def test_kinds_follow_from_annotations() -> None:
    """Scalars, secrets, lists and sections are told apart."""
    kinds = {setting.name: setting.kind for setting in (*settings_of(Outer), *settings_of(Inner))}
    assert kinds == {
        "name": Kind.VALUE,
        "names": Kind.LIST,
        "later": Kind.VALUE,
        "pause": Kind.VALUE,
        "inner": Kind.SECTION,
        "inners": Kind.SECTIONS,
        "value": Kind.VALUE,
        "key": Kind.SECRET,
    }


def test_settings_tell_their_annotations() -> None:
    """Description, default and "not yet" are read from the field."""
    settings = {setting.name: setting for setting in settings_of(Outer)}
    assert settings["names"].description == "names"
    assert settings["names"].base is str
    assert settings["later"].not_yet == "it comes later"
    assert settings["name"].not_yet is None
    assert settings["pause"].default == 5
    assert settings["name"].required
    with pytest.raises(AssertionError, match="name has no default"):
        _ = settings["name"].default


def test_walk_enters_sections_but_no_lists() -> None:
    """Only settings with a fixed path are met."""
    paths = [".".join(path) for path, _ in walk(Outer)]
    assert paths == ["name", "names", "later", "pause", "inner.value", "inner.key", "inners"]


def test_plain_is_the_notation_of_the_file() -> None:
    """Durations are text, tuples lists, sections mappings, and secrets empty."""
    outer = Outer(name="a", names=("x",), inner=Inner(key=Secret("hidden")))
    assert plain(outer) == {
        "name": "a",
        "names": ["x"],
        "later": False,
        "pause": "5s",
        "inner": {"value": 1, "key": ""},
        "inners": [],
    }


class Soft(Section, frozen=True, kw_only=True):
    reloadable = True

    port: Annotated[int, Meta(extra={"hint": "a number", **RESTART})] = 1
    size: Annotated[int, Meta(extra={"hint": "a number"})] = 1
    inner: Inner = field(default_factory=Inner)


class Softer(Soft, frozen=True, kw_only=True):
    name: str = ""


def test_change_needs_a_restart_unless_the_section_says_otherwise() -> None:
    """A section that nobody thought about is the safe kind; each one speaks for itself, and for what inherits from it."""
    assert {".".join(path): setting.restart for path, setting in walk(Softer)} == {
        "port": True,
        "size": False,
        "inner.value": True,
        "inner.key": True,
        "name": False,
    }
    assert all(setting.restart for _, setting in walk(Outer))
