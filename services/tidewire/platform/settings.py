"""Reads a configuration from its three places: the YAML file, the `TIDEWIRE_*` environment, and secret files.

The environment overrides the file value by value: `TIDEWIRE_` and the setting's path joined by `_`, in capitals
(`http.port` is `TIDEWIRE_HTTP_PORT`). A secret `x` may be given as `x_file`, the path of a file that holds it, in
both places. Read once, at start, by the command line; everything else receives values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from tidewire.kernel.config import REPORTED, ConfigError, Problem, Text, decode, join, suggestion
from tidewire.kernel.config_fields import Kind, Setting, settings_of, walk
from tidewire.platform.yaml_file import read_yaml

PREFIX: Final = "TIDEWIRE_"
CONFIG_VARIABLE: Final = "TIDEWIRE_CONFIG"
"""The variable that names the configuration file; it is no setting itself."""

T = TypeVar("T", bound=msgspec.Struct)


def load(config_type: type[T], file: Path | None, environ: Mapping[str, str]) -> T:
    """The configuration in `file` (None: the defaults) as overridden by `environ`.

    Paths in the file, and default ones, are relative to the file's folder, paths in the environment to the working
    directory. Raises ConfigError with every problem of all places.
    """
    problems: list[Problem] = []
    merged = _merged(config_type, file, environ, problems)
    mapping = _resolved_section(config_type, merged, _folder(file), "", problems)
    try:
        config = decode(config_type, mapping)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    return config


def secret_files(
    config_type: type[msgspec.Struct], file: Path | None, environ: Mapping[str, str]
) -> tuple[Path, ...]:
    """The secret files that the configuration names, whether or not they exist.

    For who creates them (`tidewire dev`). Raises ConfigError only for a file that cannot be read or is not YAML.
    """
    mapping = _merged(config_type, file, environ, [])
    return tuple(_secret_files(config_type, mapping, _folder(file)))


def _folder(file: Path | None) -> Path:
    return Path() if file is None else file.parent


def variables(config_type: type[msgspec.Struct]) -> dict[str, tuple[tuple[str, ...], Setting]]:
    """The environment variables of a configuration, each with the path of its setting, without the `_FILE` ones."""
    names: dict[str, tuple[tuple[str, ...], Setting]] = {}
    for path, setting in walk(config_type):
        name = variable(path)
        if name in names:
            raise AssertionError(f"{name} would mean both {'.'.join(path)} and {'.'.join(names[name][0])}")
        names[name] = (path, setting)
    return names


def variable(path: tuple[str, ...]) -> str:
    """The environment variable of the setting at `path`."""
    return PREFIX + "_".join(path).upper()


def _merged(
    config_type: type[msgspec.Struct],
    file: Path | None,
    environ: Mapping[str, str],
    problems: list[Problem],
) -> dict[Any, Any]:
    mapping = {} if file is None else read_yaml(file)
    known = variables(config_type)
    others = tuple(variable((name,)) for name in getattr(config_type, "others", ()))
    known_files = {f"{name}_FILE": path for name, (path, kind) in known.items() if kind.kind is Kind.SECRET}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name == CONFIG_VARIABLE:
            continue
        if name in known:
            path, setting = known[name]
            _put(mapping, path, _from_environment(setting, name, environ[name], problems))
        elif name in known_files:
            *group, last = known_files[name]
            if variable((*group, last)) in environ:
                problems.append(Problem(name, f"give either {name} or {variable((*group, last))}"))
            _put(mapping, (*group, last), _SecretFile(environ[name], name))
        elif name not in others and not _is_of_others(name, config_type, others):
            problems.append(
                Problem(name, f"unknown variable{suggestion(name, [*known, *known_files], PREFIX)}")
            )
    return mapping


def _is_of_others(name: str, config_type: type[msgspec.Struct], others: Sequence[str]) -> bool:
    """Return whether a variable belongs to another process: of sections whose names begin alike, the longest counts."""
    own = [variable((field,)) for field in config_type.__struct_fields__]
    closest = max((each for each in [*own, *others] if name.startswith(f"{each}_")), key=len, default="")
    return closest in others


class _SecretFile:
    """In place of a secret: the file that the environment names for it."""

    def __init__(self, path: str, origin: str) -> None:
        self.path = Path(path)
        self.origin = origin


def _put(mapping: dict[Any, Any], path: tuple[str, ...], value: object) -> None:
    """Set what the environment gives; where the file has no group but something else, that is the problem to report.

    The file's own `x_file` is dropped: the environment overrides it, too.
    """
    *groups, last = path
    for group in groups:
        mapping = mapping.setdefault(group, {})
        if not isinstance(mapping, dict):
            return
    mapping[last] = value
    mapping.pop(f"{last}_file", None)


def _from_environment(setting: Setting, name: str, text: str, problems: list[Problem]) -> object:
    if setting.kind is Kind.LIST:
        return [Text(item.strip(), name) for item in text.split(",")] if text.strip() else []
    if setting.kind is Kind.SECTIONS:
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            problems.append(Problem(name, "expected a list of objects as JSON"))
            return REPORTED
    if setting.note("path"):
        return _Resolved(text)
    return Text(text, name)


class _Resolved(str):
    """A path that stays as it is: relative to the working directory, not to the file."""

    __slots__ = ()


def _resolved(
    struct: type[msgspec.Struct], raw: object, base: Path, path: str, problems: list[Problem]
) -> object:
    return _resolved_section(struct, raw, base, path, problems) if isinstance(raw, dict) else raw


def _resolved_section(
    struct: type[msgspec.Struct], raw: dict[Any, Any], base: Path, path: str, problems: list[Problem]
) -> dict[Any, Any]:
    """`raw` with secrets in place of `x_file`, and paths below `base`; what is malformed is left to the loader."""
    result = dict(raw)
    for setting in settings_of(struct):
        here = join(path, setting.name)
        value = raw.get(setting.name)
        if setting.kind is Kind.SECRET:
            _resolve_secret(result, setting.name, base, here, problems)
        elif setting.kind is Kind.SECTION:
            value = {} if setting.name not in raw else value
            result[setting.name] = _resolved(setting.base, value, base, here, problems)
        elif setting.kind is Kind.SECTIONS and isinstance(value, list):
            result[setting.name] = [
                _resolved(setting.base, item, base, f"{here}[{index}]", problems)
                for index, item in enumerate(value)
            ]
        elif setting.note("path"):
            _resolve_path(result, setting, base)
    return result


def _resolve_path(section: dict[Any, Any], setting: Setting, base: Path) -> None:
    value = section.get(setting.name, setting.default)
    if isinstance(value, _Resolved):
        section[setting.name] = str(value)
    elif isinstance(value, str) and value:
        section[setting.name] = str(base / value)


def _resolve_secret(
    section: dict[Any, Any], name: str, base: Path, path: str, problems: list[Problem]
) -> None:
    value, key = section.get(name), f"{name}_file"
    if isinstance(value, _SecretFile):
        section[name] = _read_secret(value.path, value.origin, problems)
    elif key in section:
        file = section.pop(key)
        if name in section:
            problems.append(Problem(f"{path}_file", f"give either {name} or {key}"))
        elif not isinstance(file, str) or not file:
            problems.append(Problem(f"{path}_file", "expected the path of a file"))
            section[name] = REPORTED
        else:
            section[name] = _read_secret(base / file, f"{path}_file", problems)


def _read_secret(file: Path, path: str, problems: list[Problem]) -> object:
    """The file's text without one newline at its end, which editors and `echo` add."""
    try:
        text = file.read_bytes().decode()
    except OSError as error:
        problems.append(Problem(path, f"cannot read {file}: {error.strerror}"))
    except UnicodeDecodeError:
        problems.append(Problem(path, f"{file} is not UTF-8 text"))
    else:
        secret = text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")
        if secret:
            return secret
        problems.append(Problem(path, f"{file} is empty"))
    return REPORTED


def _secret_files(struct: type[msgspec.Struct], raw: object, base: Path) -> Iterator[Path]:
    if not isinstance(raw, dict):
        return
    for setting in settings_of(struct):
        value, file = raw.get(setting.name), raw.get(f"{setting.name}_file")
        if setting.kind is Kind.SECTION:
            yield from _secret_files(setting.base, value, base)
        elif setting.kind is Kind.SECTIONS and isinstance(value, list):
            for item in value:
                yield from _secret_files(setting.base, item, base)
        elif setting.kind is Kind.SECRET and isinstance(value, _SecretFile):
            yield value.path
        elif setting.kind is Kind.SECRET and isinstance(file, str) and file:
            yield base / file
