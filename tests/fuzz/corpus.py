"""The targets and their inputs: seeds, which stand in the targets, and what fuzzing found worth keeping (`corpus/`)."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, cast

from tests.fuzz import targets

FOLDER = Path(__file__).parent / "corpus"
NAMES = sorted(module.name for module in pkgutil.iter_modules(targets.__path__))


class Target(Protocol):
    """A module of `targets`. `check` raises whatever it likes where the code under test is wrong."""

    LONGEST: int
    """Bytes of an input."""
    SEEDS: Sequence[bytes]
    """Inputs to begin with; those that once showed a mistake stay among them."""
    check: Callable[[bytes], None]


def target(name: str) -> Target:
    """Return a target by its name."""
    return cast("Target", importlib.import_module(f"tests.fuzz.targets.{name}"))


def kept(name: str) -> list[bytes]:
    """Return what is kept of earlier runs, the shortest first."""
    return sorted(
        (path.read_bytes() for path in (FOLDER / name).iterdir()), key=lambda data: (len(data), data)
    )


def write(inputs: Sequence[bytes], folder: Path) -> None:
    """Write inputs as libFuzzer does, each to a file named by its hash."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
