"""The start page in a real browser: two tabs on two edges, a lost edge, hostile text, and pages that may not connect."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from playwright.async_api import Browser, ConsoleMessage, Page, expect

from tests.support.edges import token
from tests.support.start_page import WEB, PageMesh, page_mesh
from tests.support.wait import eventually

MILLISECONDS = re.compile(r"^(< 1|\d{1,4}) ms$")
BLANK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n"


async def open_tab(browser: Browser, url: str, name: str) -> Page:
    """Open the start page and take a name; returns when it is subscribed under that name."""
    page = await browser.new_page()
    await page.goto(url)
    await expect(page.locator("#subscription")).to_have_text("subscribed")
    await page.fill("#user", name)
    await page.click("#settings button")
    await expect(page.locator(".event.good")).to_have_count(2)
    await expect(page.locator("#subscription")).to_have_text("subscribed")
    return page


async def say(page: Page, text: str) -> None:
    """Type a message as a person would, once the page takes one."""
    await expect(page.locator("#send")).to_be_enabled()
    await page.fill("#text", text)
    await page.press("#text", "Enter")


async def test_two_tabs_on_two_edges_talk(browser: Browser, mesh: PageMesh, tmp_path: Path) -> None:
    """What is typed in one tab is read in the other, with who, from which edge to which, and how long it took."""
    one = await open_tab(browser, mesh.edges[0].base_url, "ada")
    two = await open_tab(browser, mesh.edges[1].base_url, "grace")
    await say(one, "hello from the first edge")
    message = two.locator(".message")
    await expect(message.locator(".text")).to_have_text("hello from the first edge")
    await expect(message.locator(".who")).to_have_text("ada")
    await expect(message.locator(".from")).to_have_text("edge-1")
    await expect(message.locator(".to")).to_have_text("edge-2")
    await expect(message.locator(".latency")).to_have_text(MILLISECONDS)
    await expect(two.locator("#latency")).to_have_text(MILLISECONDS)
    await expect(one.locator("#ack")).to_have_text(MILLISECONDS)
    await expect(one.locator("#sent")).to_have_text("1")
    await say(two, "hello back")
    await expect(one.locator(".message:not(.own) .text")).to_have_text("hello back")
    await expect(one.locator(".message.own .text")).to_have_text("hello from the first edge")
    await expect(one.locator("#received")).to_have_text("2")
    for page, node in ((one, "edge-1"), (two, "edge-2")):
        await expect(page.locator("#state")).to_have_text("connected")
        await expect(page.locator("#node")).to_have_text(node)
    picture = tmp_path / "start-page.png"
    await one.screenshot(path=picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


async def test_html_is_shown_as_text(browser: Browser, mesh: PageMesh) -> None:
    """Markup in a message, a name and a channel is shown letter by letter, and nothing of it is loaded or run."""
    hostile = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"
    one = await open_tab(browser, mesh.edges[0].base_url, "<i>ada</i>")
    two = await open_tab(browser, mesh.edges[1].base_url, "grace")
    await say(one, hostile)
    message = two.locator(".message")
    await expect(message.locator(".text")).to_have_text(hostile)
    await expect(message.locator(".who")).to_have_text("<i>ada</i>")
    await expect(two.locator(".messages :is(img, script, .text b, i)")).to_have_count(0)
    await one.fill("#channel", "chat:<b>room</b>")
    await one.press("#channel", "Enter")
    await expect(one.locator("#chat-title")).to_have_text("chat:<b>room</b>")
    await expect(one.locator("#subscription")).to_have_text("subscribed")
    assert [await page.title() for page in (one, two)] == ["Tidewire", "Tidewire"]


async def test_any_payload_is_shown(browser: Browser, mesh: PageMesh) -> None:
    """What other programs publish is shown as JSON, in order, and breaks nothing."""
    page = await open_tab(browser, mesh.edges[0].base_url, "ada")
    publish = """async ([url, token]) => {
        const client = new Centrifuge(url, { token });
        client.connect();
        for (const data of [null, 7, "seven", [1, { text: 5 }], { text: 5 }, { text: "no more", sent: "x", edge: {} }])
            await client.publish("chat:lobby", data);
        client.disconnect();
    }"""
    await page.evaluate(publish, [mesh.edges[1].ws_url, token("robot")])
    shown = ["null", "7", '"seven"', '[1,{"text":5}]', '{"text":5}', "no more"]
    await expect(page.locator(".message .text")).to_have_text(shown)
    await expect(page.locator(".message .who")).to_have_text(["robot"] * len(shown))
    await expect(page.locator(".message .latency")).to_have_count(0)
    await say(page, "still here")
    await expect(page.locator(".message.own .text")).to_have_text("still here")


async def test_without_dev_tokens_a_token_can_be_pasted(browser: Browser, tmp_path: Path) -> None:
    """Where http.issue_tokens is off the page asks for a token; a bad one is told with its code, a good one connects."""
    with page_mesh(tmp_path, issue_tokens=False) as mesh:
        page = await browser.new_page()
        await page.goto(mesh.edges[0].base_url)
        await expect(page.locator("#token-field")).to_contain_text("tidewire token")
        await page.fill("#token", "nonsense")
        await page.press("#token", "Enter")
        await expect(page.locator("#reason")).to_have_text("3500: invalid token")
        await page.fill("#token", token("ada"))
        await page.press("#token", "Enter")
        await expect(page.locator("#state")).to_have_text("connected")


async def test_a_lost_edge_is_seen_and_found_again(browser: Browser, mesh: PageMesh) -> None:
    """While its edge is stopped the page says `connecting` and why; when it is back, `connected` and after how long."""
    one = await open_tab(browser, mesh.edges[0].base_url, "ada")
    two = await open_tab(browser, mesh.edges[1].base_url, "grace")
    mesh.edges[0].terminate()
    await expect(one.locator("#state")).to_have_text("connecting")
    await expect(one.locator("#reason")).to_have_text("3001: shutdown")
    await expect(one.locator("#send")).to_be_disabled()
    assert await mesh.edges[0].exit_code() == 0
    mesh.edges[0] = mesh.create(0).start()
    await expect(one.locator("#state")).to_have_text("connected")
    await expect(one.locator("#reconnects")).to_have_text("1")
    await expect(one.locator("#subscription")).to_have_text("subscribed")
    await say(two, "welcome back")
    await expect(one.locator(".message .text")).to_have_text("welcome back")


async def test_a_token_of_an_old_key_is_replaced(browser: Browser, mesh: PageMesh) -> None:
    """When the mesh comes back with another key the page is told so, and one press of Connect gets a new token."""
    page = await open_tab(browser, mesh.edges[0].base_url, "ada")
    mesh.edges[0].kill()
    mesh.edges[0] = mesh.create(0, key="another key for tests, 32 bytes long").start()
    await expect(page.locator("#reason")).to_have_text("3500: invalid token")
    await page.click("#toggle")
    await expect(page.locator("#state")).to_have_text("connected")
    await say(page, "again")
    await expect(page.locator(".message .text")).to_have_text("again")


async def test_a_page_may_choose_the_other_edge(browser: Browser, mesh: PageMesh) -> None:
    """The list names both edges; choosing the other one connects across origins, and the link leads to its page."""
    page = await open_tab(browser, mesh.edges[0].base_url, "ada")
    await expect(page.locator("#second-tab")).to_have_text("Open a second tab on edge-2")
    await page.select_option("#edge", mesh.edges[1].base_url)
    await page.click("#settings button")
    await expect(page.locator("#node")).to_have_text("edge-2")
    await expect(page.locator("#state")).to_have_text("connected")
    await expect(page.locator("#second-tab")).to_have_text("Open a second tab on edge-1")
    await say(page, "from afar")
    await expect(page.locator(".message .from")).to_have_text("edge-2")
    link = await page.locator("#second-tab").get_attribute("href")
    assert link == f"{mesh.edges[0].base_url}/#chat%3Alobby"


async def test_disconnect_and_refused_channel_are_told(browser: Browser, mesh: PageMesh) -> None:
    """The button ends and begins the connection; a channel of no namespace is refused with the server's code."""
    page = await open_tab(browser, mesh.edges[0].base_url, "ada")
    await page.click("#toggle")
    await expect(page.locator("#state")).to_have_text("disconnected")
    await page.click("#toggle")
    await expect(page.locator("#state")).to_have_text("connected")
    await page.fill("#channel", "nowhere:room")
    await page.press("#channel", "Enter")
    await expect(page.locator("#subscription")).to_have_text("not subscribed (102: unknown channel)")
    await expect(page.locator("#send")).to_be_disabled()


async def test_a_page_of_an_origin_that_is_not_listed_says_so(browser: Browser, mesh: PageMesh) -> None:
    """Under a name whose origin is not in client.allowed_origins the page stays outside and tells the setting."""
    page = await browser.new_page()
    refusals = handshake_refusals(page)
    await page.goto(mesh.edges[0].base_url.replace("127.0.0.1", "localhost"))
    await expect(page.locator("#problem")).to_contain_text("client.allowed_origins")
    await expect(page.locator("#state")).to_have_text("connecting")
    await eventually(lambda: refusals)
    assert "403" in refusals[0]


async def test_a_foreign_page_gets_neither_connection_nor_token(browser: Browser, mesh: PageMesh) -> None:
    """A page of another origin is refused with 403, and what the dev endpoints answer is kept from it."""
    edge = mesh.edges[0]
    async with foreign_site() as url:
        page = await browser.new_page()
        refusals = handshake_refusals(page)
        await page.goto(url)
        outcome = """url => new Promise(resolve => {
            const socket = new WebSocket(url);
            socket.onopen = () => resolve("open");
            socket.onerror = () => resolve("refused");
        })"""
        assert await page.evaluate(outcome, edge.ws_url) == "refused"
        body = '{"user": "mallory"}'
        read = "([url, options]) => fetch(url, options).then(answer => answer.text(), () => 'kept away')"
        for request in (["/dev/info", {}], ["/dev/token", {"method": "POST", "body": body}]):
            assert await page.evaluate(read, [edge.base_url + str(request[0]), request[1]]) == "kept away"
    await eventually(lambda: refusals)
    assert "403" in refusals[0]


async def test_without_the_sdk_the_page_says_what_to_run(browser: Browser, tmp_path: Path) -> None:
    """Where node_modules is missing the page shows one line with the command, and no broken client."""
    pages = tmp_path / "site" / "web"
    shutil.copytree(WEB, pages)
    with page_mesh(tmp_path, pages) as mesh:
        page = await browser.new_page()
        await page.goto(mesh.edges[0].base_url)
        await expect(page.locator("#problem")).to_contain_text("run `make setup`")
        await expect(page.locator("#state")).to_have_text("disconnected")


def handshake_refusals(page: Page) -> list[str]:
    """Collect what the browser says about failed WebSocket handshakes, with their HTTP status."""
    found: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if "WebSocket" in message.text:
            found.append(message.text)

    page.on("console", listen)
    return found


@contextlib.asynccontextmanager
async def foreign_site() -> AsyncIterator[str]:
    """A web site of somebody else; yields its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
        writer.write(BLANK)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
