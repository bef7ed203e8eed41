# ruff: noqa: ANN401 - the loader handles values of every type that a setting may have
"""Decodes a mapping into frozen Structs and reports every problem at once, each with its path. Pure.

A rule that concerns one field is in its annotation (`Meta`); a rule between fields is a plain function in the
Struct's `checks`. Reading files and the environment is `tidewire.platform.settings`.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from tidewire.kernel.config_fields import ORDERED, PATH, RESTART, SHARED, Kind, Setting, settings_of
from tidewire.kernel.config_types import Duration, Secret, Text, duration, from_plain, secret

__all__ = [
    "ORDERED",
    "PATH",
    "REPORTED",
    "RESTART",
    "SHARED",
    "ConfigError",
    "Duration",
    "Problem",
    "Secret",
    "Section",
    "Text",
    "decode",
    "duration",
    "join",
    "repeated",
    "secret",
    "suggestion",
]

S = TypeVar("S", bound=msgspec.Struct)

_UNQUOTED: Final = re.compile(r"Expected `str`, got `(int|float|bool)`.*")
"""What msgspec says where YAML takes text for something else."""


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong: where (`channel.namespaces[2].name`, or a file and line) and what."""

    path: str
    message: str

    def __str__(self) -> str:
        """One line for a person, whatever a name or a value holds."""
        line = f"{self.path}: {self.message}" if self.path else self.message
        return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)


class ConfigError(Exception):
    """The configuration cannot be used; `problems` holds every reason that was found, never none."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep the problems in the order found."""
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every configuration Struct.

    `checks` are the rules between fields: each takes the section and yields problems with paths relative to it. A
    check that reads a field which is itself wrong is left out, since it could only guess.

    `reloadable` says that a running process takes changes of its settings, all but those marked `RESTART`; sections in
    it speak for themselves.

    `hints` are names that people bring along from elsewhere, each with what the error about an unknown setting adds.

    `others` are names of settings that belong to other processes, which may share a file: they are passed over.
    """

    checks: ClassVar[tuple[Callable[[Any], Iterable[Problem]], ...]] = ()
    reloadable: ClassVar[bool] = False
    hints: ClassVar[Mapping[str, str]] = {}
    others: ClassVar[frozenset[str]] = frozenset()


REPORTED: Final = object()
"""A value for `decode` that stands for "there is a value, but its problem was already reported"."""

_FAILED: Final = object()


class _UnknownValueError(Exception):
    """A check asked for a field that could not be decoded."""


class _Partial:
    """A section of which some fields could not be decoded: what the checks get instead of the Struct."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        value = self._values.get(name, _FAILED)
        if value is _FAILED:
            raise _UnknownValueError(name)
        return value


def decode(config_type: type[S], mapping: Mapping[str, object]) -> S:
    """The configuration that `mapping` (plain data, as from YAML) describes.

    Raises ConfigError with every problem found: wrong types and limits, unknown keys, missing fields, settings that
    do not work yet, and the failed `checks` of all sections.
    """
    problems: list[Problem] = []
    config = _section(config_type, mapping, "", problems)
    if problems:
        raise ConfigError(problems)
    return typing.cast("S", config)


def _section(struct: type[msgspec.Struct], raw: object, path: str, problems: list[Problem]) -> Any:
    if not isinstance(raw, Mapping):
        problems.append(Problem(path, f"expected a group of settings, got {_type_name(raw)}"))
        return _Partial({})
    settings = settings_of(struct)
    problems.extend(_unknown_keys(struct, raw, path))
    values = {setting.name: _field(setting, raw, join(path, setting.name), problems) for setting in settings}
    section = _Partial(values) if _incomplete(values.values()) else struct(**values)
    problems.extend(_failed_checks(struct, section, path))
    return section


def _unknown_keys(struct: type[msgspec.Struct], raw: Mapping[Any, object], path: str) -> Iterable[Problem]:
    known = [setting.name for setting in settings_of(struct)]
    hints: Mapping[str, str] = getattr(struct, "hints", {})
    others: frozenset[str] = getattr(struct, "others", frozenset())
    for key in raw:
        if not isinstance(key, str):
            yield Problem(
                join(path, str(key)), f"a name must be text, got {_type_name(key)}; put it in quotes"
            )
        elif key not in known and key not in others:
            hint = f"; {hints[key]}" if key in hints else suggestion(key, known)
            yield Problem(join(path, key), f"unknown setting{hint}")


def suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """`; did you mean x?` for the closest known name, or "" when none is close; a shared `prefix` counts nothing."""
    close = difflib.get_close_matches(
        name.removeprefix(prefix), [one.removeprefix(prefix) for one in known], n=1
    )
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def _field(setting: Setting, raw: Mapping[Any, object], path: str, problems: list[Problem]) -> Any:
    if setting.name not in raw:
        if setting.required:
            problems.append(Problem(path, "missing"))
            return _FAILED
        default = setting.default
        if isinstance(default, msgspec.Struct):
            problems.extend(_failed_checks_below(default, path))
        return default
    given = raw[setting.name]
    if given is REPORTED:
        return _FAILED
    if given is None:
        problems.append(Problem(path, "is empty: give it a value or remove the line"))
        return _FAILED
    value = _value(setting, given, path, problems)
    if setting.not_yet is not None and value is not _FAILED and value != setting.default:
        problems.append(Problem(path, f"not yet: {setting.not_yet}"))
    return value


def _value(setting: Setting, given: object, path: str, problems: list[Problem]) -> Any:
    if setting.kind is Kind.SECTION:
        return _section(setting.base, given, path, problems)
    if setting.kind in (Kind.LIST, Kind.SECTIONS):
        return _items(setting, given, path, problems)
    return _scalar(setting, given, path, problems)


def _items(setting: Setting, given: object, path: str, problems: list[Problem]) -> Any:
    if not isinstance(given, list | tuple):
        problems.append(Problem(path, f"expected a list, got {_type_name(given)}"))
        return _FAILED
    least = next((meta.min_length for meta in setting.metas if meta.min_length is not None), 0)
    if len(given) < least:
        problems.append(Problem(path, f"expected at least {least} item{'s' if least > 1 else ''}"))
        return _FAILED
    read = _section_item if setting.kind is Kind.SECTIONS else _scalar
    items = tuple(read(setting, item, f"{path}[{index}]", problems) for index, item in enumerate(given))
    return _FAILED if any(item is _FAILED for item in items) else items


def _section_item(setting: Setting, given: object, path: str, problems: list[Problem]) -> Any:
    return _section(setting.base, given, path, problems)


def _scalar(setting: Setting, given: object, path: str, problems: list[Problem]) -> Any:
    lenient = isinstance(given, Text)
    try:
        value = msgspec.convert(
            str(given) if lenient else given, setting.type, strict=not lenient, dec_hook=from_plain
        )
        if isinstance(value, Duration):
            _within_limits(setting, value)
    except (msgspec.ValidationError, ValueError) as error:
        origin = f" (from {given.origin})" if isinstance(given, Text) else ""
        problems.append(Problem(path, _sentence(setting, str(error)) + origin))
        return _FAILED
    return value


def _within_limits(setting: Setting, value: Duration) -> None:
    if (least := setting.note("at_least")) is not None and value < Duration.parse(least):
        raise ValueError(f"expected at least {least}, got {value}")
    if (most := setting.note("at_most")) is not None and value > Duration.parse(most):
        raise ValueError(f"expected at most {most}, got {value}")
    if (bound := setting.note("below")) is not None and value >= Duration.parse(bound):
        raise ValueError(f"expected less than {bound}, got {value}")


def _sentence(setting: Setting, message: str) -> str:
    if (hint := setting.note("hint")) is not None and "regex" in message:
        return str(hint)
    if message.startswith("Invalid enum value"):
        choices = typing.get_args(setting.base)
        return (
            f"expected one of {', '.join(map(str, choices))}, got{message.removeprefix('Invalid enum value')}"
        )
    text = message.replace("`", "")
    if _UNQUOTED.fullmatch(message):
        text += "; put it in quotes"
    return text[:1].lower() + text[1:]


def _failed_checks(struct: type[msgspec.Struct], section: Any, path: str) -> Iterable[Problem]:
    for check in getattr(struct, "checks", ()):
        try:
            for problem in check(section):
                yield Problem(join(path, problem.path), problem.message)
        except _UnknownValueError:
            continue


def _failed_checks_below(section: msgspec.Struct, path: str) -> Iterable[Problem]:
    """The failed checks of a section that was not given, and of the sections in it: defaults may be no good either."""
    for setting in settings_of(type(section)):
        if setting.kind is Kind.SECTION:
            yield from _failed_checks_below(getattr(section, setting.name), join(path, setting.name))
    yield from _failed_checks(type(section), section, path)


def repeated(path: str, items: Iterable[Any], field: str) -> Iterable[Problem]:
    """For a check: a problem for each of the `items` at `path` whose `field` an earlier one has already."""
    first: dict[Any, int] = {}
    for index, item in enumerate(items):
        try:
            value = getattr(item, field)
        except _UnknownValueError:
            continue
        if first.setdefault(value, index) != index:
            yield Problem(f"{path}[{index}].{field}", f"{value!r} is {path}[{first[value]}] already")


def _incomplete(values: Iterable[Any]) -> bool:
    for value in values:
        if value is _FAILED or isinstance(value, _Partial):
            return True
        if isinstance(value, tuple) and any(isinstance(item, _Partial) for item in value):
            return True
    return False


def join(path: str, name: str) -> str:
    """The path of `name` (a field, an index such as `[2]`, or a longer relative path) below `path`."""
    if not path or not name:
        return path or name
    return f"{path}{name}" if name.startswith("[") else f"{path}.{name}"


def _type_name(value: object) -> str:
    names = {
        str: "text",
        Text: "text",
        list: "a list",
        dict: "a group",
        bool: "true or false",
        type(None): "nothing",
    }
    return names.get(type(value), type(value).__name__)
