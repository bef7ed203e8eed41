"""The start page loses its network: what others say meanwhile is there when it is back, and the page says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, expect

from tests.browser.test_start_page import open_tab, say
from tests.support.start_page import PageMesh, keeping_mesh


@pytest.fixture
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageMesh]:
    """A mesh that keeps what is said."""
    with keeping_mesh(tmp_path_factory.mktemp("keeping")) as mesh:
        yield mesh


async def test_nothing_is_missing_after_the_network_was_away(browser: Browser, keeping: PageMesh) -> None:
    """Offset and epoch are shown; what was said on another edge during the outage comes in order, each once."""
    one = await open_tab(browser, keeping.edges[0].base_url, "ada")
    two = await open_tab(browser, keeping.edges[1].base_url, "grace")
    await say(two, "before")
    await expect(one.locator(".message .text")).to_have_text(["before"])
    await expect(one.locator("#epoch")).to_contain_text("epoch ")
    offset = int(await one.locator("#offset").inner_text())
    latency = await one.locator("#latency").inner_text()
    await one.click("#cable")
    await expect(one.locator("#state")).to_have_text("connecting")
    for number in range(5):
        await say(two, f"meanwhile {number}")
        await expect(two.locator(".message .text")).to_have_count(2 + number)
    await expect(one.locator(".message .text")).to_have_count(1)
    await one.click("#cable")
    await expect(one.locator("#state")).to_have_text("connected")
    said = ["before", *(f"meanwhile {number}" for number in range(5))]
    await expect(one.locator(".message .text")).to_have_text(said)
    await expect(one.locator(".event", has_text=f"nothing is missing since offset {offset}")).to_have_count(1)
    await expect(one.locator("#latency")).to_have_text(latency)  # the outage is not the mesh's latency
    await say(two, "after")
    await expect(one.locator(".message .text")).to_have_text([*said, "after"])
    offsets = [
        int(text.removeprefix("#")) for text in await one.locator(".message .offset").all_inner_texts()
    ]
    assert offsets == sorted(set(offsets))
    assert len(offsets) == len(said) + 1
    assert int(await one.locator("#offset").inner_text()) == offsets[-1]
