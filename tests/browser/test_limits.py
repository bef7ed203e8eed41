"""The start page's panel about rate limits: one limit for a user on two edges, and when to try again."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, expect

from tests.browser.test_start_page import open_tab, say
from tests.support.start_page import PageMesh, limited_mesh


@pytest.fixture
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageMesh]:
    """A mesh that counts presses."""
    with limited_mesh(tmp_path_factory.mktemp("limited")) as mesh:
        yield mesh


async def test_presses_in_two_tabs_are_counted_together(browser: Browser, limited: PageMesh) -> None:
    """Five go through, the rest is told how long to wait; a chat message is under no such limit."""
    one = await open_tab(browser, limited.edges[0].base_url, "ada")
    two = await open_tab(browser, limited.edges[1].base_url, "ada")
    for _ in range(3):
        await one.click("#press")
    await expect(one.locator("#presses")).to_have_text("3")
    for _ in range(4):
        await two.click("#press")
    await expect(two.locator("#refusals")).not_to_have_text("0")
    await expect(two.locator("#press-answer")).to_have_text(
        re.compile(r"^111: too many requests: try again in \d+(\.\d)? s$")
    )
    taken = [int(await page.locator("#presses").inner_text()) for page in (one, two)]
    assert 3 <= sum(taken) <= 6
    await say(one, "still there")
    await expect(two.locator(".message .text")).to_have_text("still there")
