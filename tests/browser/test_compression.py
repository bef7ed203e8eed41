"""permessage-deflate as a real browser agrees on it."""

from __future__ import annotations

from playwright.async_api import Browser

from tests.support.edges import token
from tests.support.protocol import protocol
from tests.support.start_page import PageMesh
from tests.support.wait import eventually

TALK = """async ([url, token, text]) => {
  const socket = new WebSocket(url);
  await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
  const lines = [];
  const reply = (sent) => new Promise((resolve) => {
    socket.onmessage = ({ data }) => { lines.push(...data.split("\\n")); if (lines.length >= sent) resolve(lines); };
  });
  socket.send(JSON.stringify({ id: 1, connect: { token } }));
  await reply(1);
  socket.send(JSON.stringify({ id: 2, subscribe: { channel: "chat:a" } }));
  await reply(2);
  socket.send(JSON.stringify({ id: 3, publish: { channel: "chat:a", data: text } }));
  await reply(4);
  return [socket.extensions, lines.map(JSON.parse)];
}"""
TEXT = "tidewire " * 1000


@protocol("transport.deflate")
async def test_chromium_compresses_both_ways(browser: Browser, mesh: PageMesh) -> None:
    """What it publishes comes back to it whole, and far fewer bytes than that have passed the edge."""
    edge = mesh.edges[0]
    edge.configure({"websocket": {"compression": True}})
    edge.hang_up()
    await eventually(lambda: edge.logged("config.reloaded"))
    page = await browser.new_page()
    await page.goto(edge.base_url)
    before = await edge.metrics()
    extensions, lines = await page.evaluate(TALK, [edge.ws_url, token(), TEXT])
    after = await edge.metrics()
    assert extensions.startswith("permessage-deflate")
    assert [line["push"]["pub"]["data"] for line in lines if "push" in line] == [TEXT]
    for name in ("tidewire_received_bytes_total", "tidewire_sent_bytes_total"):
        assert after.value(name) - before.value(name) < len(TEXT) / 2
