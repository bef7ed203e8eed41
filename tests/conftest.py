"""What holds for all tests: one that fails spoils no other, and a busy machine fails none."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

settings.register_profile(
    "tidewire", deadline=None
)  # an example may be slow: suites have a budget, examples none
settings.load_profile("tidewire")

_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note whether the test, or what it stands on, has failed."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture(autouse=True)
def _leaks_are_its_own(request: pytest.FixtureRequest) -> Iterator[None]:
    """Free what a failed test has left open, after all its other fixtures.

    Its sockets would otherwise be freed, and reported as an unraisable ResourceWarning, in the middle of another test.
    The traceback in `sys` holds them until then.
    """
    yield
    if request.node.stash.get(_FAILED, False):
        for name in ("last_exc", "last_type", "last_value", "last_traceback"):
            with contextlib.suppress(AttributeError):
                delattr(sys, name)
        gc.collect()
