"""Edges and a backend with the rights that `tidewire nats-config` gives them: everything works, nothing is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
from nats.aio.msg import Msg

from tests.support.edges import OPEN, PARTITIONS, Mesh, running_mesh, token
from tests.support.least_rights import PASSWORDS, VARIABLES, logged_in, printed
from tests.support.nats_client import flushed
from tests.support.raw_client import RawClient
from tests.support.wait import PATIENCE, eventually

CONFIG = {
    "nats": {"user": "edge", "password": PASSWORDS["edge"]},
    "channel": {"namespaces": [{"name": "chat", **OPEN}]},
    "rpc": {"enabled": True, "methods": [{"name": "*"}]},
    "send": {"enabled": True},
}


@pytest.fixture
def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mesh]:
    """Two edges that log in as `edge`."""
    for name, password in VARIABLES.items():
        monkeypatch.setenv(name, password)
    with running_mesh(tmp_path, CONFIG, nats=printed(tmp_path / "js", PARTITIONS)) as running:
        yield running


async def test_everything_works_with_the_printed_rights(mesh: Mesh) -> None:
    """Publications in both directions, RPC and one-way messages pass, also after NATS was away."""
    pushed: list[object] = []
    refused: list[str] = []
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(logged_in(mesh.nats.url, "app", refused))
        events = await app.subscribe("tw.ev.message")

        async def answer(message: Msg) -> None:
            await message.respond(b'{"answer":42}')

        await app.subscribe("tw.rpc.ask", cb=answer)
        publisher = RawClient(mesh.edges[0].ws_url)
        subscriber = RawClient(
            mesh.edges[1].ws_url, lambda line: pushed.append(msgspec.json.decode(line)["push"]["pub"]["data"])
        )
        for client, user in ((publisher, "ann"), (subscriber, "bob")):
            await client.open()
            stack.callback(client.abort)
            await client.connect(token(user))
        assert "subscribe" in await subscriber.command(subscribe={"channel": "chat:a"})

        async def taken(data: int) -> bool:
            return "publish" in await publisher.command(publish={"channel": "chat:a", "data": data})

        async def all_pass(data: int) -> None:
            followed = await app.subscribe("tw.in.*.chat.a")
            await flushed(app)
            assert await taken(data)
            assert (await followed.next_msg(PATIENCE)).data == b"%d" % data
            await app.publish("tw.pub.chat.a", b"%d" % (data + 1))
            assert (await followed.next_msg(PATIENCE)).data == b"%d" % (data + 1)
            await eventually(lambda: pushed[-2:] == [data, data + 1])
            await followed.unsubscribe()
            assert (await publisher.command(rpc={"method": "ask"}))["rpc"]["data"] == {"answer": 42}

        await all_pass(1)
        publisher.frame(b'{"send":{"data":"hello"}}')
        assert (await events.next_msg(PATIENCE)).data == b'"hello"'
        lost = "tidewire_nats_disconnects_total"
        before = await mesh.total(lost)
        mesh.nats.restart()

        async def back() -> bool:
            away = await mesh.total(lost) == before + 2
            return away and app.is_connected and await taken(0) and pushed[-1] == 0

        await eventually(back)
        await all_pass(3)
        assert await mesh.total("tidewire_nats_errors_total", kind="permissions") == 0
    assert not [error for error in refused if "permissions" in error]
