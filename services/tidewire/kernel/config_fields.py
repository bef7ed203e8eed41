"""What the settings of a configuration Struct are: the one reading of Structs that all tools share. Pure.

The loader, the environment, the JSON Schema and the reference page all ask here, so they cannot disagree.
"""

from __future__ import annotations

import enum
import functools
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final

import msgspec

from tidewire.kernel.config_types import Duration, Secret


class Kind(enum.Enum):
    """How a setting is written."""

    VALUE = "value"  # one scalar
    SECRET = "secret"  # noqa: S105 - a name, not a secret: one scalar that may also come from a file
    LIST = "list"  # scalars
    SECTION = "section"  # a nested Struct
    SECTIONS = "sections"  # a list of Structs


class Setting(msgspec.Struct, frozen=True):
    """One field of a configuration Struct, read from its annotation.

    `type` is the annotated type of the value, for the list kinds that of one item; `base` is it without
    annotations. `metas` are the field's own `msgspec.Meta`, outermost last. `restart`: a running process cannot take a
    change of it; for a section that is each inner setting's own answer.
    """

    name: str
    kind: Kind
    type: Any
    base: Any
    metas: tuple[msgspec.Meta, ...]
    make_default: Callable[[], Any] | None
    restart: bool

    @property
    def required(self) -> bool:
        """Whether the setting must be given."""
        return self.make_default is None

    @property
    def default(self) -> object:
        """The value when the setting is not given; only for settings that are not `required`."""
        if self.make_default is None:
            raise AssertionError(f"{self.name} has no default")
        return self.make_default()

    @property
    def description(self) -> str:
        """The text for the reference page, or ""."""
        return next((meta.description for meta in self.metas if meta.description), "")

    @property
    def shared(self) -> bool:
        """Whether several workers divide this number among them."""
        return bool(self.note("shared"))

    @property
    def ordered(self) -> bool:
        """Whether the order of a list's sections counts."""
        return bool(self.note("ordered"))

    @property
    def not_yet(self) -> str | None:
        """What will bring this setting, in words; None for a setting that works."""
        found = self.note("not_yet")
        return None if found is None else str(found)

    def note(self, key: str) -> object:
        """The value of `key` in the field's `Meta(extra=...)`, or None."""
        return next((meta.extra[key] for meta in self.metas if meta.extra and key in meta.extra), None)


DURATION_LIMITS: Final = ("at_least", "at_most", "below")
"""Keys of `Meta(extra=...)` that bound a `Duration` (written as a duration); msgspec bounds only its own types."""


PATH: Final = {"path": True}
"""`Meta(extra=PATH)` marks a path: `tidewire.platform.settings` makes it relative to the configuration file."""


RESTART: Final = {"restart": True}
"""`Meta(extra=RESTART)` marks a setting of a reloadable section whose change needs a restart all the same."""


SHARED: Final = {"shared": True}
"""`Meta(extra=SHARED)` marks a whole number that several workers of one edge divide among them."""


ORDERED: Final = {"ordered": True}
"""`Meta(extra=ORDERED)` marks a list of sections of which the first that fits counts: another order is a change."""


@functools.cache
def settings_of(struct: type[msgspec.Struct]) -> tuple[Setting, ...]:
    """The settings of a Struct in the order of its fields."""
    fixed = not getattr(struct, "reloadable", False)
    return tuple(_setting(field, fixed=fixed) for field in msgspec.structs.fields(struct))


def walk(
    struct: type[msgspec.Struct], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Setting]]:
    """Every setting of a Struct and of its nested sections with its path; a list of sections is not entered."""
    for setting in settings_of(struct):
        here = (*path, setting.name)
        if setting.kind is Kind.SECTION:
            yield from walk(setting.base, here)
        else:
            yield here, setting


def _setting(field: msgspec.structs.FieldInfo, *, fixed: bool) -> Setting:
    outer, metas = _unwrap(field.type)
    item = typing.get_args(outer)[0] if typing.get_origin(outer) is tuple else None
    wanted = field.type if item is None else item
    base, _ = _unwrap(wanted)
    restart = fixed or any(meta.extra and meta.extra.get("restart") for meta in metas)
    return Setting(field.name, _kind(base, item is not None), wanted, base, metas, _factory(field), restart)


def _unwrap(annotated: object) -> tuple[Any, tuple[msgspec.Meta, ...]]:
    if typing.get_origin(annotated) is not Annotated:
        return annotated, ()
    base, *notes = typing.get_args(annotated)
    return base, tuple(note for note in notes if isinstance(note, msgspec.Meta))


def _kind(base: object, is_list: bool) -> Kind:
    if isinstance(base, type) and issubclass(base, msgspec.Struct):
        return Kind.SECTIONS if is_list else Kind.SECTION
    if is_list:
        return Kind.LIST
    return Kind.SECRET if base is Secret else Kind.VALUE


def _factory(field: msgspec.structs.FieldInfo) -> Callable[[], Any] | None:
    if field.default_factory is not msgspec.NODEFAULT:
        return typing.cast("Callable[[], Any]", field.default_factory)
    if field.default is not msgspec.NODEFAULT:
        return lambda: field.default
    return None


def plain(value: object) -> object:
    """A setting's value as it would be written in the file; a secret is written as the empty text."""
    if isinstance(value, Duration):
        return str(value)
    if isinstance(value, Secret):
        return ""
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, msgspec.Struct):
        return {setting.name: plain(getattr(value, setting.name)) for setting in settings_of(type(value))}
    return value
