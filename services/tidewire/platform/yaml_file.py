"""Reads a YAML file strictly: one document, a mapping at its top, no key twice, every error with its line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tidewire.kernel.config import ConfigError, Problem

_QUOTING = re.compile(r"(found undefined alias|could not determine a constructor for the tag) .*", re.DOTALL)
"""Errors that end in a value of the file: a password that begins with `*` or `!` would be read aloud."""


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, which alone would let the last of two equal keys win without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:  # noqa: ANN401 - the stubs disagree with PyYAML
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.composer.ComposerError(
                    problem=f"the key {key.value!r} is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return node


def read_yaml(file: Path) -> dict[Any, Any]:
    """The mapping in `file`; an empty file is an empty mapping. Raises ConfigError with one problem."""
    try:
        text = file.read_bytes().decode()
    except FileNotFoundError:
        raise ConfigError([Problem("", f"no such configuration file: {file}")]) from None
    except OSError as error:
        raise ConfigError([Problem(str(file), f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(str(file), f"is not UTF-8 text (byte {error.start})")]) from None
    try:
        content = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a subclass of the safe loader
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none, such as 2026-13-01
        raise ConfigError([_problem(file, error)]) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError([Problem(f"{file}:1", "expected groups of settings (name: value)")])
    return content


def _problem(file: Path, error: Exception) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        message = error.problem or error.context or "not valid YAML"
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        return Problem(where, _QUOTING.sub(r"\1", message))
    reason = str(error).partition("\n")[0]
    return Problem(str(file), f"not valid YAML: {reason}")
