"""docs/security.md names the tests that attack each edge of trust: they are there, under these names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"([a-z0-9_/]+/test_[a-z0-9_]+\.py)(?: \(((?:`[a-z0-9_]+`(?:, )?)+)\))?")
"""A file of tests, and in brackets parts of the names of those that are meant."""
PAGE = (ROOT / "docs/security.md").read_text()


def missing(page: str) -> list[str]:
    """What a page names and is not there."""
    found = []
    for file, names in NAMED.findall(page):
        path = ROOT / "tests" / file
        tests = re.findall(r"def test_([a-z0-9_]+)", path.read_text()) if path.exists() else None
        if tests is None:
            found.append(file)
            continue
        wanted = re.findall(r"`([a-z0-9_]+)`", names)
        found += [f"{file}: {name}" for name in wanted if not any(name in test for test in tests)]
    return found


def test_every_test_that_is_named_is_there() -> None:
    """By its file, and by a part of its name."""
    assert missing(PAGE) == []
    assert len(NAMED.findall(PAGE)) > 150


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("unit/test_nothing.py", ["unit/test_nothing.py"]),
        (
            "unit/test_security_document.py (`every_test`, `no_such`)",
            ["unit/test_security_document.py: no_such"],
        ),
    ],
)
def test_what_is_not_there_is_found(said: str, found: list[str]) -> None:
    """A file, or a test in it."""
    assert missing(f"| bytes | anybody | nothing | {said} |") == found
