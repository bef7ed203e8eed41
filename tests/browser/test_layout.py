"""Where things stand on the start page, on screens of several sizes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page

from tests.browser.test_start_page import open_tab, say
from tests.support.start_page import PageMesh, seeing_mesh

LAPTOP = (1280, 720)
SCREENS = [(1800, 1000), LAPTOP, (1000, 700), (840, 600), (390, 844), (320, 640)]
CUT_OFF = """() => [...document.querySelectorAll("button, h2, dt, dd, p, label, .second-tab")]
    .filter((each) => each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).display !== "inline")
    .filter((each) => !each.classList.contains("visually-hidden"))
    .map((each) => each.textContent)"""


@pytest.fixture
def seeing(tmp_path: Path) -> Iterator[PageMesh]:
    """A mesh whose page shows all of its panels."""
    with seeing_mesh(tmp_path) as mesh:
        yield mesh


async def left(page: Page, selector: str) -> float:
    """Return where the text of the first such element begins, padding left out."""
    script = "each => each.getBoundingClientRect().left + parseFloat(getComputedStyle(each).paddingLeft)"
    return float(await page.locator(selector).first.evaluate(script))


async def test_texts_stand_below_each_other(browser: Browser, seeing: PageMesh) -> None:
    """Who is there begins where the channel's name does; who said it where the message does."""
    page = await open_tab(browser, seeing.edges[0].base_url, "ada")
    await say(page, "hello")
    await page.locator(".message .text").wait_for()
    await page.locator("#people .avatar").wait_for()
    assert await left(page, "#people") == await left(page, "#chat-title")
    assert await left(page, ".message .who") == await left(page, ".message .text")


async def test_nothing_is_cut_off_on_any_screen(browser: Browser, seeing: PageMesh) -> None:
    """No text is wider than its place, and no screen has to be moved sideways."""
    page = await open_tab(browser, seeing.edges[0].base_url, "ada")
    await page.locator("#people .avatar").wait_for()
    for width, height in SCREENS:
        await page.set_viewport_size({"width": width, "height": height})
        assert await page.evaluate(CUT_OFF) == [], width
        assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def test_laptop_shows_where_to_write(browser: Browser, seeing: PageMesh) -> None:
    """Without moving the page; the panels beside it move by themselves."""
    page = await open_tab(browser, seeing.edges[0].base_url, "ada")
    await page.set_viewport_size(dict(zip(("width", "height"), LAPTOP, strict=True)))  # type: ignore[arg-type]
    place = await page.locator("#text").bounding_box()
    assert place is not None
    assert place["y"] + place["height"] <= LAPTOP[1]
