"""`make chaos`: all faults in random order, with 200 clients; the seed is printed, and `--seed` repeats its order."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from tests.chaos.crowd import Size
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.story import story


def main() -> int:
    """Return the exit code."""
    given = arguments()
    seed = given.seed or Random().randrange(1, 1_000_000)
    order = drawn(seed, given.only, given.rounds)
    size = Size(given.readers, given.writers, channels_each=2, pause=2000, burst=3)
    print(f"seed {seed}, {size.readers} readers, {size.writers} writers, {len(order)} faults", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        work = story(
            Path(folder), order, seed=seed, size=size, frozen=10.0, say=lambda line: print(line, flush=True)
        )
        try:
            asyncio.run(work)
        except AssertionError as error:
            print(f"FAILED with --seed {seed}: {error}", flush=True)
            return 1
    print(f"passed in {time.monotonic() - began:.0f} s", flush=True)
    return 0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=0, help="of the order of faults; 0, the default: another one each time"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each fault comes (default: 3)")
    parser.add_argument(
        "--only",
        action="append",
        choices=[fault.__name__ for fault in FAULTS],
        help="this fault, and no others but those that are named as well",
    )
    parser.add_argument("--readers", type=int, default=140)
    parser.add_argument("--writers", type=int, default=60)
    return parser.parse_args()


def drawn(seed: int, only: list[str] | None, rounds: int) -> list[Fault]:
    """Return so many rounds of the faults, each round in an order of its own."""
    dice = Random(seed)
    wanted = [fault for fault in FAULTS if only is None or fault.__name__ in only]
    return [fault for _ in range(rounds) for fault in dice.sample(wanted, len(wanted))]


if __name__ == "__main__":
    sys.exit(main())
