"""The process: its start and what keeps it from starting, probes, reload, end; the doctor's question."""

from __future__ import annotations

import signal
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from nats.aio.msg import Msg

from tests.fakes.edge import KEY
from tests.support.nats_client import connected, flushed
from tests.support.nats_server import NatsServer
from tests.support.presence import PresenceClient, PresenceProcess, client_of, presence_config
from tests.support.presence_edge import ScriptedEdge, scripted_edge
from tests.support.wait import PATIENCE, eventually
from tidewire.doctor.service_facts import read_presence
from tidewire.edge.config import EdgeConfig
from tidewire.kernel.call_errors import CallError
from tidewire.kernel.config import decode

NAME = "tidewire.rpc.presence.v1.Presence"


async def health(process: PresenceProcess) -> int:
    """What the health port says."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{process.health_port}") as channel:
        asked = health_pb2.HealthCheckRequest(service=NAME)
        reply = await health_pb2_grpc.HealthStub(channel).Check(asked, timeout=PATIENCE)
        return int(reply.status)


async def test_a_life(server: NatsServer, edge: ScriptedEdge, tmp_path: Path) -> None:
    """Not ready while it listens, then ready and healthy by gRPC; an orderly end."""
    config = presence_config(server.url, {"presence_service": {"listening_time": "3s"}})
    with PresenceProcess(tmp_path, config) as process:
        assert (await process.ready()).status == 503
        assert b"listening for edges" in (await process.ready()).body
        assert await health(process) == health_pb2.HealthCheckResponse.NOT_SERVING
        await process.until_ready()
        await eventually(lambda: _serves(process))
        metrics = await process.metrics()
        assert metrics.value("tidewire_presence_rebuild_seconds_count") == 1
        process.send_signal(signal.SIGTERM)
        assert await process.exit_code() == 0
        assert len(process.logged("presence.drained")) == 1


async def test_that_there_is_no_edge_is_not_taken_for_a_message(server: NatsServer, tmp_path: Path) -> None:
    """It asks all edges for a sign of life, and nats-server says that nobody listens."""
    with PresenceProcess(tmp_path, presence_config(server.url)) as process:
        await process.until_ready()
        assert (await process.metrics()).value("tidewire_presence_dropped_total") == 0


async def test_what_is_not_there(server: NatsServer, tmp_path: Path) -> None:
    """One line that says what to do."""
    config = presence_config(server.url, {"nats": {"connect_timeout": "1s"}})
    server.kill()
    process = PresenceProcess(tmp_path, config).launch()
    try:
        assert await process.exit_code() == 69
    finally:
        process.kill()
    (line,) = process.logged("process.refused")
    assert "nothing answers" in line["problem"]


async def test_a_user_without_the_rights_is_told_which_to_take(tmp_path: Path) -> None:
    """An empty mesh would be the answer to whoever asks, otherwise."""
    users = 'authorization { users: [{ user: a, password: a, permissions: { subscribe: { deny: "tw.pres.>" } } }] }'
    with NatsServer(tmp_path / "nats", config=users) as server:
        config = presence_config(server.url, {"nats": {"user": "a", "password": "a"}})
        process = PresenceProcess(tmp_path, config).launch()
        try:
            assert await process.exit_code() == 69
        finally:
            process.kill()
        (line,) = process.logged("process.refused")
        assert "Permissions Violation" in line["problem"]
        assert "tidewire nats-config --presence-user" in line["problem"]


async def test_a_reload_takes_what_can_be_reloaded(presence: PresenceProcess, edge: ScriptedEdge) -> None:
    """The bound on entries: what changes beyond it is not answered, and whole again when there is room."""
    presence.configure({"presence_service": {"max_entries": 1_000}})
    presence.send_signal(signal.SIGHUP)
    await eventually(lambda: presence.logged("config.reloaded"))
    await edge.join("room:a", *map(str, range(1_100)))

    async def is_full() -> bool:
        await edge.join("room:a", "one more")
        return (await presence.metrics()).value("tidewire_presence_lacking_total", reason="full") > 0

    await eventually(is_full)
    async with client_of(presence) as client:
        with pytest.raises(CallError):
            await client.stats("room:a")
        presence.configure({"presence_service": {"max_entries": 10_000}})
        presence.send_signal(signal.SIGHUP)
        await eventually(lambda: _has(client, "room:a", (1_101, 1_101)))


async def test_a_reload_says_whose_leaves_are_told(
    presence: PresenceProcess, server: NatsServer, edge: ScriptedEdge
) -> None:
    """A namespace that has `join_leave` from now on: leaves of a dead edge's members are told there, too."""
    quiet = {"name": "quiet", "presence": True, "join_leave": True}
    presence.configure({"channel": {"namespaces": [quiet]}})
    presence.send_signal(signal.SIGHUP)
    await eventually(lambda: presence.logged("config.reloaded"))
    async with (
        connected(server.url) as listener,
        scripted_edge(server.url, "victim") as victim,
        client_of(presence) as client,
    ):
        told: list[str] = []

        async def tell(message: Msg) -> None:
            told.append(message.subject.split(".", 4)[4])

        await listener.subscribe("tw.pres.j.>", cb=tell)
        await flushed(listener)
        await victim.join("quiet:a", "c1")
        await eventually(lambda: _has(client, "quiet:a", (1, 1)))
        await victim.freeze()
        await eventually(lambda: _has(client, "quiet:a", (0, 0)))
        await eventually(lambda: told == ["quiet.a"])
    assert edge.truth == {}, "the edge that lives has nobody"


async def test_the_doctor_asks_it(presence: PresenceProcess, edge: ScriptedEdge) -> None:
    """Over the connection that an edge would make."""
    base = {"client": {"token": {"hmac_secret_key": KEY}}}

    def edge_config(target: str) -> EdgeConfig:
        return decode(EdgeConfig, {**base, "presence": {"target": target, "timeout": "2s", "attempts": 1}})

    await eventually(lambda: _serves(presence))
    assert await read_presence(edge_config(f"ipv4:127.0.0.1:{presence.port}")) == ""
    assert await read_presence(edge_config("")) is None
    presence.kill()
    assert "unavailable" in str(await read_presence(edge_config(f"ipv4:127.0.0.1:{presence.port}"))).lower()


async def _serves(process: PresenceProcess) -> bool:
    return await health(process) == health_pb2.HealthCheckResponse.SERVING


async def _has(client: PresenceClient, channel: str, counts: tuple[int, int]) -> bool:
    try:
        return await client.stats(channel) == [counts]
    except CallError:
        return False
