"""`make fuzz`: one target after the other, and a line about each; the exit code is 1 when anything was found."""

from __future__ import annotations

import argparse
import sys

from tests.fuzz.corpus import FOLDER, NAMES
from tests.fuzz.session import Finding, fuzz, minimise


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="which to run (default: all)")
    parser.add_argument("--runs", type=float, default=1e7, help="inputs for each target (default: 1e7)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of chance; 0, the default: another one each time"
    )
    parser.add_argument("--keep", action="store_true", help="put what reached something new into the corpus")
    given = parser.parse_args()
    unknown = set(given.targets) - set(NAMES)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))} (there are {', '.join(NAMES)})")
    return max([_run(name, int(given.runs), given.seed, keep=given.keep) for name in given.targets or NAMES])


def _run(name: str, runs: int, seed: int, *, keep: bool) -> int:
    found = fuzz(name, runs, seed)
    if isinstance(found, Finding):
        print(f"{name}: FOUND\n{found.text}", flush=True)
        return 1
    if keep:
        minimise(name)
    print(
        f"{name}: {found.inputs:,} inputs in {found.seconds:,} s ({found.inputs // max(1, found.seconds):,}/s), "
        f"{found.branches} branches, {found.features} features; "
        f"{found.corpus} inputs ({found.corpus_size}), {len(list((FOLDER / name).iterdir()))} in the corpus",
        flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
