"""A run of one target in a process of its own, and what it says in the end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec

from tests.fuzz.corpus import FOLDER, target, write

WORK = Path(".tidewire/fuzz")
SLOW = 60
"""Seconds: an input that takes longer is a finding."""

_COUNTS = re.compile(r"^#(\d+)\s+DONE +cov: (\d+) ft: (\d+) corp: (\d+)/(\S+?b)", re.MULTILINE)
_SECONDS = re.compile(r"^Done \d+ runs in (\d+) second", re.MULTILINE)
_FINDING = re.compile(
    r"^ === Uncaught .*?^artifact_prefix[^\n]*|^==\d+== ERROR.*?^artifact_prefix[^\n]*",
    re.DOTALL | re.MULTILINE,
)


class Figures(msgspec.Struct, frozen=True):
    """What a run that found nothing says. `branches` and `features` are libFuzzer's `cov` and `ft`."""

    inputs: int
    seconds: int
    branches: int
    features: int
    corpus: int
    corpus_size: str


class Finding(msgspec.Struct, frozen=True):
    """What a run that found something says; the input's file is named in the text."""

    text: str


def fuzz(name: str, runs: int, seed: int, work: Path = WORK) -> Figures | Finding:
    """Run so many inputs; `work/<name>` keeps the log, and in `inputs` the inputs that reached something new."""
    folder = work / name
    write(target(name).SEEDS, folder / "inputs")
    (FOLDER / name).mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    done = _engine(
        log,
        name,
        f"-runs={runs}",
        f"-seed={seed}",
        f"-artifact_prefix={folder}/",
        folder / "inputs",
        FOLDER / name,
    )
    text = log.read_text(errors="replace")
    counts, seconds = _COUNTS.search(text), _SECONDS.search(text)
    if done or counts is None or seconds is None:
        found = _FINDING.search(text)
        return Finding(found[0] if found else text[-2000:])
    inputs, branches, features, corpus = map(int, counts.groups()[:4])
    return Figures(inputs, int(seconds[1]), branches, features, corpus, counts[5])


def minimise(name: str, work: Path = WORK) -> None:
    """Put into the corpus the fewest inputs that reach all that the inputs of the last runs and the old corpus reach."""
    fresh = work / name / "fresh"
    fresh.mkdir(parents=True)
    for old in (work / name / "inputs", FOLDER / name):
        old.mkdir(parents=True, exist_ok=True)
    if _engine(work / name / "log", name, "-set_cover_merge=1", fresh, work / name / "inputs", FOLDER / name):
        raise RuntimeError(f"the inputs of {name} could not be merged: see {work / name / 'log'}")
    for path in (FOLDER / name).iterdir():
        path.unlink()
    for path in fresh.iterdir():
        path.rename(FOLDER / name / path.name)
    fresh.rmdir()


def _engine(log: Path, name: str, *flags: str | Path) -> int:
    """Run libFuzzer; hashes of texts are fixed, since the order of sets would change what is reached."""
    command = [sys.executable, "-m", "tests.fuzz.engine", name, f"-timeout={SLOW}", *map(str, flags)]
    with log.open("wb") as output:
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        return subprocess.run(command, stdout=output, stderr=output, env=environment, check=False).returncode
