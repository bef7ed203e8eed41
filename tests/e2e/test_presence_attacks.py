"""What somebody tries who wants presence to lie: with a client's means, and with a backend's rights on NATS."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.edges import PARTITIONS, EdgeProcess, edge_config, token
from tests.support.least_rights import PASSWORDS, VARIABLES, logged_in, printed
from tests.support.nats_client import connected, flushed
from tests.support.nats_server import NatsServer
from tests.support.presence import PresenceProcess, presence_config
from tests.support.present import NAMESPACES, Guest, Present, present_mesh
from tests.support.raw_client import Clients
from tests.support.wait import eventually
from tidewire.kernel.presence_wire import Ask, Event, encode
from tidewire.kernel.subjects import presence_event_subject

FORGED = encode(Event(1, "join", "forged", "root"))


pytestmark = pytest.mark.timeout(240)  # several processes start, one after the other


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Present]:
    """One replica and one edge."""
    with present_mesh(tmp_path_factory.mktemp("attacked")) as running:
        running.edge("one")
        asyncio.run(running.until_ready())
        yield running


async def test_client_cannot_say_who_it_is(mesh: Present, clients: Clients) -> None:
    """Whatever its commands hold: lists, joins and leaves show what its tokens say."""
    (edge,) = mesh.edges
    watcher = await (await Guest.open(clients, edge, "watcher")).subscribe("loud:i")
    liar = Guest()
    liar.client = await clients.open(edge.ws_url, liar._take)
    lie = {"user": "root", "client": "c", "info": {"admin": True}, "conn_info": {"admin": True}}
    reply = await liar.client.command(connect={"token": token("mallory", info={"n": 1}), "data": lie, **lie})
    liar.id = reply["connect"]["client"]
    await liar.subscribe("loud:i", data=lie, **lie)
    await eventually(lambda: ("join", liar.id) in watcher.events("loud:i"))
    true = {"user": "mallory", "client": liar.id, "conn_info": {"n": 1}}
    assert [each["join"]["info"] for each in watcher.pushes if told_of(each, "join") == liar.id] == [true]
    assert (await watcher.presence("loud:i"))[liar.id] == true
    await liar.unsubscribe("loud:i")
    await eventually(lambda: ("leave", liar.id) in watcher.events("loud:i"))
    assert [each["leave"]["info"] for each in watcher.pushes if told_of(each, "leave") == liar.id] == [true]


def told_of(push: dict[str, Any], change: str) -> str:
    """Whose join or leave a push tells; "" for another push."""
    return str(push.get(change, {}).get("info", {}).get("client", ""))


async def test_loop_of_subscribe_and_unsubscribe_is_no_flood_for_others(
    mesh: Present, clients: Clients
) -> None:
    """However fast a client is: what it undoes within a batch is told to nobody, and in the end the truth is known."""
    (edge,) = mesh.edges
    watcher = await (await Guest.open(clients, edge, "watcher")).subscribe("loud:f")
    mallory = await Guest.open(clients, edge, "mallory")
    began, commands = time.monotonic(), 0
    while commands < 400:  # within client.command_rate_burst
        await mallory.subscribe("loud:f")
        await mallory.unsubscribe("loud:f")
        commands += 2
    seconds = time.monotonic() - began
    await mallory.subscribe("loud:f")

    async def listed() -> bool:
        return set(await watcher.presence("loud:f")) == {watcher.id, mallory.id}

    await eventually(listed)
    await eventually(lambda: watcher.events("loud:f")[-1:] == [("join", mallory.id)])
    about = [change for change, client in watcher.events("loud:f") if client == mallory.id]
    print(f"{commands} commands in {seconds:.1f} s, {len(about)} joins and leaves told")
    assert ("leave", "leave") not in set(
        itertools.pairwise(about)
    )  # a leave of who is there again is told to nobody
    assert len(about) <= seconds / 0.03 + 2


async def test_question_with_a_reply_subject_of_the_askers_choice_is_not_answered(mesh: Present) -> None:
    """An edge may publish orders and publications: whoever could name the subject would publish with its rights."""
    (edge,) = mesh.edges
    before = (await edge.metrics()).value("tidewire_presence_messages_refused_total", why="reply")
    heard: list[str] = []
    async with connected(mesh.nats.url) as client:

        async def note(message: object) -> None:
            heard.append(str(message))

        for subject in ("tw.ctl.all", "tw.in.>", "_INBOX.x"):
            await client.subscribe(subject, cb=note)
        await client.flush()
        for reply in ("tw.ctl.all", "tw.in.0.live.a", "_INBOX.x"):
            await client.publish(f"tw.pres.s.{edge.name}", encode(Ask(1, "r")), reply=reply)
        await client.flush()

        async def refused() -> bool:
            metrics = await edge.metrics()
            return metrics.value("tidewire_presence_messages_refused_total", why="reply") == before + 3

        await eventually(refused)
        await client.flush()
    assert heard == []


async def test_backend_can_neither_forge_nor_hear_presence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clients: Clients
) -> None:
    """Its rights are those that `tidewire nats-config` prints; edges and the service have enough with theirs."""
    for name, password in VARIABLES.items():
        monkeypatch.setenv(name, password)
    pressing = {"user": "presence", "password": PASSWORDS["presence"], "partitions": PARTITIONS}
    refused: list[str] = []
    async with AsyncExitStack() as stack:
        nats = stack.enter_context(NatsServer(tmp_path / "nats", config=printed(tmp_path / "js", PARTITIONS)))
        service = presence_config(nats.url, {"nats": pressing, "channel": {"namespaces": NAMESPACES}})
        replica = stack.enter_context(PresenceProcess(tmp_path, service))
        changes = {
            "nats": {"user": "edge", "password": PASSWORDS["edge"]},
            "channel": {"namespaces": NAMESPACES},
            "presence": {"target": f"ipv4:127.0.0.1:{replica.port}"},
        }
        edge = stack.enter_context(EdgeProcess(tmp_path, edge_config(nats.url, changes)))
        await replica.until_ready()
        alice = await (await Guest.open(clients, edge)).subscribe("loud:b")

        async def listed() -> bool:
            return set(await alice.presence("loud:b")) == {alice.id}

        await eventually(listed)
        await eventually(lambda: alice.events("loud:b") == [("join", alice.id)])
        app = await stack.enter_async_context(logged_in(nats.url, "app", refused))
        subject = presence_event_subject("loud:b", PARTITIONS).decode()
        for forged in (subject, f"tw.pres.h.{edge.name}", f"tw.pres.d.0.{edge.name}", "tw.pres.s.all"):
            await app.publish(forged, FORGED)
        await app.subscribe("tw.pres.>")
        await flushed(app)
        await eventually(lambda: len([line for line in refused if "permissions" in line]) == 5)
        bob = await (await Guest.open(clients, edge, "bob")).subscribe("loud:b")
        await eventually(lambda: len(alice.events("loud:b")) > 1)
        assert alice.events("loud:b") == [("join", alice.id), ("join", bob.id)]
        errors = (await edge.metrics()).value("tidewire_nats_errors_total", kind="permissions")
        assert errors == 0, edge.log
