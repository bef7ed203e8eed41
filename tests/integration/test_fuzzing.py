from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.corpus import NAMES
from tests.fuzz.session import Figures, fuzz

RUNS = 4_000
"""A second or two for each target, beside a second to instrument the code."""


@pytest.mark.parametrize("name", NAMES)
def test_short_run_finds_nothing(name: str, tmp_path: Path) -> None:
    """From the kept inputs on, with the same chance each time; `make fuzz` runs longer."""
    found = fuzz(name, RUNS, 1, tmp_path)
    assert isinstance(found, Figures), found.text
    assert found.inputs >= RUNS
    assert found.branches > 20, "the code under test is instrumented"
