"""One process of fuzzing: atheris (libFuzzer) calls a target's `check` with one input after the other.

Usage: python -m tests.fuzz.engine TARGET [flags and folders of libFuzzer]. Branches of the system's own modules guide it,
and of the target, but not those of a reference written in C, nor of libraries.
"""

from __future__ import annotations

import importlib
import shlex
import sys

import atheris


def main() -> None:
    """Run until libFuzzer ends the process; its exit code is 0 when nothing was found."""
    name, *flags = sys.argv[1:]
    with atheris.instrument_imports(include=["tidewire"], exclude=["tidewire.kernel.fnv"]):
        target = importlib.import_module(f"tests.fuzz.targets.{name}")
    for function in getattr(target, "REFERENCE", ()):
        atheris.instrument_func(function)
    again = (
        f"{shlex.quote(sys.executable)} -m tests.fuzz.engine {name}"  # what libFuzzer starts to merge inputs
    )
    atheris.Setup([again, f"-max_len={target.LONGEST}", *flags], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
