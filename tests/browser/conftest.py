"""Fixtures of the browser tests: Chromium, and a mesh that serves the start page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.support.browser import chromium
from tests.support.start_page import PageMesh, page_mesh
from tests.support.wait import PATIENCE

expect.set_options(timeout=1000 * PATIENCE)


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[PageMesh]:
    """A nats-server and two edges with the start page."""
    with page_mesh(tmp_path) as running:
        yield running


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser of this test's own."""
    async with chromium() as running:
        yield running
