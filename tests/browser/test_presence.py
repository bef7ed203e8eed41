"""The start page shows who is there: a list that follows who comes and goes on any edge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.browser.test_start_page import open_tab
from tests.support.edges import token
from tests.support.raw_client import joined
from tests.support.start_page import PageMesh, page_mesh, seeing_mesh


@pytest.fixture
def seeing(tmp_path: Path) -> Iterator[PageMesh]:
    """A mesh in which `chat` keeps presence."""
    with seeing_mesh(tmp_path) as mesh:
        yield mesh


async def test_list_follows_who_comes_and_goes(browser: Browser, seeing: PageMesh, tmp_path: Path) -> None:
    """On both edges, each user once, oneself first; markup in a name stays text."""
    one = await open_tab(browser, seeing.edges[0].base_url, "ada")
    names = one.locator("#people .name")
    await expect(names).to_have_text(["ada"])
    two = await open_tab(browser, seeing.edges[1].base_url, "grace")
    await expect(names).to_have_text(["ada", "grace"])
    await expect(two.locator("#people .name")).to_have_text(["grace", "ada"])
    await expect(two.locator("#people .own .name")).to_have_text("grace")
    robots = [await joined(edge.ws_url, token("<b>robot</b>"), "chat:lobby") for edge in seeing.edges]
    await expect(names).to_have_text(["ada", "<b>robot</b>", "grace"])
    await expect(one.locator("#who-count")).to_have_text("3 users, 4 connections")
    await expect(one.locator("#people .times")).to_have_text("\u00d7 2")
    await one.screenshot(path=tmp_path / "who.png")
    robots[0].abort()
    await expect(one.locator("#who-count")).to_have_text("3 users")
    robots[1].abort()
    await expect(names).to_have_text(["ada", "grace"])
    await two.close()
    await expect(names).to_have_text(["ada"])


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[PageMesh]:
    """The same, where a page has long enough to load again, on a machine however busy."""
    with seeing_mesh(tmp_path, debounce="10s") as mesh:
        yield mesh


async def test_page_that_is_loaded_again_stays_in_the_list(browser: Browser, patient: PageMesh) -> None:
    """The leave is held back: the other page's list does not change."""
    one = await open_tab(browser, patient.edges[0].base_url, "ada")
    two = await open_tab(browser, patient.edges[1].base_url, "grace")
    names = one.locator("#people .name")
    await expect(names).to_have_text(["ada", "grace"])
    changes = """() => {
        window.changes = 0;
        new MutationObserver(() => window.changes++).observe(document.getElementById("people"), { childList: true });
    }"""
    await one.evaluate(changes)
    await two.reload()
    await expect(two.locator("#people .name")).to_have_text(["grace", "ada"])
    await expect(names).to_have_text(["ada", "grace"])
    assert await one.evaluate("window.changes") == 0


async def test_list_comes_when_the_service_does(browser: Browser, seeing: PageMesh) -> None:
    """A page that was opened before the service answered asks again."""
    service = seeing.service
    assert service is not None
    service.configure({"presence_service": {"rpc": {"port": service.port}}})
    service.kill()
    page = await open_tab(browser, seeing.edges[0].base_url, "ada")
    await expect(page.locator("#who")).to_be_hidden()
    service.start()
    await expect(page.locator("#people .name")).to_have_text(["ada"])


async def test_without_presence_there_is_no_list(browser: Browser, tmp_path: Path) -> None:
    """The page asks, is told that it is not available, and shows nothing."""
    with page_mesh(tmp_path) as mesh:
        page = await open_tab(browser, mesh.edges[0].base_url, "ada")
        await expect(page.locator("#subscription")).to_have_text("subscribed")
        await expect(page.locator("#who")).to_be_hidden()
