"""The process: its start and what keeps it from starting, probes, reload, end; a share of the partitions; dev."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from nats.aio.client import Client

from tests.support.edges import merged
from tests.support.history import (
    FEW,
    HistoryProcess,
    client_of,
    history_config,
    migrated,
    offsets,
    publish,
)
from tests.support.nats_server import NatsServer
from tests.support.wait import eventually
from tidewire.kernel.subjects import in_subject


async def refusal(folder: Path, config: dict[str, Any]) -> str:
    """The one line with which a process refuses to start."""
    process = HistoryProcess(folder, config).launch()
    try:
        assert await process.exit_code() == 69
    finally:
        process.kill()
    (line,) = process.logged("process.refused")
    return str(line["problem"])


async def test_a_life(history: HistoryProcess, nats: Client) -> None:
    """Ready, healthy by gRPC, measured; and an orderly end."""
    assert (await history.ready()).status == 200
    async with grpc.aio.insecure_channel(f"127.0.0.1:{history.health_port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        asked = health_pb2.HealthCheckRequest(service="tidewire.rpc.history.v1.History")
        assert (await stub.Check(asked, timeout=5)).status == health_pb2.HealthCheckResponse.SERVING
    async with client_of(history) as client:
        await publish(nats, "chat:a", b"x")
        await client.read("chat:a")
    metrics = await history.metrics()
    assert metrics.value("tidewire_rpc_server_handled_total", code="OK") >= 1
    assert metrics.value("tidewire_history_publications_total", profile="default") == 1
    assert metrics.value("tidewire_history_epochs_total", reason="start") == 4 * FEW
    assert metrics.value("tidewire_history_current") == 4 * FEW
    history.send_signal(signal.SIGTERM)
    assert await history.exit_code() == 0
    assert len(history.logged("history.drained")) == 1


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
    history.configure(changed)
    history.send_signal(signal.SIGHUP)
    await eventually(lambda: history.logged("config.reloaded"))
    async with client_of(history) as client:
        assert offsets(await client.read("chat:a", at_least=sent[-1])) == sent[-2:]
        new = await publish(nats, "live:a", b"y")
        assert offsets(await client.read("live:a", at_least=new)) == [new]
    history.configure({"history_service": {"partitions": [0]}})
    history.send_signal(signal.SIGHUP)
    await eventually(lambda: history.logged("config.reload_refused"))
