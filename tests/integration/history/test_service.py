"""The process: its start and what keeps it from starting, probes, reload, end; a share of the partitions; dev."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from nats.aio.client import Client

from tests.fakes.edge import KEY
from tests.fakes.log import RecordingLog
from tests.support.edges import merged
from tests.support.history import (
    FEW,
    HistoryProcess,
    client_of,
    history_config,
    migrated,
    offsets,
    publish,
    server_config,
)
from tests.support.nats_server import NatsServer
from tests.support.wait import PATIENCE, eventually
from tidewire.doctor.service_facts import read_history
from tidewire.edge.adapters.grpc_history import GrpcHistory
from tidewire.edge.adapters.grpc_history import client_of as client_to
from tidewire.edge.config import EdgeConfig
from tidewire.edge.ports import Page, Publication
from tidewire.edge.ports import Query as HistoryQuery
from tidewire.edge.wire.commands import StreamPosition
from tidewire.history import app
from tidewire.history.config import HistoryConfig
from tidewire.kernel.clock import SystemClock
from tidewire.kernel.config import decode
from tidewire.kernel.subjects import in_subject
from tidewire.platform.rpc_client_options import RpcClientConfig
from tidewire.platform.rpc_telemetry import RpcClientMetrics
from tidewire.platform.service import ServiceProcess


async def refusal(folder: Path, config: dict[str, Any]) -> str:
    """The one line with which a process refuses to start."""
    process = HistoryProcess(folder, config).launch()
    try:
        assert await process.exit_code() == 69
    finally:
        process.kill()
    (line,) = process.logged("process.refused")
    return str(line["problem"])


def users(**denied: str) -> str:
    """A nats-server configuration with these users, each denied a subject ("": none)."""
    lines = [
        f'{{ user: {name}, password: {name}, permissions: {{ publish: {{ deny: "{subject or "nothing"}" }} }} }}'
        for name, subject in denied.items()
    ]
    return f"{server_config()}authorization {{ users: [{', '.join(lines)}] }}\n"


def of_user(server: NatsServer, name: str) -> dict[str, Any]:
    """The configuration of one of them."""
    return history_config(server.url, {"nats": {"user": name, "password": name}})


async def test_a_stream_that_does_not_answer_keeps_nobody_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a process that runs, nor one that starts: in an outage of a part, a restart must not make it one of all."""
    monkeypatch.setattr(app, "START_LOOKS", 1)
    denied = users(boss="", history="$JS.API.STREAM.INFO.TW_default_1")
    with NatsServer(tmp_path / "nats", config=denied, jetstream=True) as server:
        await migrated(of_user(server, "boss"))
        log: Any = RecordingLog()
        config = decode(HistoryConfig, of_user(server, "history"))
        service = ServiceProcess(app.History, config, log, lambda: config)
        try:
            await service.start()
            assert service._why_unready() is None
            assert log.events[-1] == "history.ready"
            assert "history.stream_away" in log.events
        finally:
            await service.stop()


async def test_a_user_without_the_rights_is_told_which_to_take(tmp_path: Path) -> None:
    """At once: the edges' user stands in the same file, so that this is an easy mistake."""
    for subject in ("$JS.API.DIRECT.GET.>", "$JS.API.STREAM.INFO.*"):
        with NatsServer(tmp_path / "nats", config=users(boss="", wrong=subject), jetstream=True) as server:
            await migrated(of_user(server, "boss"))
            problem = await refusal(tmp_path / "history", of_user(server, "wrong"))
            assert "Permissions Violation" in problem
            assert problem.endswith("give the user of `tidewire nats-config --history-user`)")
        shutil.rmtree(tmp_path / "nats")
        shutil.rmtree(tmp_path / "history")


async def test_a_life(history: HistoryProcess, nats: Client) -> None:
    """Ready, healthy by gRPC, measured; and an orderly end."""
    assert (await history.ready()).status == 200
    async with grpc.aio.insecure_channel(f"127.0.0.1:{history.health_port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        asked = health_pb2.HealthCheckRequest(service="tidewire.rpc.history.v1.History")
        assert (await stub.Check(asked, timeout=PATIENCE)).status == health_pb2.HealthCheckResponse.SERVING
    async with client_of(history) as client:
        await publish(nats, "chat:a", b"x")
        await client.read("chat:a")

    async def counted() -> bool:
        """What is read may have come from the stream before it is heard."""
        metrics = await history.metrics()
        heard = metrics.value("tidewire_history_publications_total", profile="default")
        return heard == 1 and metrics.value("tidewire_history_current") == 4 * FEW

    await eventually(counted)
    metrics = await history.metrics()
    assert metrics.value("tidewire_rpc_server_handled_total", code="OK") >= 1
    assert metrics.value("tidewire_history_publications_total", profile="default") == 1
    assert metrics.value("tidewire_history_epochs_total", reason="start") == 4 * FEW
    history.send_signal(signal.SIGTERM)
    assert await history.exit_code() == 0
    assert len(history.logged("history.drained")) == 1


async def test_streams_in_which_nothing_is_stored_are_served_again_when_nats_is_back(
    server: NatsServer, tmp_path: Path
) -> None:
    """Nothing was heard of them with which they could be compared."""
    config = history_config(server.url)
    await migrated(config)
    with HistoryProcess(tmp_path, config) as process:
        assert (await process.ready()).status == 200
        server.restart()

        async def is_ready() -> bool:
            return process.logged("nats.back") != [] and (await process.ready()).status == 200

        await eventually(is_ready)


async def test_what_is_not_there(server: NatsServer, tmp_path: Path) -> None:
    """One line that says what to do."""
    config = history_config(server.url)
    assert "run `tidewire migrate`" in await refusal(tmp_path / "none", config)
    await migrated(config)
    other = merged(config, {"nats": {"partitions": 3}})
    assert "nats.partitions is 3, and the cluster has 2" in await refusal(tmp_path / "partitions", other)
    server.kill()
    assert "nothing answers" in await refusal(tmp_path / "nats", config)


async def test_a_share_of_the_partitions(config: dict[str, Any], tmp_path: Path, nats: Client) -> None:
    """Each serves its own, and for others sends the edge to another replica."""
    shares = [merged(config, {"history_service": {"partitions": [each]}}) for each in range(FEW)]
    channels = [
        next(name for name in map("chat:{}".format, range(99)) if _partition(name) == p) for p in range(FEW)
    ]
    with (
        HistoryProcess(tmp_path, shares[0], "zero") as zero,
        HistoryProcess(tmp_path, shares[1], "one") as one,
    ):
        for process, own, other in ((zero, 0, 1), (one, 1, 0)):
            async with client_of(process) as client:
                assert await client.position(channels[other]) == ["elsewhere"]
                sent = await publish(nats, channels[own], b"x")
                assert offsets(await client.read(channels[own], at_least=sent)) == [sent]


async def test_edges_find_the_replica_that_serves_a_share(
    config: dict[str, Any], tmp_path: Path, nats: Client
) -> None:
    """Behind one name, whichever has its turn: half of all calls come to the wrong one first, and that is no failure."""
    channels = [f"chat:{number}" for number in range(20)]
    for channel in channels:
        await publish(nats, channel, b"x")
    shares = [merged(config, {"history_service": {"partitions": [each]}}) for each in range(FEW)]
    with (
        HistoryProcess(tmp_path, shares[0], "zero") as zero,
        HistoryProcess(tmp_path, shares[1], "one") as one,
    ):
        log: Any = RecordingLog()
        target = f"ipv4:127.0.0.1:{zero.port},127.0.0.1:{one.port}"
        options = decode(RpcClientConfig, {"target": target, "timeout": "30s"})
        clock = SystemClock()
        history = GrpcHistory(
            client_to(options, RpcClientMetrics(), log, clock, None, "edge-1"),
            lambda _channel, _headers, data, _offset, _time_ns: Publication(data),
            log,
            clock.monotonic,
        )
        await history.start()

        async def all_are_read() -> bool:
            """As soon as it has connected to both: until then a share is nobody's, which clients are told."""
            found = await asyncio.gather(*(_read(history, channel) for channel in channels))
            return all(isinstance(each, Page) for each in found)

        await eventually(all_are_read)
        log.lines.clear()
        draw = random.Random(7)
        for _ in range(20):
            asked = [draw.choice(channels) for _ in range(20)]
            pages = await asyncio.gather(*(_read(history, channel) for channel in asked))
            assert {len(page.publications) if isinstance(page, Page) else page for page in pages} == {1}
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        history.positions({channel: StreamPosition() for channel in channels}, told.set_result)
        assert all(await told)
        await history.close()
    assert log.lines == []


async def _read(history: GrpcHistory, channel: str) -> Any:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    history.read(HistoryQuery(channel=channel, limit=5), answer.set_result)
    return await answer


def _partition(channel: str) -> int:
    return int(in_subject(channel, FEW).split(b".")[2])


async def test_a_reload(config: dict[str, Any], history: HistoryProcess, nats: Client) -> None:
    """A namespace that is read shorter, and one that got a history, whose streams are there."""
    sent = [await publish(nats, "chat:a", b"x") for _ in range(5)]
    namespaces = [dict(each) for each in config["channel"]["namespaces"]]
    for each in namespaces:
        if each["name"] == "chat":
            each["history_size"] = 2
        if each["name"] == "live":
            each.update(history_size=10, history_ttl="1h")
    changed = {"channel": {"namespaces": namespaces}}
    await migrated(merged(config, changed))
    early = await publish(nats, "live:early", b"x")
    history.configure(changed)
    history.send_signal(signal.SIGHUP)
    await eventually(lambda: history.logged("config.reloaded"))
    async with client_of(history) as client:
        assert offsets(await client.read("chat:a", at_least=sent[-1])) == sent[-2:]
        new = await publish(nats, "live:a", b"y")
        assert offsets(await client.read("live:a", at_least=new)) == [new]
        assert offsets(await client.read("live:early")) == [early], "it was stored before this process knew"
    history.configure({"history_service": {"partitions": [0]}})
    history.send_signal(signal.SIGHUP)
    await eventually(lambda: history.logged("config.reload_refused"))


async def test_the_doctor_asks_for_it(config: dict[str, Any], history: HistoryProcess) -> None:
    """Over the connection that an edge would make; where no namespace has history it asks for nothing."""

    def edge(target: str, **changes: Any) -> EdgeConfig:
        key = {"client": {"token": {"hmac_secret_key": KEY}}}
        shared = {name: config[name] for name in ("storage", "channel")}
        return decode(EdgeConfig, merged({**shared, **key, "history": {"target": target}}, changes))

    assert await read_history(edge(f"ipv4:127.0.0.1:{history.port}")) == ""
    assert "refused" in (await read_history(edge("ipv4:127.0.0.1:1")) or "")
    assert await read_history(edge("ipv4:127.0.0.1:1", channel={"namespaces": []})) is None
    tls = {"tls": {"ca_file": "/nowhere", "server_name": "x"}}
    assert "/nowhere" in (await read_history(edge("ipv4:127.0.0.1:1", history=tls)) or "")
