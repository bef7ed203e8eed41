"""`tidewire dev` for real: nats-server and two edges, and everything that a person at the terminal may do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin

from tests.support import nats_client
from tests.support.dev import Dev, listening
from tests.support.edges import Metrics
from tests.support.http import request
from tests.support.wait import PATIENCE, eventually


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    """A started mesh, stopped after the test."""
    with Dev(tmp_path) as started:
        yield started


@asynccontextmanager
async def joined(url: str, token: str, origin: str) -> AsyncIterator[ClientConnection]:
    """A client that has connected to the edge at `url` and subscribed to chat:a, from a page of `origin`."""
    address = f"{url.replace('http', 'ws')}/connection/websocket"
    async with asyncio.timeout(2 * PATIENCE), connect(address, origin=Origin(origin)) as client:
        await client.send(json.dumps({"id": 1, "connect": {"token": token}}))
        assert "connect" in json.loads(await client.recv())
        await client.send(json.dumps({"id": 2, "subscribe": {"channel": "chat:a"}}))
        assert "subscribe" in json.loads(await client.recv())
        yield client


async def publication(client: ClientConnection) -> object:
    """The data of the next publication; replies and pings are passed over."""
    while True:
        for line in str(await client.recv()).splitlines():
            push = json.loads(line).get("push", {})
            if "pub" in push:
                return push["pub"]["data"]


async def test_mesh_delivers_across_edges(dev: Dev) -> None:
    """With what dev.json says, pages of one edge reach the other, and a NATS client reaches both."""
    told = await dev.ready()
    first, second = told["edges"]
    async with joined(first, told["token"], second) as one, joined(second, told["token"], first) as two:
        await one.send(json.dumps({"id": 3, "publish": {"channel": "chat:a", "data": {"from": "page"}}}))
        assert await publication(two) == {"from": "page"}
        async with nats_client.connected(told["nats"]) as backend:
            await backend.publish("tw.pub.chat.a", b'{"from":"nats"}')
        assert await publication(two) == {"from": "nats"}


async def test_files_and_summary(dev: Dev) -> None:
    """Secrets are for their owner's eyes, and the person sees the same URLs and token as programs."""
    told = await dev.ready()
    for file in (dev.marker, dev.folder / ".tidewire" / "token.key"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    await eventually(lambda: "Ctrl-C stops everything" in dev.text)
    for shown in (*told["edges"], *told["internal"], told["nats"], told["token"]):
        assert shown in dev.text
    assert told["internal"] == [f"http://127.0.0.1:{dev.ports[1]}", f"http://127.0.0.1:{dev.ports[3]}"]


async def test_ctrl_c_at_a_terminal_stops_everything(tmp_path: Path) -> None:
    """The key reaches the parent alone, which ends edges and NATS in order and itself with 0; logs are for people."""
    controller, terminal = pty.openpty()
    dev, shown = Dev(tmp_path), bytearray()
    asyncio.get_running_loop().add_reader(controller, lambda: shown.extend(os.read(controller, 4096)))
    try:
        dev.start(terminal)
        await dev.ready()
        assert set(dev.children()) == {"nats", "edge-1", "edge-2"}
        os.write(controller, b"\x03")
        assert await dev.ended() == 0
        assert not any(listening(port) for port in dev.ports)
        assert not dev.marker.exists()
        await eventually(lambda: b"edge.drained" in shown)
        assert b'{"' not in shown
        assert b"Error" not in shown
        assert b"was ended" not in shown
    finally:
        dev.stop()
        asyncio.get_running_loop().remove_reader(controller)
        os.close(terminal)
        os.close(controller)


async def test_closed_terminal_stops_everything(tmp_path: Path) -> None:
    """Whoever closes the window has no other way to stop the mesh; there, SIGHUP is not a wish to reload."""
    controller, terminal = pty.openpty()
    dev, shown = Dev(tmp_path), bytearray()
    asyncio.get_running_loop().add_reader(controller, lambda: shown.extend(os.read(controller, 4096)))
    try:
        try:
            dev.start(terminal)
            os.close(terminal)
            await dev.ready()
        finally:
            asyncio.get_running_loop().remove_reader(controller)
            os.close(controller)
        assert await dev.ended() == 0
        assert not any(listening(port) for port in dev.ports)
    finally:
        dev.stop()


async def test_output_that_nobody_reads_ends_nothing(tmp_path: Path) -> None:
    """As of `tidewire dev | head`, or of a window that is closed while there is something to say."""
    reader, writer = os.pipe()
    os.close(reader)
    dev = Dev(tmp_path)
    try:
        dev.start(pipe=writer)
        os.close(writer)
        await dev.ready()
        dev.process.terminate()
        assert await dev.ended() == 0
        assert not any(listening(port) for port in dev.ports)
    finally:
        dev.stop()


async def test_hangup_has_the_edges_reload(dev: Dev) -> None:
    """Both take a new namespace, and nobody is dropped."""
    told = await dev.ready()
    file = dev.folder / "tidewire.yaml"
    async with joined(told["edges"][0], told["token"], told["edges"][0]) as client:
        file.write_text(file.read_text().replace("namespaces:", "namespaces:\n    - {name: fresh}"))
        dev.process.send_signal(signal.SIGHUP)
        await eventually(lambda: dev.text.count("config.reloaded") == 2)
        await client.send(json.dumps({"id": 3, "subscribe": {"channel": "fresh:a"}}))
        assert await error_of(client, 3) == 103


async def stored(url: str) -> set[str]:
    """The namespaces of which a publication is stored."""
    async with nats_client.connected(url) as backend:
        stream = backend.jetstream()
        found = set()
        for namespace in ("chat", "fresh"):
            with contextlib.suppress(nats.errors.Error):
                await stream.publish(f"tw.pub.{namespace}.a", b"1", timeout=PATIENCE)
                found.add(namespace)
        return found


async def test_streams_are_made_by_itself(tmp_path: Path) -> None:
    """At the start, before a reload, and again when NATS has died with what was in memory."""
    history = "history_size: 10, history_ttl: 1m, storage_profile: fast"
    dev = Dev(tmp_path)
    file = dev.folder / "tidewire.yaml"
    profiles = "storage: {profiles: [{name: fast, storage: memory}]}\n"
    file.write_text(profiles + file.read_text().replace("name: chat,", f"name: chat, {history},"))
    with dev:
        told = await dev.ready()
        assert "create  TW_fast_0 to 15" in dev.text
        assert await stored(told["nats"]) == {"chat"}
        file.write_text(
            file.read_text().replace("namespaces:", f"namespaces:\n    - {{name: fresh, {history}}}")
        )
        dev.process.send_signal(signal.SIGHUP)
        await eventually(lambda: "takes fresh" in dev.text)
        await eventually(lambda: dev.text.count("config.reloaded") == 3)  # two edges, and history
        assert await stored(told["nats"]) == {"chat", "fresh"}
        os.kill(dev.children()["nats"], signal.SIGKILL)
        await eventually(lambda: dev.text.count("create  TW_fast_0 to 15") == 2)

        async def all_stored() -> bool:
            return await stored(told["nats"]) == {"chat", "fresh"}

        await eventually(all_stored)


async def test_presence_runs_where_a_namespace_has_it(tmp_path: Path) -> None:
    """And edges are told where: who is subscribed at one of them is there for clients of the other."""
    dev = Dev(tmp_path)
    file = dev.folder / "tidewire.yaml"
    options = "presence: true, allow_presence_for_client: true"
    file.write_text(file.read_text().replace("name: chat,", f"name: chat, {options},"))
    with dev:
        told = await dev.ready()
        first, second = told["edges"]
        await eventually(lambda: "presence.ready" in dev.text)
        async with joined(first, told["token"], first), joined(second, told["token"], second) as asker:

            async def count() -> bool:
                await asker.send(json.dumps({"id": 9, "presence": {"channel": "chat:a"}}))
                reply = json.loads(await asker.recv())
                return len(reply.get("presence", {}).get("presence", {})) == 2

            await eventually(count)
        for port in dev.ports[8:11]:
            assert listening(port)


async def test_a_history_that_cannot_be_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Such as other partitions than those that its data have."""
    dev = Dev(tmp_path)
    file = dev.folder / "tidewire.yaml"
    file.write_text(file.read_text().replace("name: chat,", "name: chat, history_size: 10, history_ttl: 1m,"))
    with dev:
        await dev.ready()
        dev.process.send_signal(signal.SIGTERM)
        assert await dev.ended() == 0
        file.write_text(f"nats: {{partitions: 4}}\n{file.read_text()}")
        dev.start()
        assert await dev.ended(PATIENCE) == 1
        assert "nats.partitions is 4, and the cluster has 16 for its whole life" in dev.text
        assert "delete .tidewire to start afresh" in dev.text


async def test_limits_are_counted_by_a_process_of_the_mesh(tmp_path: Path) -> None:
    """It is started where there are rules; a user has one limit on both edges."""
    dev = Dev(tmp_path)
    rule = "{name: r, command: publish, key: [user], limit: 3, period: 1h}"
    file = tmp_path / "tidewire.yaml"
    patient = "timeout: 2s, wait: 3s"  # one that stalls for a moment is not away
    file.write_text(f"{file.read_text()}rate_limits: {{rules: [{rule}], {patient}}}\n")
    with dev:
        told = await dev.ready()
        await eventually(lambda: "ratelimit" in dev.text)
        target = f"ipv4:127.0.0.1:{dev.ports[11]}"

        async def edges_reach_it() -> bool:
            """An edge may have started before it, and passes what nobody counts until it has connected."""
            pages = [await request(f"http://127.0.0.1:{dev.ports[each]}/metrics") for each in (1, 3)]
            found = [Metrics(page.body.decode()) for page in pages]
            return all(
                each.value("tidewire_rpc_client_state", target=target, state="ready")
                and each.value("tidewire_rate_limit_replica_up")
                for each in found
            )

        await eventually(edges_reach_it)
        codes = []
        for edge in told["edges"]:
            async with joined(edge, told["token"], edge) as client:
                for number in range(3, 6):
                    await client.send(json.dumps({"id": number, "publish": {"channel": "chat:a", "data": 1}}))
                    codes.append(await error_of(client, number))
        assert sorted(codes) == [0, 0, 0, 111, 111, 111]


async def error_of(client: ClientConnection, number: int) -> int:
    """The code of the error that a command is answered with; 0 for success."""
    while True:
        for line in str(await client.recv()).splitlines():
            reply = json.loads(line)
            if reply.get("id") == number:
                return int(reply.get("error", {}).get("code", 0))


async def test_second_signal_does_not_wait_for_the_drain(tmp_path: Path) -> None:
    """Who presses Ctrl-C twice wants the end now."""
    with Dev(tmp_path, delay="1m") as dev:
        await dev.ready()
        dev.process.send_signal(signal.SIGINT)
        await eventually(lambda: dev.text.count("draining") == 2)
        dev.process.send_signal(signal.SIGINT)
        await dev.ended()
        assert not any(listening(port) for port in dev.ports)


async def test_key_and_data_survive_a_restart(dev: Dev) -> None:
    """A token of yesterday's mesh is good in today's."""
    key = dev.folder / ".tidewire" / "token.key"
    told = await dev.ready()
    before = key.read_bytes()
    dev.process.send_signal(signal.SIGTERM)
    assert await dev.ended() == 0
    dev.start()
    await dev.ready()
    assert key.read_bytes() == before
    async with joined(told["edges"][0], told["token"], told["edges"][0]):
        pass


async def test_edge_that_dies_comes_back(dev: Dev) -> None:
    """The mesh says how an edge ended and starts it again at its place."""
    told = await dev.ready()
    first = dev.children()["edge-2"]
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: "was ended by signal 9" in dev.text)
    await eventually(lambda: dev.children().get("edge-2", first) != first and listening(dev.ports[2]))
    async with joined(told["edges"][1], told["token"], told["edges"][1]):
        pass


async def test_nats_that_dies_comes_back_once(dev: Dev) -> None:
    """One death of NATS is survived, clients included; a second one soon after ends the mesh with an error."""
    told = await dev.ready()
    first = dev.children()["nats"]
    async with joined(told["edges"][0], told["token"], told["edges"][0]) as client:
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: dev.children().get("nats", first) != first and listening(dev.ports[4]))
        async with nats_client.connected(told["nats"]) as backend, asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(publication(client))

            async def delivered() -> bool:
                await backend.publish("tw.pub.chat.a", b'{"back":true}')
                return reader.done()

            await eventually(delivered)
        assert reader.result() == {"back": True}
    os.kill(dev.children()["nats"], signal.SIGKILL)
    assert await dev.ended() == 1
    assert "nats ended again" in dev.text


async def test_children_die_with_a_killed_parent(dev: Dev) -> None:
    """Nothing is left behind when the parent has no chance to stop it."""
    await dev.ready()
    dev.process.kill()
    await eventually(lambda: not any(listening(port) for port in dev.ports))


async def test_taken_ports_are_named_with_their_settings(tmp_path: Path) -> None:
    """Each taken port is one line that says whose it is and what to change; nothing is started."""
    dev = Dev(tmp_path)
    with (
        socket.create_server(("127.0.0.1", dev.ports[0])),
        socket.create_server(("127.0.0.1", dev.ports[4])),
        dev,
    ):
        assert await dev.ended() == 1
    assert f"port {dev.ports[4]} of nats is taken: free it or set another dev.nats_port" in dev.text
    assert f"port {dev.ports[0]} of edge-1 is taken: free it or set another dev.edges[0].port" in dev.text
    assert "Traceback" not in dev.text


async def test_configuration_error_is_78(tmp_path: Path) -> None:
    """A wrong setting is named before anything is started."""
    dev = Dev(tmp_path)
    file = tmp_path / "tidewire.yaml"
    file.write_text(file.read_text().replace("drain:", "drian:"))
    with dev:
        assert await dev.ended() == 78
    assert "drian: unknown" in dev.text
    assert "Traceback" not in dev.text
