"""`make chaos`: all faults in random order, with 200 clients; the seed is printed, and `--seed` repeats its order."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from random import Random

from tests.chaos.faults import FAULTS
from tests.chaos.story import story


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=0, help="of the order of faults; 0, the default: another one each time"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each fault comes (default: 3)")
    parser.add_argument("--readers", type=int, default=140)
    parser.add_argument("--writers", type=int, default=60)
    given = parser.parse_args()
    seed = given.seed or Random().randrange(1, 1_000_000)
    dice = Random(seed)
    order = [fault for _ in range(given.rounds) for fault in dice.sample(FAULTS, len(FAULTS))]
    print(f"seed {seed}, {given.readers} readers, {given.writers} writers, {len(order)} faults", flush=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        work = story(
            Path(folder),
            order,
            seed=seed,
            readers=given.readers,
            writers=given.writers,
            frozen=10.0,
            say=lambda line: print(line, flush=True),
        )
        try:
            asyncio.run(work)
        except AssertionError as error:
            print(f"FAILED with --seed {seed}: {error}", flush=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
