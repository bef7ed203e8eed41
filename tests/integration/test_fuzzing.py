from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import corpus, session
from tests.fuzz.corpus import NAMES
from tests.fuzz.session import Figures, fuzz, minimise

RUNS = 4_000
"""A second or two for each target, beside a second to instrument the code."""


@pytest.mark.parametrize("name", NAMES)
def test_short_run_finds_nothing(name: str, tmp_path: Path) -> None:
    """From the kept inputs on, with the same chance each time; `make fuzz` runs longer."""
    found = fuzz(name, RUNS, 1, tmp_path)
    assert isinstance(found, Figures), found.text
    assert found.inputs >= RUNS
    assert found.branches > 20, "the code under test is instrumented"


def test_minimised_corpus_reaches_the_same_with_fewer_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs of the old corpus that nothing needs any more are gone from it."""
    kept = tmp_path / "corpus"
    monkeypatch.setattr(session, "FOLDER", kept)
    corpus.write([b"{}", b"[]", b"[ ]"], kept / "orders")
    before = fuzz("orders", 3_000, 1, tmp_path)
    minimise("orders", tmp_path)
    inputs = list((kept / "orders").iterdir())
    assert 3 <= len(inputs) < len(list((tmp_path / "orders" / "inputs").iterdir()))
    after = fuzz("orders", 0, 1, tmp_path / "fresh")
    assert isinstance(before, Figures)
    assert isinstance(after, Figures)
    assert (after.branches, after.features) == (before.branches, before.features)
